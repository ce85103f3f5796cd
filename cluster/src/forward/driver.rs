//! What all parts of the driver share, and who is live.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rookery_proto::forward::Hello;
use rookery_proto::forward::forward_client::ForwardClient;
use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Code, Extensions, Status};

use super::data_in::Receiver;
use super::data_out::{self, Sender};
use super::interest_driver::{self, InterestState, Serving};
use super::retained::{self, Retained};
use super::stats::Counters;
use super::{ForwardConfig, ForwardStats, interest_out, wire};
use crate::clock::SharedClock;
use crate::handle::{ClusterEvent, Run, SendError, SharedWorkerPort};
use crate::ids::{Incarnation, NodeId, NodeLife, WorkerId};
use crate::interest::Input;
use crate::limits;
use crate::net::{PeerIdentity, Purpose, SharedPeers};

/// First pause before a stream is opened again: about what a process needs to notice and listen.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The pause doubles up to this: a peer that is back is found well before a barrier or publish times out.
pub(super) const BACKOFF_MOST: Duration = Duration::from_millis(1000);
/// A call that is not answered for this long is given up.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(BACKOFF_MOST.as_millis() + ANSWER_TIMEOUT.as_millis() < limits::SUBACK_BARRIER.as_millis());

pub(super) struct Inner {
    pub(super) own: NodeLife,
    pub(super) ports: Vec<SharedWorkerPort>,
    pub(super) clock: SharedClock,
    pub(super) counters: Counters,
    peers: SharedPeers,
    data: tokio::runtime::Handle,
    control: tokio::runtime::Handle,
    live: Mutex<Live>,
    pub(super) interest: Mutex<InterestState>,
    /// Told when a barrier begins while none was waiting.
    pub(super) barrier_began: tokio::sync::Notify,
    pub(super) serving: RwLock<Serving>,
    /// Told when a peer has acknowledged something.
    pub(super) acknowledged: tokio::sync::Notify,
    pub(super) retained: Option<Retained>,
    workers: Vec<Worker>,
    /// Streams from peers, by the sending worker.
    pub(super) receivers: Mutex<BTreeMap<(NodeLife, WorkerId), Arc<Receiver>>>,
    /// Numbers links and streams; later ones are larger.
    numbers: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Live {
    peers: BTreeMap<NodeId, LivePeer>,
    tickers: Vec<AbortHandle>,
}

struct LivePeer {
    incarnation: Incarnation,
    tasks: Vec<AbortHandle>,
}

/// One of this node's workers.
#[derive(Default)]
struct Worker {
    /// The last interest list that it has seen.
    seen: AtomicU64,
    links: RwLock<Links>,
}

#[derive(Default)]
struct Links {
    senders: BTreeMap<NodeId, Arc<Sender>>,
    /// The list that a worker has seen when it knows that the peer's former life ended.
    fences: BTreeMap<NodeId, u64>,
}

impl Inner {
    pub(super) fn start(config: ForwardConfig) -> Arc<Self> {
        let count = u16::try_from(config.workers.len()).unwrap_or(u16::MAX);
        let inner = Arc::new(Self {
            own: config.own,
            ports: config.workers,
            clock: config.clock,
            counters: Counters::default(),
            peers: config.peers,
            data: config.data,
            control: config.control,
            live: Mutex::default(),
            interest: Mutex::new(InterestState::new(count)),
            barrier_began: tokio::sync::Notify::new(),
            serving: RwLock::default(),
            acknowledged: tokio::sync::Notify::new(),
            retained: config.retained.map(|store| Retained::new(store, config.own.node)),
            workers: (0..count).map(|_| Worker::default()).collect(),
            receivers: Mutex::default(),
            numbers: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
        });
        let ticker = inner.control.spawn(interest_driver::tick(Arc::clone(&inner)));
        let mut tickers = vec![ticker.abort_handle()];
        if inner.retained.is_some() {
            tickers.push(inner.control.spawn(retained::tick(Arc::clone(&inner))).abort_handle());
        }
        inner.live.lock().tickers = tickers;
        inner
    }

    pub(super) fn set_live(self: &Arc<Self>, new: BTreeMap<NodeId, Incarnation>) {
        let mut live = self.live.lock();
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        live.peers.retain(|node, peer| {
            let stays = new.get(node) == Some(&peer.incarnation);
            if !stays {
                peer.tasks.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        // Before anybody else hears of them: see `retained`.
        self.retained_live(&new);
        self.input(Input::Live(new.clone()));
        for (node, incarnation) in new {
            live.peers.entry(node).or_insert_with(|| {
                let tasks = self.open(NodeLife { node, incarnation });
                LivePeer { incarnation, tasks }
            });
        }
    }

    pub(super) fn send(&self, worker: WorkerId, peer: NodeId, runs: Vec<Run>) -> Result<u64, (SendError, Vec<Run>)> {
        let Some(own) = self.workers.get(usize::from(worker.0)) else {
            return Err((SendError::NotLive, runs));
        };
        let links = own.links.read();
        let fenced = links.fences.get(&peer).is_some_and(|token| own.seen.load(Ordering::Acquire) < *token);
        match links.senders.get(&peer) {
            Some(sender) if !fenced => sender.send(runs, &self.counters),
            _ => Err((SendError::NotLive, runs)),
        }
    }

    pub(super) fn interest_seen(&self, worker: WorkerId, token: u64) {
        if let Some(own) = self.workers.get(usize::from(worker.0)) {
            own.seen.fetch_max(token, Ordering::AcqRel);
        }
        self.input(Input::Seen { worker, token });
    }

    pub(super) fn stats(&self) -> ForwardStats {
        let interest = self.interest.lock().stats();
        ForwardStats {
            barriers_passed: interest.barriers_passed,
            barrier_timeouts: interest.barriers_timed_out,
            interest_links_broken: interest.links_broken,
            ..self.counters.read()
        }
    }

    pub(super) fn stop(&self) {
        let mut live = self.live.lock();
        self.stopped.store(true, Ordering::Release);
        live.tickers.drain(..).for_each(|ticker| ticker.abort());
        for peer in std::mem::take(&mut live.peers).values() {
            peer.tasks.iter().for_each(AbortHandle::abort);
        }
        for worker in &self.workers {
            let links = std::mem::take(&mut *worker.links.write());
            links.senders.values().for_each(|sender| sender.close());
        }
        let receivers = std::mem::take(&mut *self.receivers.lock());
        receivers.values().for_each(|receiver| receiver.close());
        self.interest.lock().close_all();
    }

    /// A life ended. Called with the interest locked, before the workers get the list that clears it.
    pub(super) fn expire(&self, peer: NodeLife, token: u64) {
        self.receivers.lock().retain(|(origin, _), receiver| {
            if *origin == peer {
                receiver.close();
            }
            *origin != peer
        });
        for (worker, port) in self.workers.iter().zip(&self.ports) {
            let mut links = worker.links.write();
            links.fences.insert(peer.node, token);
            if let Some(sender) = links.senders.remove(&peer.node) {
                // After this no `Accepted` of that life is posted.
                sender.close();
            }
            port.post(ClusterEvent::PeerExpired { peer });
        }
    }

    pub(super) fn client(&self, peer: NodeId, purpose: Purpose) -> Result<ForwardClient<Channel>, Status> {
        let channel = self.peers.channel(peer, purpose).ok_or_else(|| Status::unavailable("address not known"))?;
        Ok(ForwardClient::new(channel)
            .max_decoding_message_size(limits::MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(limits::MAX_GRPC_MESSAGE_BYTES))
    }

    /// Whether a call may go on: it comes from whom it says, is meant for this life, and its origin is live. Runs
    /// `then` with the live set locked, so that what it registers cannot outlive the origin.
    pub(super) fn admit<T>(
        &self,
        caller: &Extensions,
        hello: &Hello,
        then: impl FnOnce(NodeLife) -> T,
    ) -> Result<T, Status> {
        let origin = wire::origin(hello);
        match caller.get::<PeerIdentity>() {
            Some(PeerIdentity(node)) if *node == origin.node => {}
            _ => return Err(Status::permission_denied("the caller is not the node that it says")),
        }
        if hello.version != wire::VERSION {
            return Err(Status::unimplemented("unknown version"));
        }
        let live = self.live.lock();
        if wire::target(hello) != self.own || self.stopped.load(Ordering::Acquire) {
            return Err(Status::failed_precondition("the call is for another life of this node"));
        }
        match live.peers.get(&origin.node) {
            Some(peer) if peer.incarnation == origin.incarnation => Ok(then(origin)),
            Some(peer) if peer.incarnation > origin.incarnation => {
                Err(Status::permission_denied("that life of the caller is over"))
            }
            // Its lease is news that has not come here yet, or it has run out.
            _ => Err(Status::unavailable("the caller is not known to be live")),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn open(self: &Arc<Self>, peer: NodeLife) -> Vec<AbortHandle> {
        let link = interest_out::run(Arc::clone(self), peer);
        let mut tasks = vec![self.control.spawn(link).abort_handle()];
        if self.retained.is_some() {
            tasks.push(self.control.spawn(retained::run(Arc::clone(self), peer)).abort_handle());
        }
        for (index, worker) in self.workers.iter().enumerate() {
            let sender = Arc::new(Sender::new(WorkerId(index as u16), peer, self.number()));
            worker.links.write().senders.insert(peer.node, Arc::clone(&sender));
            tasks.push(self.data.spawn(data_out::run(Arc::clone(self), sender)).abort_handle());
        }
        tasks
    }

    /// Calls `attempt` for ever, with pauses. `attempt` says in `answered` whether it got as far as an answer.
    pub(super) async fn again<F>(&self, peer: NodeLife, purpose: Purpose, mut attempt: impl FnMut() -> F)
    where
        F: Future<Output = Ended>,
    {
        let mut pause = BACKOFF_FIRST;
        loop {
            let Ended { answered, why } = attempt().await;
            if answered {
                pause = BACKOFF_FIRST;
            }
            self.after(peer, purpose, &why);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MOST);
        }
    }

    fn after(&self, peer: NodeLife, purpose: Purpose, why: &Status) {
        match why.code() {
            // Another process answers, or one that has stopped: look up the address and dial again.
            Code::FailedPrecondition => {
                tracing::debug!(%peer, ?purpose, "another life answers");
                self.peers.reset(peer.node, purpose);
            }
            Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument => {
                tracing::warn!(%peer, ?purpose, error = %why, "peer refuses the stream");
                self.peers.reset(peer.node, purpose);
            }
            Code::DeadlineExceeded => {
                tracing::debug!(%peer, ?purpose, "peer does not answer");
                self.peers.reset(peer.node, purpose);
            }
            _ => tracing::debug!(%peer, ?purpose, error = %why, "stream to the peer is down"),
        }
    }
}

/// How an attempt to hold a stream ended.
pub(super) struct Ended {
    pub(super) answered: bool,
    pub(super) why: Status,
}

/// The stream ended without a reason.
pub(super) fn ended() -> Status {
    Status::unavailable("the peer ended the stream")
}

/// Bounds the wait for the first answer of a peer.
pub(super) async fn answer<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}
