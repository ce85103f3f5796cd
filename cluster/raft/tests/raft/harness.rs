//! Nodes, each with a tokio runtime of its own, so that it can be killed.

#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::consensus::{Consensus, GroupStatus};
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::log::{GroupLog, MemLog};
use rookery_cluster::net::{PeerChannels, PeerIdentity, Purpose};
use rookery_raft::{GroupConfig, Groups, Settings, StartError};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use crate::ledger::{Ledger, SharedView, View};
use crate::wires::Wires;

/// The group of most tests.
pub const GROUP: GroupId = GroupId(1);
/// A condition that is to come true does so by then, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

pub type Addresses = Arc<Mutex<BTreeMap<NodeId, SocketAddr>>>;

/// Plain connections to the nodes of a test.
struct Peers {
    me: NodeId,
    wires: Arc<Wires>,
    channels: Mutex<BTreeMap<(NodeId, Purpose), Channel>>,
}

impl PeerChannels for Peers {
    fn channel(&self, peer: NodeId, purpose: Purpose) -> Option<Channel> {
        let address = self.wires.way(self.me, peer)?;
        let dial = || {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy()
        };
        Some(self.channels.lock().entry((peer, purpose)).or_insert_with(dial).clone())
    }

    fn reset(&self, peer: NodeId, purpose: Purpose) {
        self.channels.lock().remove(&(peer, purpose));
    }
}

/// What a group of a node keeps over its lives.
#[derive(Clone)]
pub struct Kept {
    pub log: Arc<dyn GroupLog>,
    pub view: SharedView,
    pub snapshot_bytes: u64,
    /// The version of commands that its machine knows.
    pub version: u8,
}

impl Default for Kept {
    fn default() -> Self {
        Kept { log: Arc::new(MemLog::new()), view: SharedView::default(), snapshot_bytes: 1 << 30, version: 1 }
    }
}

pub struct Node {
    pub id: NodeId,
    pub dir: PathBuf,
    pub kept: BTreeMap<GroupId, Kept>,
    addresses: Addresses,
    wires: Arc<Wires>,
    life: Option<(Runtime, Groups)>,
}

impl Node {
    fn new(id: NodeId, dir: &Path, addresses: &Addresses, wires: &Arc<Wires>) -> Node {
        let dir = dir.join(id.to_string());
        Node { id, dir, kept: BTreeMap::new(), addresses: addresses.clone(), wires: wires.clone(), life: None }
    }

    /// Starts the node, without its groups.
    pub fn start(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channels = Mutex::default();
        let peers = Arc::new(Peers { me: self.id, wires: self.wires.clone(), channels });
        let known = self.addresses.lock().get(&self.id).copied();
        let (groups, address) = runtime.block_on(async {
            let groups = Groups::start(Settings { node: self.id, peers, snapshots: self.dir.clone() });
            let wanted = known.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
            let listener = bind(wanted).await;
            let address = listener.local_addr().unwrap();
            let identified = |mut request: tonic::Request<()>| {
                request.extensions_mut().insert(PeerIdentity(NodeId(0)));
                Ok(request)
            };
            let service = InterceptedService::new(groups.service(), identified);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
            (groups, address)
        });
        self.addresses.lock().insert(self.id, address);
        self.life = Some((runtime, groups));
    }

    /// Starts a group that the node keeps, or a new one.
    pub fn add(&mut self, group: GroupId) -> Result<(), StartError> {
        let kept = self.kept.entry(group).or_default().clone();
        let (runtime, groups) = self.life.as_ref().unwrap();
        runtime.block_on(groups.add_group(config(group, &kept)))
    }

    /// Starts the node and all groups that it keeps.
    pub fn restart(&mut self) {
        self.start();
        for group in self.kept.keys().copied().collect::<Vec<_>>() {
            self.add(group).unwrap();
        }
    }

    /// Ends everything at once: no task of the node runs any further.
    pub fn kill(&mut self) {
        if let Some((runtime, groups)) = self.life.take() {
            drop(groups);
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    pub fn alive(&self) -> bool {
        self.life.is_some()
    }

    pub fn groups(&self) -> &Groups {
        &self.life.as_ref().unwrap().1
    }

    pub fn status(&self) -> GroupStatus {
        self.groups().status(GROUP)
    }

    pub fn view(&self) -> View {
        self.kept[&GROUP].view.lock().clone()
    }

    /// Does something on the node's runtime.
    pub fn on<T>(&self, f: impl AsyncFnOnce(&Groups) -> T) -> T {
        let (runtime, groups) = self.life.as_ref().unwrap();
        runtime.block_on(f(groups))
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    // The port of a node that was just killed may take a moment to be free.
    let mut tries = 0;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if tries == 100 => panic!("cannot listen on {address}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        tries += 1;
    }
}

fn config(group: GroupId, kept: &Kept) -> GroupConfig {
    let machine = Box::new(Ledger::new(kept.view.clone(), kept.version));
    GroupConfig {
        heartbeat: Duration::from_millis(150),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1200),
        snapshot_bytes: kept.snapshot_bytes,
        ..GroupConfig::shard(group, kept.log.clone(), machine)
    }
}

/// Nodes 1 to n.
pub struct Cluster {
    pub nodes: Vec<Node>,
    dir: PathBuf,
    pub wires: Arc<Wires>,
}

impl Cluster {
    /// Nodes that run and have no group.
    pub fn bare(n: u64) -> Cluster {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("rookery-raft-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let addresses = Addresses::default();
        let wires = Wires::new(addresses.clone());
        let mut nodes: Vec<Node> = (1..=n).map(|id| Node::new(NodeId(id), &dir, &addresses, &wires)).collect();
        nodes.iter_mut().for_each(Node::start);
        Cluster { nodes, dir, wires }
    }

    /// Nodes that are all voters of [`GROUP`], with a leader.
    pub fn of(n: u64) -> Cluster {
        Cluster::with(n, |_| Kept::default())
    }

    /// The same, with what each node keeps.
    pub fn with(n: u64, kept: impl Fn(&Node) -> Kept) -> Cluster {
        let mut cluster = Cluster::bare(n);
        for node in &mut cluster.nodes {
            let kept = kept(node);
            node.kept.insert(GROUP, kept);
            node.add(GROUP).unwrap();
        }
        let members: Vec<NodeId> = (1..=n).map(NodeId).collect();
        cluster.nodes[0].on(async |groups| groups.initialize(GROUP, &members).await).unwrap();
        cluster.leader();
        cluster
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    pub fn alive(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.alive())
    }

    /// The leader that all living nodes agree on.
    pub fn leader(&self) -> NodeId {
        let mut leader = None;
        eventually("a leader that all know", || {
            leader = self.alive().map(Node::status).find(|status| status.leads).and_then(|status| status.leader);
            leader.is_some() && self.alive().all(|node| node.status().leader == leader)
        });
        leader.unwrap()
    }

    /// Waits until all living nodes have applied the same, and returns it.
    pub fn settled(&self) -> View {
        let mut view = View::default();
        eventually("all replicas are equal", || {
            let views: Vec<View> = self.alive().map(Node::view).collect();
            view = views[0].clone();
            views.iter().all(|other| *other == view)
        });
        view
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits for a condition.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let step = Duration::from_millis(10);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(step);
    }
    panic!("still not true: {what}");
}
