//! A cluster of real processes, as `rookery dev` starts it; any of them can be killed and started again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use rookery::client::{Client, ClientError, Options, Scheme, ServerUrl, Trust};
use rookery::mqtt::codec::Connack;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Deserialize;

/// Only a broken cluster takes that long for anything.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// For the first line of `dev`, whose own patience ends before.
const START: Duration = Duration::from_secs(240);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For a CONNECT: a claim may have to wait for the lease of a dead node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the harness failed, which says nothing about the cluster's promises.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file or a process.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        error: io::Error,
    },
    /// `dev` did not say what it should have.
    #[error("rookery dev: {0}")]
    Dev(String),
    /// A command failed.
    #[error("rookery {command}: {said}")]
    Command {
        /// Its arguments.
        command: String,
        /// What it said.
        said: String,
    },
    /// A condition did not come true by the deadline.
    #[error("not within {DEADLINE:?}: {0}")]
    Late(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> HarnessError {
    let what = what.into();
    move |error| HarnessError::Io { what, error }
}

/// One node, as `dev` describes it; addresses are `host:port`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named after the settings")]
pub struct Node {
    pub id: u64,
    pub pid: i32,
    pub mqtt: String,
    pub mqtts: String,
    pub ws: String,
    pub wss: String,
    pub grpc: String,
    pub http: String,
}

/// The line that `rookery dev --output json` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Info {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The cluster's certificate authority, a PEM file.
    pub ca: PathBuf,
    /// The namespace that it made.
    pub namespace: String,
    /// The broker that it made.
    pub broker: String,
    /// A file with an API token.
    pub api_token_file: PathBuf,
    /// Tokens by client ID.
    pub credentials: BTreeMap<String, String>,
    /// Whether all nodes had their leases, and all groups their replicas and leaders, when it was printed.
    pub settled: bool,
}

impl Info {
    /// The node of that number.
    ///
    /// # Panics
    /// There is none: a test's mistake.
    pub fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("the cluster has a node of that number")
    }

    /// How to connect to node `id` as `client`, over `scheme`.
    ///
    /// # Panics
    /// `dev` printed an address that is none.
    pub fn options(&self, id: u64, scheme: Scheme, client: &str, token: &str) -> Options {
        let node = self.node(id);
        let (name, address) = match scheme {
            Scheme::Mqtt => ("mqtt", &node.mqtt),
            Scheme::Mqtts => ("mqtts", &node.mqtts),
            Scheme::Ws => ("ws", &node.ws),
            Scheme::Wss => ("wss", &node.wss),
        };
        let url: ServerUrl = format!("{name}://{address}").parse().expect("dev prints addresses");
        let mut options = Options::new(url);
        options.trust = Trust::CaFile(self.ca.clone());
        options.client_id = client.to_owned();
        options.user_name = Some("anything".to_owned());
        options.password = Some(token.to_owned());
        options.timeout = CONNECT_TIMEOUT;
        options
    }
}

/// What `rookery cluster status` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The Raft groups; number 0 is the metadata's.
    pub groups: Vec<Group>,
}

/// One Raft group.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "as the status has it")]
pub struct Group {
    pub group: u32,
    pub leader: Option<u64>,
    pub voters: Vec<u64>,
}

/// A running cluster. Dropped, all its processes end and its folder goes, unless a panic is under way: then the folder
/// stays and the ends of the logs are printed.
pub struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    info: Info,
    dev: Child,
    /// Nodes that this harness started again.
    own: BTreeMap<u64, Child>,
    keep: bool,
}

impl Cluster {
    /// Starts `nodes` nodes in `folder` and waits until they serve.
    ///
    /// # Errors
    /// They do not come up.
    pub async fn start(program: &Path, folder: &Path, nodes: u64) -> Result<Self, HarnessError> {
        fs::create_dir_all(folder).map_err(io_error(folder.display().to_string()))?;
        let whole = |path: &Path| path.canonicalize().map_err(io_error(path.display().to_string()));
        let (program, folder) = (whole(program)?, whole(folder)?);
        let (dev, info) = start_dev(&program, &folder, nodes).await?;
        let cluster = Self { program, folder, info, dev, own: BTreeMap::new(), keep: false };
        cluster.settled()?;
        Ok(cluster)
    }

    /// `dev` says so; what was missing stands in its log.
    fn settled(&self) -> Result<(), HarnessError> {
        if self.info.settled {
            return Ok(());
        }
        let said = fs::read_to_string(self.folder.join("dev.log")).unwrap_or_default();
        Err(HarnessError::Dev(format!("does not settle; {said}")))
    }

    /// What node `id` says of the cluster's groups.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, id: u64) -> Result<Status, HarnessError> {
        let said = self.cli(id, &["cluster", "status", "--output", "json"]).await?;
        serde_json::from_str(&said).map_err(|error| HarnessError::Dev(format!("status said {said:?}: {error}")))
    }

    /// How to reach it.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Where it keeps its data, settings and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the folder where it is at the end.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// The numbers of its nodes.
    pub fn nodes(&self) -> Vec<u64> {
        self.info.nodes.iter().map(|node| node.id).collect()
    }

    /// A connection to node `id` over plain MQTT, at the first try.
    ///
    /// # Errors
    /// There is none.
    pub async fn connect(&self, id: u64, client: &str, token: &str) -> Result<(Client, Connack), ClientError> {
        Client::connect(&self.info.options(id, Scheme::Mqtt, client, token)).await
    }

    /// The command line, told to ask node `id`.
    pub fn command(&self, id: u64, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        clear_environment(&mut command);
        command
            .args(arguments)
            .env("ROOKERY_ENDPOINT", format!("http://{}", self.info.node(id).grpc))
            .env("ROOKERY_API_TOKEN_FILE", &self.info.api_token_file)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line against node `id`; its standard output.
    ///
    /// # Errors
    /// It failed.
    pub async fn cli(&self, id: u64, arguments: &[&str]) -> Result<String, HarnessError> {
        let command = tokio::process::Command::from(self.command(id, arguments)).output();
        let said = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let output = command.await.map_err(io_error(arguments.join(" ")))?;
        if !output.status.success() {
            return Err(HarnessError::Command { command: arguments.join(" "), said: said(&output) });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Issues `number` credentials: tokens by client ID.
    ///
    /// # Errors
    /// It failed.
    pub async fn issue(&self, number: u32) -> Result<BTreeMap<String, String>, HarnessError> {
        let (broker, namespace) = (self.info.broker.clone(), self.info.namespace.clone());
        let number = number.to_string();
        let arguments =
            ["broker", "issue", &broker, "--namespace", &namespace, "--number", &number, "--output", "json"];
        let said = self.cli(1, &arguments).await?;
        serde_json::from_str(&said).map_err(|error| HarnessError::Dev(format!("issue said {said:?}: {error}")))
    }

    /// Kills node `id` at once, and waits until it is dead.
    ///
    /// # Errors
    /// It does not die.
    pub async fn kill(&mut self, id: u64) -> Result<(), HarnessError> {
        let pid = self.info.node(id).pid;
        signal(pid, Signal::KILL);
        if let Some(mut child) = self.own.remove(&id) {
            let _ = child.wait();
        }
        until(&format!("node {id} is dead"), async || !is_alive(pid)).await
    }

    /// Stops node `id` in its tracks (SIGSTOP): it keeps its connections and does nothing, until [`Cluster::resume`].
    pub fn pause(&self, id: u64) {
        signal(self.info.node(id).pid, Signal::STOP);
    }

    /// Lets node `id` go on after [`Cluster::pause`].
    pub fn resume(&self, id: u64) {
        signal(self.info.node(id).pid, Signal::CONT);
    }

    /// Starts node `id` again, which was killed, and waits until it serves clients.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self, id: u64) -> Result<(), HarnessError> {
        let log = self.folder.join(format!("node-{id}.log"));
        let log = File::options().append(true).create(true).open(&log).map_err(io_error(log.display().to_string()))?;
        let log_too = log.try_clone().map_err(io_error("node log"))?;
        let mut command = Command::new(&self.program);
        clear_environment(&mut command);
        command.args(["serve", "--config"]).arg(self.folder.join(format!("node-{id}.toml")));
        let child = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn().map_err(io_error("serve"))?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        self.own.insert(id, child);
        for node in self.info.nodes.iter_mut().filter(|node| node.id == id) {
            node.pid = pid;
        }
        self.serves(id).await
    }

    /// Waits until node `id` admits a client.
    ///
    /// # Errors
    /// It does not.
    pub async fn serves(&self, id: u64) -> Result<(), HarnessError> {
        let Some((client, token)) = self.info.credentials.first_key_value() else { return Ok(()) };
        until(&format!("node {id} serves"), async || match self.connect(id, client, token).await {
            Ok((client, _)) => client.disconnect().await.is_ok(),
            Err(_) => false,
        })
        .await
    }

    /// Asks `dev` to stop, as Ctrl-C does; what became of it.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(&mut self) -> Result<ExitStatus, HarnessError> {
        for (_, mut child) in std::mem::take(&mut self.own) {
            signal(i32::try_from(child.id()).unwrap_or(0), Signal::TERM);
            let _ = child.wait();
        }
        signal(i32::try_from(self.dev.id()).unwrap_or(0), Signal::INT);
        let mut status = None;
        let dev = &mut self.dev;
        until("rookery dev has stopped", async || {
            status = dev.try_wait().ok().flatten();
            status.is_some()
        })
        .await?;
        status.ok_or_else(|| HarnessError::Dev("has no status".to_owned()))
    }

    /// Starts `dev` again in the same folder, after [`Cluster::stop`].
    ///
    /// # Errors
    /// The nodes do not come up.
    pub async fn start_again(&mut self) -> Result<(), HarnessError> {
        let nodes = self.info.nodes.len() as u64;
        (self.dev, self.info) = start_dev(&self.program, &self.folder, nodes).await?;
        self.settled()
    }

    fn end(&mut self) {
        signal(i32::try_from(self.dev.id()).unwrap_or(0), Signal::INT);
        let looks = 20_000 / LOOK_EVERY.as_millis();
        let gone = (0..looks).any(|_| {
            let ended = !matches!(self.dev.try_wait(), Ok(None));
            if !ended {
                thread::sleep(LOOK_EVERY);
            }
            ended
        });
        for child in self.own.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !gone {
            for node in &self.info.nodes {
                signal(node.pid, Signal::KILL);
            }
            let _ = self.dev.kill();
            let _ = self.dev.wait();
        }
    }

    fn show_logs(&self) {
        for id in self.nodes() {
            let log = fs::read_to_string(self.folder.join(format!("node-{id}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("== end of the log of node {id}, in {}", self.folder.display());
            for line in &lines[lines.len().saturating_sub(30)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            self.show_logs();
        } else if !self.keep {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// It does not within [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<(), HarnessError> {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(DEADLINE, holds).await.map_err(|_| HarnessError::Late(what.to_owned()))
}

async fn start_dev(program: &Path, folder: &Path, nodes: u64) -> Result<(Child, Info), HarnessError> {
    let said = folder.join("dev.log");
    let log = File::options().append(true).create(true).open(&said).map_err(io_error(said.display().to_string()))?;
    let mut command = Command::new(program);
    clear_environment(&mut command);
    command
        .args(["dev", "--output", "json", "--ports", "auto", "--nodes", &nodes.to_string(), "--data-dir"])
        .arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut dev = command.spawn().map_err(io_error(program.display().to_string()))?;
    let line = first_line(&mut dev);
    let Ok(Ok(line)) = tokio::time::timeout(START, line).await else {
        signal(i32::try_from(dev.id()).unwrap_or(0), Signal::INT);
        let _ = dev.wait();
        let said = fs::read_to_string(&said).unwrap_or_default();
        return Err(HarnessError::Dev(format!("printed no line; {said}")));
    };
    match serde_json::from_str(&line) {
        Ok(info) => Ok((dev, info)),
        Err(error) => Err(HarnessError::Dev(format!("printed {line:?}: {error}"))),
    }
}

/// What `dev` prints first; an error if it ends without.
fn first_line(dev: &mut Child) -> tokio::sync::oneshot::Receiver<String> {
    let (said, line) = tokio::sync::oneshot::channel();
    if let Some(stdout) = dev.stdout.take() {
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            if let Some(Ok(line)) = lines.next() {
                let _ = said.send(line);
            }
            // The pipe stays open, so that `dev` may say more.
            for _ in lines {}
        });
    }
    line
}

fn clear_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOKERY_")) {
        command.env_remove(name);
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        // Gone already is as good.
        let _ = kill_process(pid, signal);
    }
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}
