//! What every client library of Rust has to show.

use std::time::Duration;

use tokio::time::timeout;

use crate::link::{Client, Doing, Link, Message, Options};
use crate::relay::Relay;

pub const TRANSCRIPTS: [&str; 7] = ["qos0", "qos1", "qos2", "will", "retained", "resume", "takeover"];

/// Only a broken broker takes that long for one step.
const DEADLINE: Duration = Duration::from_secs(60);
const TAKEN_OVER: u8 = 0x8e;

/// The nodes and the credentials of one play: every transcript once over one transport in one version.
pub struct Stage {
    client: &'static dyn Client,
    pub scheme: String,
    pub version: u8,
    pub nodes: Vec<(String, u16)>,
    ca: String,
    a: (String, String),
    b: (String, String),
}

type Played = Result<(), String>;

impl Stage {
    /// One line of standard input.
    pub fn read(client: &'static dyn Client, line: &str) -> Self {
        let parts: Vec<&str> = line.split(' ').collect();
        let [scheme, version, nodes, ca, a, token_a, b, token_b] = parts[..] else { panic!("a play has eight parts") };
        let node = |node: &str| {
            let (host, port) = node.rsplit_once(':').expect("host:port");
            (host.to_owned(), port.parse().expect("a port"))
        };
        Self {
            client,
            scheme: scheme.into(),
            version: version.parse().expect("a version"),
            nodes: nodes.split(',').map(node).collect(),
            ca: ca.into(),
            a: (a.into(), token_a.into()),
            b: (b.into(), token_b.into()),
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.a.0)
    }

    /// How `who` connects to a node: without a session that stays, without a will.
    fn options(&self, who: &(String, String), at: usize) -> Options {
        let (host, port) = self.nodes[at % self.nodes.len()].clone();
        Options {
            scheme: self.scheme.clone(),
            version: self.version,
            host,
            port,
            ca: self.ca.clone(),
            client_id: who.0.clone(),
            token: who.1.clone(),
            clean: true,
            keep: false,
            will: None,
        }
    }

    async fn connect(&self, options: Options) -> Result<Box<dyn Link>, String> {
        step(self.client.connect(options)).await
    }
}

async fn step<T>(doing: Doing<'_, T>) -> Result<T, String> {
    timeout(DEADLINE, doing).await.map_err(|_| format!("nothing came of it in {DEADLINE:?}"))?
}

/// `found` is `wanted`, or `what` is wrong.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Played {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
}

async fn receives(link: &mut Box<dyn Link>, topic: &str, payload: &[u8], qos: u8, retain: bool) -> Played {
    let wanted = Message { topic: topic.to_owned(), payload: payload.to_vec(), qos, retain };
    expect("message", step(link.next()).await?, wanted)
}

/// What became of a transcript: `ok`, `n/a` or `FAIL`, and why.
pub async fn outcome(stage: &Stage, name: &str) -> (&'static str, String) {
    if let Some(why) = stage.client.why_not(&stage.scheme, stage.version, name) {
        return ("n/a", why.to_owned());
    }
    let played = match name {
        "qos0" => round_trip(stage, 0).await,
        "qos1" => round_trip(stage, 1).await,
        "qos2" => round_trip(stage, 2).await,
        "will" => will(stage).await,
        "retained" => retained(stage).await,
        "resume" => resume(stage).await,
        "takeover" => takeover(stage).await,
        _ => Err("there is no such transcript".into()),
    };
    match played {
        Ok(()) => ("ok", String::new()),
        Err(why) => ("FAIL", why.replace('\n', " ").chars().take(400).collect()),
    }
}

async fn round_trip(stage: &Stage, qos: u8) -> Played {
    let topic = stage.topic(&format!("qos{qos}"));
    let mut subscriber = stage.connect(stage.options(&stage.a, 1)).await?;
    step(subscriber.subscribe(topic.clone(), qos)).await?;
    let mut publisher = stage.connect(stage.options(&stage.b, 0)).await?;
    let payloads = ["first".to_owned(), "0123456789".repeat(1_000), "dernière".to_owned()];
    for payload in &payloads {
        step(publisher.publish(topic.clone(), payload.clone().into(), qos, false)).await?;
    }
    for payload in &payloads {
        receives(&mut subscriber, &topic, payload.as_bytes(), qos, false).await?;
    }
    step(publisher.disconnect()).await?;
    step(subscriber.disconnect()).await
}

async fn will(stage: &Stage) -> Played {
    let topic = stage.topic("will");
    let mut watcher = stage.connect(stage.options(&stage.b, 1)).await?;
    step(watcher.subscribe(topic.clone(), 1)).await?;
    let mut options = stage.options(&stage.a, 0);
    let relay = Relay::start(&options.host, options.port).await.map_err(|error| error.to_string())?;
    options.port = relay.port;
    options.will = Some((topic.clone(), "gone".into()));
    let mut dying = stage.connect(options).await?;
    step(dying.subscribe(stage.topic("own"), 1)).await?;
    relay.cut();
    receives(&mut watcher, &topic, b"gone", 1, false).await
}

async fn retained(stage: &Stage) -> Played {
    let topic = stage.topic("retained");
    let mut publisher = stage.connect(stage.options(&stage.b, 0)).await?;
    step(publisher.publish(topic.clone(), b"kept".to_vec(), 1, true)).await?;
    let mut subscriber = stage.connect(stage.options(&stage.a, 1)).await?;
    step(subscriber.subscribe(topic.clone(), 1)).await?;
    receives(&mut subscriber, &topic, b"kept", 1, true).await?;
    step(publisher.publish(topic.clone(), Vec::new(), 1, true)).await?;
    receives(&mut subscriber, &topic, b"", 1, false).await
}

async fn resume(stage: &Stage) -> Played {
    let topic = stage.topic("resume");
    let mut first = stage.connect(Options { keep: true, ..stage.options(&stage.a, 0) }).await?;
    expect("Session Present at first", first.present(), false)?;
    step(first.subscribe(topic.clone(), 1)).await?;
    step(first.disconnect()).await?;
    let mut publisher = stage.connect(stage.options(&stage.b, 1)).await?;
    step(publisher.publish(topic.clone(), b"meanwhile".to_vec(), 1, false)).await?;
    let mut again = stage.connect(Options { keep: true, clean: false, ..stage.options(&stage.a, 2) }).await?;
    expect("Session Present at the second connection", again.present(), true)?;
    receives(&mut again, &topic, b"meanwhile", 1, false).await
}

async fn takeover(stage: &Stage) -> Played {
    let topic = stage.topic("takeover");
    let mut older = stage.connect(stage.options(&stage.a, 0)).await?;
    step(older.subscribe(topic.clone(), 1)).await?;
    let mut newer = stage.connect(stage.options(&stage.a, 1)).await?;
    step(newer.subscribe(topic.clone(), 1)).await?;
    let wanted = (stage.version == 5).then_some(TAKEN_OVER);
    expect("the older connection's end", step(older.ended()).await?, wanted)?;
    let mut publisher = stage.connect(stage.options(&stage.b, 2)).await?;
    step(publisher.publish(topic.clone(), b"to the newer".to_vec(), 1, false)).await?;
    receives(&mut newer, &topic, b"to the newer", 1, false).await
}
