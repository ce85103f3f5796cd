//! Sets the nodes up, starts their processes, and stays until it is stopped.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::SystemClock;
use rookery_cluster::join::NodeFiles;
use rookery_cluster::rng::SystemRng;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{DevError, DevInfo, DevNode, DevOptions, Layout, MAX_NODES, Ports, demo, print, settle};
use crate::config::Config;
use crate::node::{GONE, found};

/// A node has opened its clients' ports by then, or something is wrong.
const READY: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that was asked to stop has by then.
const STOPPED: Duration = Duration::from_secs(15);

/// Runs the cluster until `stop` resolves, then stops it.
///
/// # Errors
/// Why it does not run. What was set up stays and is used next time.
pub async fn run(options: DevOptions, stop: impl Future<Output = ()>) -> Result<(), DevError> {
    rookery_cluster::pki::install_crypto();
    if !(1..=MAX_NODES).contains(&options.nodes) {
        return Err(DevError::Count(options.nodes));
    }
    let layout = Layout::open(&options.data_dir)?;
    let mut nodes = Nodes { layout: layout.clone(), children: Vec::new() };
    tokio::pin!(stop);
    tokio::select! {
        () = &mut stop => {}
        ended = nodes.up(&options) => ended?,
    }
    nodes.down().await;
    Ok(())
}

struct Nodes {
    layout: Layout,
    children: Vec<(u64, Child)>,
}

impl Nodes {
    /// Brings all nodes up, tells how to use them, and watches them.
    async fn up(&mut self, options: &DevOptions) -> Result<(), DevError> {
        self.prepare(options)?;
        for id in 1..=options.nodes {
            if id > 1 && !self.is_member(id)? {
                // It joins through the first. Members do not wait for it: it is not ready without a majority of them.
                self.ready(1).await?;
            }
            self.enter(id).await?;
            self.start(id)?;
        }
        for id in 1..=options.nodes {
            self.ready(id).await?;
        }
        let settled = self.settled().await?;
        let info = self.describe(settled).await?;
        self.layout.write_info(&info)?;
        print::ready(&info, &self.layout, options.json);
        self.watch().await
    }

    /// Chooses ports and writes settings, once.
    fn prepare(&self, options: &DevOptions) -> Result<(), DevError> {
        let found = self.layout.nodes();
        if found == options.nodes {
            return Ok(());
        }
        if found > 0 && NodeFiles::load(&self.layout.node(1)).is_ok_and(|files| files.is_some()) {
            return Err(DevError::OtherSize { path: options.data_dir.clone(), found });
        }
        let mut taken = BTreeSet::new();
        for id in 1..=options.nodes {
            let ports =
                Ports::choose(id, options.ports, &mut taken).map_err(DevError::io(&self.layout.config_file(id)))?;
            self.layout.write_config(id, &ports)?;
        }
        Ok(())
    }

    fn is_member(&self, id: u64) -> Result<bool, DevError> {
        let folder = self.layout.config(id)?.node.data_dir;
        Ok(NodeFiles::load(&folder).map_err(DevError::io(&folder))?.is_some())
    }

    /// Makes the node a member, once: the first founds the cluster, the others join it.
    async fn enter(&self, id: u64) -> Result<(), DevError> {
        if self.is_member(id)? {
            return Ok(());
        }
        let config = self.layout.config(id)?;
        let failed = |error| DevError::Node { node: id, error };
        let clock: rookery_cluster::clock::SharedClock = Arc::new(SystemClock);
        if id == 1 {
            let founded = found::init(&config, &clock, &SystemRng).map_err(failed)?;
            self.layout.write_secret(&self.layout.token_file(), &founded.api_token)?;
            return self.layout.write_secret(&self.layout.node(1).join("join-token"), &founded.join_token);
        }
        let path = self.layout.node(1).join("join-token");
        let token = std::fs::read_to_string(&path).map_err(DevError::io(&path))?;
        let at = self.layout.config(1)?.cluster.listen.to_string();
        found::join(&config, clock, &at, token.trim()).await.map_err(failed)?;
        Ok(())
    }

    fn start(&mut self, id: u64) -> Result<(), DevError> {
        let program = std::env::current_exe().map_err(DevError::io(&self.layout.config_file(id)))?;
        let path = self.layout.log_file(id);
        let log = File::options().create(true).append(true).open(&path).map_err(DevError::io(&path))?;
        let child = Command::new(&program)
            .arg("serve")
            .arg("--config")
            .arg(self.layout.config_file(id))
            .arg("--with-parent")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C at the terminal reaches this process; it stops the nodes.
            .process_group(0)
            .spawn()
            .map_err(DevError::io(&program))?;
        self.children.push((id, child));
        Ok(())
    }

    /// Waits until a node serves. One that was removed from the cluster never does: the others go on without it.
    async fn ready(&mut self, id: u64) -> Result<(), DevError> {
        if !self.opens(id).await? {
            print::removed(id, &self.layout);
            self.children.retain(|(of, _)| *of != id);
        }
        Ok(())
    }

    async fn opens(&mut self, id: u64) -> Result<bool, DevError> {
        let config = self.layout.config(id)?;
        let log = self.layout.log_file(id);
        let fails = |what: String| DevError::Process { node: id, what, log: log.clone() };
        let opened = async {
            loop {
                if let Some((_, child)) = self.children.iter_mut().find(|(of, _)| *of == id)
                    && let Ok(Some(status)) = child.try_wait()
                {
                    if status.code() == Some(i32::from(GONE)) {
                        return Ok(false);
                    }
                    return Err(fails(format!("ended with {status}")));
                }
                if is_open(config.listeners.mqtt.first().copied()).await && is_open(Some(config.api.grpc)).await {
                    return Ok(true);
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(READY, opened).await.unwrap_or_else(|_| Err(fails("does not get ready".to_owned())))
    }

    /// Whether all is where it should be; says what is not. The nodes serve all the same, so that this is no error.
    async fn settled(&self) -> Result<bool, DevError> {
        let mut nodes = Vec::new();
        for (id, _) in &self.children {
            nodes.push((*id, self.layout.config(*id)?.api.grpc.to_string()));
        }
        let settled = settle::settled(&nodes, &self.token()?).await;
        if let Err(why) = &settled {
            print::unsettled(why);
        }
        Ok(settled.is_ok())
    }

    fn token(&self) -> Result<String, DevError> {
        let path = self.layout.token_file();
        let token = std::fs::read_to_string(&path).map_err(DevError::io(&path))?;
        Ok(token.trim().to_owned())
    }

    async fn describe(&self, settled: bool) -> Result<DevInfo, DevError> {
        let mut nodes = Vec::new();
        for (id, child) in &self.children {
            nodes.push(describe_node(*id, child.id().unwrap_or(0), &self.layout.config(*id)?));
        }
        let token = self.token()?;
        let known = self.layout.read_info().map(|info| info.credentials).unwrap_or_default();
        let grpc = nodes.first().map(|node| node.grpc.clone()).unwrap_or_default();
        let credentials = demo::ensure(&grpc, &token, known).await.map_err(DevError::Demo)?;
        for (client, token) in &credentials {
            self.layout.write_secret(&self.layout.credential_file(client), token)?;
        }
        Ok(DevInfo {
            nodes,
            ca: self.layout.ca_file(),
            namespace: super::NAMESPACE.to_owned(),
            broker: super::BROKER.to_owned(),
            api_token_file: self.layout.token_file(),
            credentials,
            settled,
        })
    }

    /// Until all nodes have ended. One that ends alone was killed by somebody: the others go on, and it is told how
    /// to start it again.
    async fn watch(&mut self) -> Result<(), DevError> {
        while !self.children.is_empty() {
            let mut ended = Vec::new();
            for (id, child) in &mut self.children {
                if let Ok(Some(status)) = child.try_wait() {
                    ended.push((*id, status));
                }
            }
            self.children.retain(|(id, _)| !ended.iter().any(|(gone, _)| gone == id));
            for (id, status) in ended {
                print::ended(id, &status, &self.layout);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn down(&mut self) {
        for (_, child) in &self.children {
            if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for (id, child) in &mut self.children {
            if timeout(STOPPED, child.wait()).await.is_err() {
                eprintln!("rookery: node {id} does not stop, killing it");
                let _ = child.kill().await;
            }
        }
    }
}

async fn is_open(at: Option<SocketAddr>) -> bool {
    match at {
        Some(at) => TcpStream::connect(at).await.is_ok(),
        None => true,
    }
}

fn describe_node(id: u64, pid: u32, config: &Config) -> DevNode {
    let text = |at: Option<SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
    DevNode {
        id,
        pid,
        mqtt: text(config.listeners.mqtt.first().copied()),
        mqtts: text(config.listeners.mqtts.first().copied()),
        ws: text(config.listeners.ws.first().copied()),
        wss: text(config.listeners.wss.first().copied()),
        grpc: config.api.grpc.to_string(),
        http: text(config.api.http),
    }
}
