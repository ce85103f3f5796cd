//! Where the broker's workers and the cluster's drivers meet: events to a worker's mailbox, and the cheap
//! handles that a worker calls. Calls never wait; answers come as [`ClusterEvent`]s.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::ids::{BrokerId, ClientId, Epoch, NodeId, NodeLife, Nonce, SessionId, WillName, WorkerId};
use crate::retained::{Record, Stamp, Time};

/// One worker's mailbox, as the cluster sees it. Posting never waits; what is posted is bounded by the
/// sender's credit (R10), so the mailbox itself does not refuse.
pub trait WorkerPort: Send + Sync + 'static {
    /// Hands `event` to the worker.
    fn post(&self, event: ClusterEvent);

    /// Hands them all to the worker, in this order; cheaper than each by itself.
    fn post_all(&self, events: Vec<ClusterEvent>) {
        events.into_iter().for_each(|event| self.post(event));
    }
}

/// A worker's mailbox, shared.
pub type SharedWorkerPort = Arc<dyn WorkerPort>;

/// What the cluster tells a worker.
#[expect(missing_docs, reason = "the fields of a variant are told in its line")]
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    /// Publishes from another node. The worker delivers them to its own subscribers only, in order, never
    /// forwards them again, and then calls [`Receipt::done`].
    Forwarded(Arc<ForwardedBatch>),
    /// `peer` has accepted (R8) everything that this worker sent it up to batch `through`.
    Accepted { peer: NodeId, through: u64 },
    /// There is credit again towards `peer` after [`SendError::NoCredit`].
    Room { peer: NodeId },
    /// The lease of `peer`'s life expired (or it left): it is no longer in the live set; acknowledgements
    /// awaited from it are void, and its stream starts anew with its next life.
    PeerExpired { peer: NodeLife },
    /// Changes of who wants what, to be applied in order; then the worker calls `Forward::interest_seen`.
    Interest { token: u64, changes: Arc<[InterestChange]> },
    /// The barrier of `Forward::subscribe(.., token)` ended: `true` if every live peer and every worker of
    /// this node has seen the filter, `false` at its timeout (R11: that filter gets 0x83).
    Barrier { token: u64, seen: bool },
    /// Whether this node has every live peer's interest snapshot (R11). Until `true` it accepts no PUBLISH.
    InterestComplete(bool),
    /// What is retained here from now on is later than every retained message that was acknowledged (R15): until then
    /// none is taken from publishers.
    RetainedInStep,
    /// This node has every retained message that was acknowledged (R15): until then it answers for none.
    RetainedComplete,
    /// About the claim of one connection.
    Claim(ClaimEvent),
    /// A will to be published now (R16). Confirmed by `Sessions::will_published` once all who must accept it have.
    Will { token: u64, broker: BrokerId, will: FiringWill },
}

/// A will that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiringWill {
    /// What it is known by.
    pub name: WillName,
    /// When it is written, if it is retained and that is decided (see `Sessions::will_timed`).
    pub time: Option<Time>,
    /// As it was claimed.
    pub message: Bytes,
}

/// Where an interest is held, as seen by a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// Some worker of this other node.
    Peer(NodeId),
    /// This other worker of this node.
    Worker(WorkerId),
    /// This node's store of retained messages: it wants those of all brokers.
    Store,
}

/// One change of interest.
#[expect(missing_docs, reason = "the fields of a variant are told in its line")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterestChange {
    /// `holder` wants what matches `filter` (valid), or has members that share it (`$share/name/filter`).
    Add { holder: Holder, broker: BrokerId, filter: Arc<str> },
    /// `holder` no longer does.
    Remove { holder: Holder, broker: BrokerId, filter: Arc<str> },
    /// Everything known of `holder` is void (a snapshot follows in the same list, or it is gone).
    Clear { holder: Holder },
}

/// A run of publishes of one broker: opaque to this crate, `count` of them back to back in `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose they are.
    pub broker: BrokerId,
    /// How many.
    pub count: u32,
    /// The publishes, encoded by the broker.
    pub body: Bytes,
    /// What every node keeps, in this order; beside the publishes, which live subscribers get.
    pub retained: Vec<Arc<Retained>>,
}

/// What is kept of a retained publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// When it was written, by the publisher's node.
    pub time: Time,
    /// Its topic.
    pub topic: Arc<str>,
    /// When it is as good as deleted.
    pub expires: Option<UnixMillis>,
    /// The message, encoded by the broker; `None`: what the topic has is removed.
    pub message: Option<Bytes>,
    /// It must be on disk before it is accepted.
    pub durable: bool,
}

/// Who must take a retained publish (P9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// The live peers, all of them.
    pub peers: Vec<NodeId>,
    /// Of those so many, with this node's own disk, are a majority of the members.
    pub needed: u16,
}

impl Run {
    /// What of it is kept, if it came from `node`: topics and records.
    pub fn records(&self, node: NodeId) -> impl Iterator<Item = (Arc<str>, Record)> {
        self.retained.iter().map(move |kept| {
            let stamp = Stamp { time: kept.time, node };
            (Arc::clone(&kept.topic), Record { stamp, expires: kept.expires, message: kept.message.clone() })
        })
    }

    /// Bytes of what is kept.
    pub fn kept_bytes(&self) -> usize {
        self.retained.iter().map(|kept| kept.bytes()).sum()
    }
}

impl Retained {
    /// Bytes that it takes in a batch.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.message.as_ref().map_or(0, Bytes::len) + 32
    }
}

/// A batch that arrived from a worker of another node.
#[derive(Debug)]
pub struct ForwardedBatch {
    /// The life of the node that sent it.
    pub origin: NodeLife,
    /// The worker there: order holds within one (origin, worker).
    pub worker: WorkerId,
    /// Number of the batch on that stream, from 1.
    pub seq: u64,
    /// The publishes.
    pub runs: Vec<Run>,
    /// The workers of this node that it is handed to.
    pub workers: Vec<WorkerId>,
    /// To be told when this worker has queued or dropped (and counted) them all.
    pub receipt: Receipt,
}

/// Counts down the workers that a batch was handed to; the last one makes it accepted. A worker that dies
/// without calling [`Receipt::done`] leaves the batch unaccepted for ever, as it must.
pub struct Receipt {
    left: AtomicUsize,
    accepted: Box<dyn Fn() + Send + Sync>,
}

impl Receipt {
    /// A receipt that calls `accepted` after `workers` calls of [`Receipt::done`].
    pub fn new(workers: usize, accepted: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { left: AtomicUsize::new(workers), accepted }
    }

    /// One worker has queued or dropped all of its deliveries.
    pub fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            (self.accepted)();
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Why a batch was not taken for sending. It stays the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The receiver's reserve is used up; `ClusterEvent::Room` follows (R10).
    #[error("no credit towards the peer")]
    NoCredit,
    /// The peer is not in the live set: nothing is owed to it.
    #[error("the peer is not live")]
    NotLive,
}

/// A connection's wish to be the one that serves its client ID (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The broker.
    pub broker: BrokerId,
    /// The client.
    pub client: ClientId,
    /// The connection, unique within this node's incarnation.
    pub nonce: Nonce,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// CONNECT's Clean Start.
    pub clean_start: bool,
    /// Session expiry, seconds, after the broker's limits.
    pub session_expiry: u32,
    /// What is published if the connection is lost.
    pub will: Option<ClaimWill>,
}

/// A will, as its shard keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimWill {
    /// The publish, encoded by the broker.
    pub message: Bytes,
    /// Will Delay Interval, seconds.
    pub delay: u32,
}

/// Where a session's queue and what is in flight of it are, while no connection serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Home {
    /// The node. Once this life is over, so are the queue and what was in flight.
    pub life: NodeLife,
    /// Its worker.
    pub worker: WorkerId,
}

/// What is asked of the worker that keeps a session (R14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAsked {
    /// The broker.
    pub broker: BrokerId,
    /// The client.
    pub client: ClientId,
    /// Its session: another one of the client is not meant.
    pub session: SessionId,
    /// Whether it is taken, or its subscriptions are asked for.
    pub take: bool,
    /// Of the claim for which it is asked: the session is not given to whoever was served before whom it has served.
    pub epoch: Epoch,
}

/// The session that a granted connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// Its name.
    pub id: SessionId,
    /// Whether it was there before, to be gone on with.
    pub present: bool,
    /// Where its queue is; `None`: nowhere any more, but the shard knows its subscriptions.
    pub home: Option<Home>,
}

/// One subscription of a session: the filter as the client sent it, and its options, encoded by the broker.
pub type Subscription = (Arc<str>, u64);

impl Leave {
    /// Nothing is known of what became of it: its session stays as it was, and its will is due.
    pub const UNKNOWN: Self = Self { keep: Some(Keep { expiry: None, home: None }), fire_will: true };

    /// What is left by a connection of which it is known that it never served.
    pub const NEVER_SERVED: Self = Self { keep: Some(Keep { expiry: None, home: None }), fire_will: false };

    /// What is left by a connection that was granted `session` and never served: all as it was before.
    pub fn untouched(session: Option<SessionGrant>) -> Self {
        let present = session.filter(|session| session.present);
        Self { keep: present.map(|session| Keep { expiry: None, home: session.home }), fire_will: false }
    }
}

/// What a connection that ends leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leave {
    /// The session goes on without it; `None`: it ends.
    pub keep: Option<Keep>,
    /// The will is published, after its delay; else it is forgotten (MQTT 5 §3.1.2.5).
    pub fire_will: bool,
}

/// How a session goes on without a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Keep {
    /// For how long, seconds, `u32::MAX` for ever; `None`: as before this claim, of which nothing came.
    pub expiry: Option<u32>,
    /// Where its queue is.
    pub home: Option<Home>,
}

/// What became of a claim.
#[expect(missing_docs, reason = "the fields of a variant are told in its line")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimEvent {
    /// The connection now serves the client. Answered by nothing: serving is the answer, and a grant whose
    /// connection is gone is answered with `Sessions::release`.
    Granted { broker: BrokerId, client: ClientId, nonce: Nonce, epoch: Epoch, session: Option<SessionGrant> },
    /// A newer claim is waiting: send DISCONNECT 0x8E (3.1.1: close), then `Sessions::release`. Comes again
    /// until released (R4).
    Revoked { broker: BrokerId, client: ClientId, nonce: Nonce, epoch: Epoch },
    /// The waiting connection does not get the claim.
    Refused { broker: BrokerId, client: ClientId, nonce: Nonce, why: ClaimRefusal },
    /// The end of `Sessions::persist`: whether the shard has the changes.
    Persisted { nonce: Nonce, token: u64, stored: bool },
    /// The end of `Sessions::persist`, too: the broker's sessions have all the bytes of filters that they may, and the shard
    /// has none of the changes: 0x97 in SUBACK.
    NoRoom { nonce: Nonce, token: u64 },
    /// The end of `Sessions::recall`: the session's subscriptions, or nothing if the shard did not answer.
    Recalled { nonce: Nonce, subscriptions: Option<Vec<Subscription>> },
    /// The session ended, or goes on elsewhere: what this worker keeps of it is void.
    Discard { broker: BrokerId, client: ClientId, session: SessionId },
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimRefusal {
    /// A still newer claim replaced this one while it waited: CONNACK 0x88 (R5).
    Superseded,
    /// The shard has no quorum, or no answer came in `limits::CLAIM_TIMEOUT`: CONNACK 0x88.
    Unavailable,
    /// Takeovers of this client ID come too fast: CONNACK 0x9F (R5).
    TooFast,
    /// The broker has all the sessions that it may: CONNACK 0x97.
    Full,
}
