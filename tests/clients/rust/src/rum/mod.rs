//! rumqttc, whose two versions are two sets of types.

mod five;
mod three;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::link::{Client, Doing, Link, Message, Options};

/// Requests that a client keeps.
const CAPACITY: usize = 16;
/// For each direction, in bytes.
const LARGEST: u32 = 1 << 20;

pub struct Rumqttc;

impl Client for Rumqttc {
    fn version(&self) -> &'static str {
        "0.25.1"
    }

    fn why_not(&self, _scheme: &str, _version: u8, _transcript: &str) -> Option<&'static str> {
        None
    }

    fn connect(&self, options: Options) -> Doing<'_, Box<dyn Link>> {
        Box::pin(async move {
            let (tell, mut news) = channels();
            let requests = if options.version == 5 {
                Requests::Five(five::start(&options, tell)?)
            } else {
                Requests::Three(three::start(&options, tell)?)
            };
            let present = match news.answers.recv().await {
                Some(Answer::Connected(present)) => present,
                other => return Err(format!("{other:?} instead of a CONNACK")),
            };
            Ok(Box::new(Rum { requests, news, present }) as Box<dyn Link>)
        })
    }
}

#[derive(Debug)]
enum Answer {
    Connected(bool),
    Subscribed(bool),
    Acknowledged,
    /// With a reason code if the server said one; or what went wrong.
    Ended(Result<Option<u8>, String>),
}

struct Tell {
    inbox: UnboundedSender<Message>,
    answers: UnboundedSender<Answer>,
}

struct News {
    inbox: UnboundedReceiver<Message>,
    answers: UnboundedReceiver<Answer>,
}

fn channels() -> (Tell, News) {
    let (inbox_in, inbox) = unbounded_channel();
    let (answers_in, answers) = unbounded_channel();
    (Tell { inbox: inbox_in, answers: answers_in }, News { inbox, answers })
}

enum Requests {
    Three(rumqttc::AsyncClient),
    Five(rumqttc::v5::AsyncClient),
}

/// A connection; its events are read by a task until it ends.
struct Rum {
    requests: Requests,
    news: News,
    present: bool,
}

impl Rum {
    async fn answer(&mut self) -> Result<Answer, String> {
        self.news.answers.recv().await.ok_or_else(|| "the connection has ended".to_owned())
    }

    async fn request_subscribe(&self, topic: String, qos: u8) -> Result<(), String> {
        match &self.requests {
            Requests::Three(client) => client.subscribe(topic, three::qos(qos)).await.map_err(|e| e.to_string()),
            Requests::Five(client) => client.subscribe(topic, five::qos(qos)).await.map_err(|e| e.to_string()),
        }
    }

    async fn request_publish(&self, topic: String, payload: Vec<u8>, qos: u8, retain: bool) -> Result<(), String> {
        match &self.requests {
            Requests::Three(client) => {
                client.publish(topic, three::qos(qos), retain, payload).await.map_err(|e| e.to_string())
            }
            Requests::Five(client) => {
                client.publish(topic, five::qos(qos), retain, payload).await.map_err(|e| e.to_string())
            }
        }
    }

    async fn request_disconnect(&self) -> Result<(), String> {
        match &self.requests {
            Requests::Three(client) => client.disconnect().await.map_err(|e| e.to_string()),
            Requests::Five(client) => client.disconnect().await.map_err(|e| e.to_string()),
        }
    }
}

impl Link for Rum {
    fn present(&self) -> bool {
        self.present
    }

    fn subscribe(&mut self, topic: String, qos: u8) -> Doing<'_, ()> {
        Box::pin(async move {
            self.request_subscribe(topic, qos).await?;
            match self.answer().await? {
                Answer::Subscribed(true) => Ok(()),
                other => Err(format!("{other:?} instead of a SUBACK")),
            }
        })
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>, qos: u8, retain: bool) -> Doing<'_, ()> {
        Box::pin(async move {
            self.request_publish(topic, payload, qos, retain).await?;
            if qos == 0 {
                return Ok(());
            }
            match self.answer().await? {
                Answer::Acknowledged => Ok(()),
                other => Err(format!("{other:?} instead of an acknowledgement")),
            }
        })
    }

    fn next(&mut self) -> Doing<'_, Message> {
        Box::pin(async move { self.news.inbox.recv().await.ok_or_else(|| "the connection has ended".to_owned()) })
    }

    fn ended(&mut self) -> Doing<'_, Option<u8>> {
        Box::pin(async move {
            match self.answer().await? {
                Answer::Ended(how) => how,
                other => Err(format!("{other:?} instead of an end")),
            }
        })
    }

    fn disconnect(&mut self) -> Doing<'_, ()> {
        Box::pin(async move {
            self.request_disconnect().await?;
            self.ended().await.map(|_| ())
        })
    }
}
