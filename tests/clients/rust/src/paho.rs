//! paho-mqtt, the C library of paho under Rust.

use paho_mqtt::{
    AsyncClient, AsyncReceiver, ConnectOptions, ConnectOptionsBuilder, CreateOptionsBuilder, MQTT_VERSION_3_1_1,
    MQTT_VERSION_5, Message as Published, PersistenceType, Properties, PropertyCode, ReasonCode, SslOptionsBuilder,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::link::{Client, Doing, EXPIRY, Link, Message, Options};

/// Messages that a client keeps.
const CAPACITY: usize = 64;

pub struct Paho;

impl Client for Paho {
    fn version(&self) -> &'static str {
        "0.14.0"
    }

    fn why_not(&self, scheme: &str, _version: u8, _transcript: &str) -> Option<&'static str> {
        scheme
            .starts_with("ws")
            .then_some("mixes up the frames of all WebSockets of a process, and may leave one unread")
    }

    fn at_once(&self) -> usize {
        1
    }

    fn connect(&self, options: Options) -> Doing<'_, Box<dyn Link>> {
        Box::pin(async move { Ok(Box::new(connected(&options).await.map_err(|e| e.to_string())?) as Box<dyn Link>) })
    }
}

fn uri(options: &Options) -> String {
    let (scheme, path) = match options.scheme.as_str() {
        "tls" => ("ssl", ""),
        "ws" => ("ws", "/mqtt"),
        "wss" => ("wss", "/mqtt"),
        _ => ("tcp", ""),
    };
    format!("{scheme}://{}:{}{path}", options.host, options.port)
}

fn connect_options(options: &Options) -> paho_mqtt::Result<ConnectOptions> {
    let websocket = options.scheme.starts_with("ws");
    let mut builder = match (options.version, websocket) {
        (5, false) => ConnectOptionsBuilder::new_v5(),
        (5, true) => ConnectOptionsBuilder::new_ws_v5(),
        (_, false) => ConnectOptionsBuilder::new_v3(),
        (_, true) => ConnectOptionsBuilder::new_ws(),
    };
    builder.user_name("anything").password(options.token.clone());
    if options.version == 5 {
        let mut properties = Properties::new();
        properties.push_u32(PropertyCode::SessionExpiryInterval, if options.keep { EXPIRY } else { 0 })?;
        builder.clean_start(options.starts_clean()).properties(properties);
    } else {
        builder.clean_session(options.starts_clean());
    }
    if options.scheme == "tls" || options.scheme == "wss" {
        builder.ssl_options(SslOptionsBuilder::new().trust_store(&options.ca)?.verify(true).finalize());
    }
    if let Some((topic, payload)) = &options.will {
        builder.will_message(Published::new(topic.as_str(), payload.as_bytes(), 1));
    }
    Ok(builder.finalize())
}

async fn connected(options: &Options) -> paho_mqtt::Result<Connection> {
    let version = if options.version == 5 { MQTT_VERSION_5 } else { MQTT_VERSION_3_1_1 };
    let own = CreateOptionsBuilder::new()
        .mqtt_version(version)
        .server_uri(uri(options))
        .client_id(&options.client_id)
        .persistence(PersistenceType::None)
        .finalize();
    let mut client = AsyncClient::new(own)?;
    let inbox = client.get_stream(CAPACITY);
    let (tell, ends) = unbounded_channel();
    let tell_lost = tell.clone();
    client.set_disconnected_callback(move |_, _, reason| {
        let _ = tell.send(Some(reason));
    });
    client.set_connection_lost_callback(move |_| {
        let _ = tell_lost.send(None);
    });
    let answer = client.connect(connect_options(options)?).await?;
    let present = answer.connect_response().is_some_and(|connack| connack.session_present);
    Ok(Connection { client, inbox, ends, present })
}

struct Connection {
    client: AsyncClient,
    inbox: AsyncReceiver<Option<Published>>,
    ends: UnboundedReceiver<Option<ReasonCode>>,
    present: bool,
}

impl Link for Connection {
    fn present(&self) -> bool {
        self.present
    }

    fn subscribe(&mut self, topic: String, qos: u8) -> Doing<'_, ()> {
        Box::pin(async move {
            self.client.subscribe(topic, i32::from(qos)).await.map(|_| ()).map_err(|error| error.to_string())
        })
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>, qos: u8, retain: bool) -> Doing<'_, ()> {
        Box::pin(async move {
            let message = if retain {
                Published::new_retained(topic, payload, i32::from(qos))
            } else {
                Published::new(topic, payload, i32::from(qos))
            };
            self.client.publish(message).await.map_err(|error| error.to_string())
        })
    }

    fn next(&mut self) -> Doing<'_, Message> {
        Box::pin(async move {
            let found = self.inbox.recv().await.ok().flatten().ok_or("the connection has ended")?;
            Ok(Message {
                topic: found.topic().to_owned(),
                payload: found.payload().to_vec(),
                qos: found.qos() as u8,
                retain: found.retained(),
            })
        })
    }

    fn ended(&mut self) -> Doing<'_, Option<u8>> {
        Box::pin(async move {
            let end = self.ends.recv().await.ok_or("the client is gone")?;
            Ok(end.map(|reason| reason as u8))
        })
    }

    fn disconnect(&mut self) -> Doing<'_, ()> {
        Box::pin(async move { self.client.disconnect(None).await.map(|_| ()).map_err(|error| error.to_string()) })
    }
}
