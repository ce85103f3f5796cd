//! Nodes made of a real `Forward` and stand-ins for workers, connected by wires that can be cut.

#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_cluster::clock::SystemClock;
use rookery_cluster::forward::{Forward, ForwardConfig, Service};
use rookery_cluster::handle::{ClusterEvent, ForwardedBatch, Holder, InterestChange, WorkerPort};
use rookery_cluster::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};
use rookery_cluster::net::{PeerChannels, PeerIdentity, Purpose, tune_endpoint, tune_server};
use rookery_cluster::retained::store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint, Server};

/// Far more than any test needs; only a hang takes it.
const PATIENCE: Duration = Duration::from_secs(60);
pub const B: BrokerId = BrokerId(0xb << 100);

/// What a worker has heard.
#[derive(Default)]
pub struct Heard {
    pub view: BTreeSet<(Holder, Arc<str>)>,
    pub bodies: Vec<(NodeLife, WorkerId, u64, Bytes)>,
    pub accepted: BTreeMap<NodeId, u64>,
    pub rooms: usize,
    pub expired: Vec<NodeLife>,
    pub barriers: Vec<(u64, bool)>,
    pub complete: bool,
    pub keeps_all: bool,
    pub withheld: Vec<Arc<ForwardedBatch>>,
}

/// A stand-in for a worker of the broker: a mailbox and a task that reads it.
pub struct Worker {
    mailbox: mpsc::Sender<ClusterEvent>,
    pub heard: Mutex<Heard>,
    news: Notify,
    /// Whether it leaves its mailbox alone.
    paused: AtomicBool,
    resumed: Notify,
    /// Whether it keeps receipts to itself.
    pub withholds: AtomicBool,
}

struct Port(Arc<Worker>);

impl WorkerPort for Port {
    fn post(&self, event: ClusterEvent) {
        self.0.mailbox.try_send(event).expect("the mailbox has room for a whole test");
    }
}

impl Worker {
    pub fn new() -> (Arc<Self>, mpsc::Receiver<ClusterEvent>) {
        let (mailbox, events) = mpsc::channel(100_000);
        let worker = Self {
            mailbox,
            heard: Mutex::default(),
            news: Notify::new(),
            paused: AtomicBool::new(false),
            resumed: Notify::new(),
            withholds: AtomicBool::new(false),
        };
        (Arc::new(worker), events)
    }

    pub async fn run(self: Arc<Self>, id: WorkerId, forward: Forward, mut events: mpsc::Receiver<ClusterEvent>) {
        while let Some(event) = events.recv().await {
            while self.paused.load(Ordering::Acquire) {
                self.resumed.notified().await;
            }
            self.take(id, &forward, event);
            self.news.notify_one();
        }
    }

    pub fn take(&self, id: WorkerId, forward: &Forward, event: ClusterEvent) {
        let mut heard = self.heard.lock();
        match event {
            ClusterEvent::Forwarded(batch) => {
                for run in &batch.runs {
                    heard.bodies.push((batch.origin, batch.worker, batch.seq, run.body.clone()));
                }
                if self.withholds.load(Ordering::Acquire) {
                    heard.withheld.push(batch);
                } else {
                    batch.receipt.done();
                }
            }
            ClusterEvent::Accepted { peer, through } => {
                let before = heard.accepted.insert(peer, through);
                assert!(before < Some(through), "acknowledgements grow");
            }
            ClusterEvent::Room { .. } => heard.rooms += 1,
            ClusterEvent::PeerExpired { peer } => {
                heard.accepted.remove(&peer.node);
                heard.expired.push(peer);
            }
            ClusterEvent::Interest { token, changes } => {
                changes.iter().for_each(|change| apply(&mut heard.view, change));
                drop(heard);
                forward.interest_seen(id, token);
            }
            ClusterEvent::Barrier { token, seen } => heard.barriers.push((token, seen)),
            ClusterEvent::InterestComplete(complete) => heard.complete = complete,
            ClusterEvent::RetainedComplete => heard.keeps_all = true,
            ClusterEvent::RetainedInStep | ClusterEvent::Claim(_) | ClusterEvent::Will { .. } => {}
        }
    }

    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.resumed.notify_one();
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Heard) -> bool) {
        let wait = async {
            while !condition(&self.heard.lock()) {
                self.news.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

fn apply(view: &mut BTreeSet<(Holder, Arc<str>)>, change: &InterestChange) {
    match change {
        InterestChange::Add { holder, filter, .. } => drop(view.insert((*holder, Arc::clone(filter)))),
        InterestChange::Remove { holder, filter, .. } => drop(view.remove(&(*holder, Arc::clone(filter)))),
        InterestChange::Clear { holder } => view.retain(|(of, _)| of != holder),
    }
}

/// Carries one node's connections to another; can be cut.
pub struct Wire {
    at: SocketAddr,
    carried: Arc<Mutex<Vec<AbortHandle>>>,
    down: Arc<AtomicBool>,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (carried, down) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (handles, is_down) = (Arc::clone(&carried), Arc::clone(&down));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if is_down.load(Ordering::Acquire) {
                    continue;
                }
                let carry = tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
                handles.lock().push(carry.abort_handle());
            }
        });
        Self { at, carried, down }
    }

    pub fn cut(&self) {
        self.carried.lock().drain(..).for_each(|carry| carry.abort());
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
        self.cut();
    }
}

#[derive(Default)]
struct Peers {
    wires: Mutex<BTreeMap<NodeId, SocketAddr>>,
    channels: Mutex<BTreeMap<(NodeId, Purpose), Channel>>,
}

impl PeerChannels for Peers {
    fn channel(&self, peer: NodeId, purpose: Purpose) -> Option<Channel> {
        let at = *self.wires.lock().get(&peer)?;
        let connect = || tune_endpoint(Endpoint::from_shared(format!("http://{at}")).unwrap()).connect_lazy();
        Some(self.channels.lock().entry((peer, purpose)).or_insert_with(connect).clone())
    }

    fn reset(&self, peer: NodeId, purpose: Purpose) {
        self.channels.lock().remove(&(peer, purpose));
    }
}

pub struct Node {
    pub life: NodeLife,
    pub forward: Forward,
    workers: Vec<Arc<Worker>>,
    peers: Arc<Peers>,
    service: Service,
}

impl Node {
    pub fn start(node: u64, incarnation: u64, workers: u16) -> Self {
        Self::with(node, incarnation, workers, None)
    }

    /// A node of a cluster of `members` that keeps retained messages in `store`.
    pub fn keeping(node: u64, incarnation: u64, members: u64, store: &Store) -> Self {
        let started = Self::with(node, incarnation, 1, Some(store.clone()));
        started.forward.set_members((1..=members).map(NodeId).collect());
        started
    }

    fn with(node: u64, incarnation: u64, workers: u16, retained: Option<Store>) -> Self {
        let life = NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) };
        let (workers, events): (Vec<_>, Vec<_>) = (0..workers).map(|_| Worker::new()).unzip();
        let peers = Arc::new(Peers::default());
        let here = tokio::runtime::Handle::current();
        let (forward, service) = Forward::start(ForwardConfig {
            own: life,
            workers: workers.iter().map(|w| Arc::new(Port(Arc::clone(w))) as Arc<dyn WorkerPort>).collect(),
            peers: Arc::clone(&peers) as Arc<dyn PeerChannels>,
            clock: Arc::new(SystemClock),
            data: here.clone(),
            control: here,
            retained,
        });
        for (id, (worker, events)) in workers.iter().zip(events).enumerate() {
            tokio::spawn(Arc::clone(worker).run(WorkerId(id as u16), forward.clone(), events));
        }
        Self { life, forward, workers, peers, service }
    }

    /// A listener of this node on which everybody is `caller` (or nobody knows who).
    pub async fn listen(&self, caller: Option<NodeId>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let identify = tonic::service::InterceptorLayer::new(move |mut request: Request<()>| {
            caller.map(|node| request.extensions_mut().insert(PeerIdentity(node)));
            Ok(request)
        });
        let server = tune_server(Server::builder()).layer(identify).add_service(self.service.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        at
    }

    /// Lets this node reach `other`.
    pub async fn reach(&self, other: &Node) -> Wire {
        let wire = Wire::to(other.listen(Some(self.life.node)).await).await;
        self.peers.wires.lock().insert(other.life.node, wire.at);
        for purpose in [Purpose::Control, Purpose::Data] {
            self.peers.reset(other.life.node, purpose);
        }
        wire
    }

    pub fn live(&self, others: &[&Node]) {
        self.forward.set_live(others.iter().map(|o| (o.life.node, o.life.incarnation)).collect());
    }

    pub fn worker(&self, id: WorkerId) -> &Worker {
        &self.workers[usize::from(id.0)]
    }

    pub async fn complete(&self) {
        for worker in &self.workers {
            worker.until("interest is complete", |heard| heard.complete).await;
        }
    }

    pub async fn subscribe(&self, worker: WorkerId, filter: &str, token: u64) {
        self.forward.subscribe(worker, B, filter.into(), token);
        self.worker(worker).until("the barrier ends", |heard| heard.barriers.contains(&(token, true))).await;
    }
}
