//! What a worker asks of the rest of the node.

use std::sync::Arc;

use rookery_cluster::handle::{ClaimRequest, Home, Leave, Replicas, Run, SendError, SessionAsked};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, NodeId, Nonce, WorkerId};
use rookery_cluster::retained::Time;
use rookery_cluster::retained::store::Store;

use super::core::{Admitted, AuthRequest, Bulletin, ConnKey, Quota, View};
use super::mailbox::{Answer, Mailbox};

/// What a worker asks of the rest of the node. Nothing here waits; answers come by mail.
pub trait Services: Send + Sync + 'static {
    /// What the core sees of the world.
    fn view(&self) -> &dyn View;
    /// Where the worker counts what a node has only so many of.
    fn quota(&self) -> Box<dyn Quota>;
    /// Where the workers meet to publish figures below `$SYS`, if they do.
    fn bulletin(&self) -> Option<Box<dyn Bulletin>>;
    /// Who has a token whose signature is known to be genuine: takes no longer than a packet does. Nobody for any other,
    /// and for one that is not good any more: [`Services::authenticate`] looks closer.
    fn recognise(&self, request: &AuthRequest) -> Option<Admitted>;
    /// Checks a token off this thread, then posts [`super::Mail::Authenticated`].
    fn authenticate(self: Arc<Self>, answer: Arc<Mailbox>, conn: ConnKey, request: AuthRequest);
    /// Asks for a claim.
    fn claim(&self, request: ClaimRequest);
    /// Gives up a claim that was asked for.
    fn abandon(&self, broker: BrokerId, client: ClientId, nonce: Nonce);
    /// Gives a claim back.
    fn release(&self, broker: BrokerId, client: ClientId, epoch: Epoch, nonce: Nonce, leave: Leave);
    /// Has a session's shard store changes of its subscriptions.
    fn persist(
        &self,
        broker: BrokerId,
        client: ClientId,
        epoch: Epoch,
        nonce: Nonce,
        token: u64,
        changes: Vec<(Arc<str>, Option<u64>)>,
    );
    /// Asks a session's shard for its subscriptions, for `worker`. What was on its way to that one before is there before
    /// the answer: the client may have had it from the session's home.
    fn recall(self: Arc<Self>, worker: WorkerId, broker: BrokerId, client: ClientId, nonce: Nonce);
    /// Asks for a session that is kept elsewhere, for `worker`, or takes it; `answer` is called once. What was on its way
    /// to `worker` is there before it is told of the subscriptions, as above; what was published for the session by
    /// workers that did not know of the asking one's subscriptions is with the session before it is taken (R14).
    fn fetch(self: Arc<Self>, worker: WorkerId, home: Home, asked: SessionAsked, answer: Answer);
    /// Where retained messages are kept, if they are.
    fn store(&self) -> Option<Store>;
    /// Who must take a retained publish that begins now.
    fn replicas(&self) -> Arc<Replicas>;
    /// A will is to be written at `time`, by whoever publishes it.
    fn will_timed(&self, token: u64, time: Time);
    /// A will is published.
    fn will_published(&self, token: u64);
    /// A will was not published.
    fn will_refused(&self, token: u64);
    /// Tells the others of a filter.
    fn subscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>, token: u64);
    /// Tells the others that the filter is not wanted any more.
    fn unsubscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>);
    /// Confirms interest changes.
    fn interest_seen(&self, worker: WorkerId, token: u64);
    /// Sends a batch to a peer.
    fn send(&self, worker: WorkerId, peer: NodeId, runs: Vec<Run>) -> Result<u64, (SendError, Vec<Run>)>;
}
