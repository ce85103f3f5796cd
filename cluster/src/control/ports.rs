//! The traits between drivers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::{BoxFuture, ProposeError};
use crate::handle::{Home, SessionAsked, SessionGrant, Subscription};
use crate::ids::{BrokerId, Epoch, GroupId, LogIndex, NodeId, NodeLife, SessionId, WorkerId};
use crate::leases::Verdict;
use crate::sessions::{ClaimKey, Claimant, Refusal, Within};

/// What leases, claims and placement need of the metadata. Reads are of this node's applied state.
pub trait MetaPort: Send + Sync + 'static {
    /// The shard that a client belongs to (R6).
    fn group_of(&self, broker: BrokerId, client: &str) -> GroupId;
    /// What that shard may hold of a broker; `None` if the broker is not known here.
    fn within(&self, broker: BrokerId) -> Option<Within>;
    /// Those of `brokers` that exist no more. Of a broker that was not made yet when this is called it may say so, too.
    fn deleted(&self, brokers: Vec<BrokerId>) -> BoxFuture<'_, Result<Vec<BrokerId>, ProposeError>>;
    /// The live set: each life whose lease has not expired in group 0.
    fn live(&self) -> Vec<NodeLife>;
    /// Whether group 0 has committed that `life` ended: by expiry, or by a later life of its node.
    fn has_ended(&self, life: NodeLife) -> bool;
    /// The newest life of a node that group 0 has registered, if it is known here.
    fn newest(&self, node: NodeId) -> Option<NodeLife>;
    /// Whether this node is being removed and no group needs it any more: its lease is not renewed then.
    fn is_drained(&self, node: NodeId) -> bool;
    /// The last index of group 0 applied here.
    fn applied(&self) -> LogIndex;
    /// Resolves once an index after `seen` is applied here.
    fn changed(&self, seen: LogIndex) -> BoxFuture<'_, ()>;
    /// Registers a new life of this node, which ends all earlier ones (R3).
    fn register(&self) -> BoxFuture<'_, Result<NodeLife, ProposeError>>;
    /// As the leader of group 0 in `term`: from here on no leader of an earlier term ends a life. A proposal to
    /// end one may be forwarded late, and would else end a lease that the new leader has renewed.
    fn lead_leases(&self, term: u64) -> BoxFuture<'_, Result<(), ProposeError>>;
    /// Ends `life`: as the leader of group 0 in the term given, or without one as the node itself, which
    /// serves no more.
    fn expire(&self, life: NodeLife, term: Option<u64>) -> BoxFuture<'_, Result<(), ProposeError>>;
}

/// The metadata, shared.
pub type SharedMeta = Arc<dyn MetaPort>;

/// What a shard's leader tells a node about one of its connections' claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The connection.
    pub to: Claimant,
    /// The client.
    pub key: ClaimKey,
    /// What happened.
    pub kind: NoticeKind,
}

/// What happened to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The connection, which waited, serves now.
    Granted {
        /// Under this epoch.
        epoch: Epoch,
        /// Its session, if that outlives the connection or did before.
        session: Option<SessionGrant>,
    },
    /// The connection must stop and release.
    Revoked {
        /// The epoch it serves under.
        epoch: Epoch,
    },
    /// The connection, which waited, does not get the claim.
    Refused(Refusal),
    /// What a worker keeps of a session is void. `to` names no connection then, but only its life.
    Discard {
        /// The session.
        session: SessionId,
        /// The worker.
        worker: WorkerId,
    },
}

/// Takes notices for this node's connections.
pub trait Notices: Send + Sync + 'static {
    /// Must not wait.
    fn notices(&self, notices: Vec<Notice>);
}

/// Calls to other nodes.
pub trait ControlClient: Send + Sync + 'static {
    /// Asks `leader` to renew the lease of `life`, a life of this node.
    fn renew(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<Verdict, ControlError>>;
    /// Hands notices to a node.
    fn notify(&self, to: NodeId, notices: Vec<Notice>) -> BoxFuture<'_, Result<(), ControlError>>;
    /// Tells the metadata leader of a life that does not carry out a revocation.
    fn report_stuck(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<(), ControlError>>;
    /// Resolves with the life of `node` that acts by the metadata up to `index`.
    fn wait_applied(
        &self,
        node: NodeId,
        index: LogIndex,
        within: Duration,
    ) -> BoxFuture<'_, Result<NodeLife, ControlError>>;
    /// Resolves with the life of `node` whose workers have handed `home` what they had of `broker` for it.
    fn drain(
        &self,
        node: NodeId,
        broker: BrokerId,
        home: Home,
        within: Duration,
    ) -> BoxFuture<'_, Result<NodeLife, ControlError>>;
}

/// What that node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// Its subscriptions; it is kept on.
    Subscriptions(Vec<Subscription>),
    /// Its state, as the broker encodes it; it is not there any more.
    State(Bytes),
    /// It is not there.
    Gone,
    /// What is there waits for its state, which was last seen at that worker.
    Awaits(Home),
    /// It went on under a later claim than the one for which it is asked.
    Superseded,
}

/// The sessions that this node's workers keep, and what they have for those of others.
pub trait KeptSessions: Send + Sync + 'static {
    /// Asks `worker`; nothing if it cannot say now.
    fn asked(&self, worker: WorkerId, asked: SessionAsked) -> BoxFuture<'_, Option<SessionReply>>;
    /// Resolves when all workers, but for `home` itself, have handed `home` what they had of `broker` for it so far;
    /// `false` if one cannot say.
    fn drained(&self, broker: BrokerId, home: Home) -> BoxFuture<'_, bool>;
}

/// Calls to other nodes, shared.
pub type SharedControl = Arc<dyn ControlClient>;

/// A call to another node failed; whether it took effect is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No address or no connection.
    #[error("the node cannot be reached")]
    Unreachable,
    /// The far side refused, or answered what makes no sense.
    #[error("the node answered: {0}")]
    Status(String),
}

/// The workers' part of [`ControlService`]'s answer that a metadata index is in force on this node (P2).
///
/// [`ControlService`]: super::ControlService
pub trait AppliedPort: Send + Sync + 'static {
    /// Resolves when every worker acts by the metadata of `index`, which this node has applied.
    fn workers_applied(&self, index: LogIndex) -> BoxFuture<'_, ()>;
}
