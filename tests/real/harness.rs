//! What all of these tests need: a cluster, foreign clients, and waiting with a deadline.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rookery::client::{Client, ClientError, Event};
use rookery::mqtt::codec::ReasonCode;
use rookery_jepsen::Cluster;
use rookery_jepsen::cluster::{DEADLINE, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery");

static ONE_AT_A_TIME: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A cluster, and the right to run one.
pub struct Running {
    cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Running {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

/// A folder that nobody else uses.
pub fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-{}-{number}", std::process::id()))
}

/// Three nodes.
pub async fn three() -> Running {
    start(3).await
}

/// That many nodes.
pub async fn start(nodes: u64) -> Running {
    let turn = ONE_AT_A_TIME.lock().await;
    let cluster = Cluster::start(Path::new(PROGRAM), &folder(), nodes).await.expect("the cluster comes up");
    Running { cluster, _turn: turn }
}

/// Clusters that run at the same time, and the right to run them.
pub struct Several {
    /// In the order of their sizes as they were asked for.
    pub clusters: Vec<Cluster>,
    _turn: MutexGuard<'static, ()>,
}

/// Clusters of those many nodes.
pub async fn start_several(sizes: &[u64]) -> Several {
    let turn = ONE_AT_A_TIME.lock().await;
    let mut clusters = Vec::new();
    for nodes in sizes {
        clusters.push(Cluster::start(Path::new(PROGRAM), &folder(), *nodes).await.expect("the cluster comes up"));
    }
    Several { clusters, _turn: turn }
}

/// The client IDs that `dev` issued, with their tokens.
pub fn credentials(cluster: &Cluster) -> Vec<(String, String)> {
    cluster.info().credentials.clone().into_iter().collect()
}

/// Something that `scripts/test` installs.
pub fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(path.exists(), "{} is missing: run scripts/test once, it installs it", path.display());
    path
}

/// A program of tests/clients.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Host and port of `host:port`.
pub fn split(address: &str) -> (&str, &str) {
    address.rsplit_once(':').expect("host:port")
}

/// Runs `command` to its end and returns what it printed; fails with it if it failed.
pub async fn output(command: &mut Command) -> String {
    let output = run(command).await;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// Runs `command` to its end.
pub async fn run(command: &mut Command) -> Output {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let missing =
        |error| panic!("{:?}: {error}; scripts/test installs what the tests need", command.as_std().get_program());
    timeout(DEADLINE, ended).await.expect("ends by the deadline").unwrap_or_else(missing)
}

/// A program that goes on while the test does, read line by line.
pub struct Talker {
    child: Child,
    lines: tokio::io::Lines<BufReader<Box<dyn tokio::io::AsyncRead + Unpin>>>,
}

impl Talker {
    /// Starts it; its standard output is read.
    pub fn start(command: &mut Command) -> Self {
        Self::reading(command, false)
    }

    /// Starts it; its standard error is read.
    pub fn start_reading_errors(command: &mut Command) -> Self {
        Self::reading(command, true)
    }

    fn reading(command: &mut Command, errors: bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starts; scripts/test installs what the tests need");
        let stream: Box<dyn tokio::io::AsyncRead + Unpin> = if errors {
            Box::new(child.stderr.take().expect("piped"))
        } else {
            Box::new(child.stdout.take().expect("piped"))
        };
        Self { child, lines: BufReader::new(stream).lines() }
    }

    /// The first line that contains `text`.
    pub async fn line(&mut self, text: &str) -> String {
        let mut before = Vec::new();
        let found = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if line.contains(text) {
                    return Some(line);
                }
                before.push(line);
            }
            None
        };
        let found = timeout(DEADLINE, found).await.ok().flatten();
        found.unwrap_or_else(|| panic!("no line with {text:?} after {before:?}"))
    }

    /// The rest of what it prints on standard output, until it ends.
    pub async fn rest(mut self) -> String {
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            let _ = timeout(DEADLINE, out.read_to_string(&mut text)).await.expect("ends by the deadline");
        }
        text
    }
}

/// A connection to node `id`, tried again while the node has none to give (a busy machine may take its lease away).
pub async fn connect(cluster: &Cluster, id: u64, (client, token): &(String, String)) -> Client {
    let mut connected = None;
    let admitted = async || {
        connected = cluster.connect(id, client, token).await.ok();
        connected.is_some()
    };
    until(&format!("node {id} admits {client}"), admitted).await.unwrap_or_else(|error| panic!("{error}"));
    connected.expect("it is connected").0
}

/// The next message of `client`: topic and payload.
pub async fn next_message(client: &mut Client) -> (String, String) {
    let message = async {
        loop {
            if let Event::Message(message) = client.next().await.expect("the connection holds") {
                return message;
            }
        }
    };
    let message = timeout(DEADLINE, message).await.expect("a message comes");
    (message.topic.clone(), String::from_utf8_lossy(&message.payload).into_owned())
}

/// The reason code with which the server ends `client`'s connection.
pub async fn ended(client: &mut Client) -> ReasonCode {
    let end = async {
        loop {
            match client.next().await {
                Ok(_) => {}
                Err(ClientError::Disconnected { reason, .. }) => return reason,
                Err(error) => panic!("ended without a DISCONNECT: {error}"),
            }
        }
    };
    timeout(DEADLINE, end).await.expect("the connection ends")
}

/// The reason code with which a CONNECT is refused.
pub fn refusal<T>(connected: Result<T, ClientError>) -> ReasonCode {
    match connected {
        Ok(_) => panic!("was admitted"),
        Err(ClientError::Refused { reason, .. }) => reason,
        Err(error) => panic!("was not answered with a CONNACK: {error}"),
    }
}
