//! What happens to a worker, and what its driver must do about it.

use std::sync::Arc;

use rookery_cluster::handle::{
    ClaimEvent, ClaimRequest, FiringWill, Holder, Home, InterestChange, Leave, Run, SessionAsked,
};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, Nonce, WorkerId};
use rookery_cluster::retained::{Cursor, Page, Pages, Time};

use super::{Admitted, AuthRequest, Batch, ConnKey, Fetched, Settings};
use crate::mqtt::codec::ReasonCode;

/// What happens to a worker.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant's text tells its fields")]
pub enum Input<'a> {
    /// Bytes came in.
    Read { conn: ConnKey, bytes: &'a [u8] },
    /// The socket is gone.
    Closed { conn: ConnKey },
    /// The token was checked; a refusal says what CONNACK shall say.
    Authenticated { conn: ConnKey, result: Result<Admitted, ReasonCode> },
    /// About a claim.
    Claim(ClaimEvent),
    /// Publishes from another node or worker, see [`super::origin`]: delivered to this worker's connections only, but for those
    /// of shared subscriptions whose members are gone.
    Forwarded { origin: u64, via: Via<'a>, runs: &'a [Run] },
    /// A destination accepted batches up to `through`.
    Accepted { from: Holder, through: u64 },
    /// There is credit again towards a destination.
    Room { to: Holder },
    /// A batch found no credit: it is sent again after `Room`.
    NoCredit { to: Holder, batch: Batch },
    /// A destination's life is over: nothing is owed to it, its next batches start at 1.
    Expired { holder: Holder },
    /// Others' interest changed.
    Interest { token: u64, changes: &'a [InterestChange] },
    /// A barrier ended.
    Barrier { token: u64, seen: bool },
    /// A worker that goes on with a session which is kept here asks for its subscriptions, or takes it.
    Asked { ticket: u64, asked: &'a SessionAsked },
    /// What the worker that keeps a session answered, or none.
    Fetched { conn: ConnKey, reply: Fetched },
    /// Say when everything of `broker` that came for `to` so far is there.
    Drain { ticket: u64, broker: BrokerId, to: Holder },
    /// A will is to be published.
    Will { token: u64, broker: BrokerId, will: &'a FiringWill },
    /// What is retained here from now on is later than every retained message that was acknowledged.
    RetainedInStep,
    /// Every retained message that was acknowledged is in this node's store.
    RetainedComplete,
    /// A page that [`Effect::ReadRetained`] asked for, up to date as of now.
    Retained { conn: ConnKey, filter: &'a str, page: Page },
    /// Every live peer's interest is known (R11): connections may publish.
    InterestComplete,
    /// What restricts `broker`'s connections (all brokers', if `None`) may have changed.
    Recheck { broker: Option<BrokerId> },
    /// The broker's limits changed.
    Reconfigured { broker: BrokerId, settings: Arc<Settings> },
    /// This node's life is over or ends: every connection is closed with `reason`.
    CloseAll { reason: ReasonCode },
    /// Time passed.
    Tick,
}

/// How a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via<'a> {
    /// Another worker of this node sent it to this one.
    Worker,
    /// Another node sent it, as batch `seq` of one of its workers. These workers of this node get it, and one of them
    /// serves each shared subscription.
    #[expect(missing_docs, reason = "the text tells them")]
    Node { workers: &'a [WorkerId], seq: u64 },
}

/// What the driver must do.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's text tells its fields")]
pub enum Effect {
    /// Check a token, off this thread (R18); answered by [`Input::Authenticated`].
    Authenticate { conn: ConnKey, request: Box<AuthRequest> },
    /// Ask for the claim on a client ID.
    Claim(ClaimRequest),
    /// A connection that waited for its claim is gone.
    Abandon { broker: BrokerId, client: ClientId, nonce: Nonce },
    /// Give a claim back; first let `after` flush (0x8E before the next CONNACK), `limits::RELEASE_FLUSH` at most.
    Release { broker: BrokerId, client: ClientId, epoch: Epoch, nonce: Nonce, leave: Leave, after: Option<ConnKey> },
    /// Store changes of a session's subscriptions, `None` for one that is gone; answered by [`ClaimEvent::Persisted`].
    Persist {
        broker: BrokerId,
        client: ClientId,
        epoch: Epoch,
        nonce: Nonce,
        token: u64,
        changes: Vec<(Arc<str>, Option<u64>)>,
    },
    /// Ask the shard for a session's subscriptions; answered by [`ClaimEvent::Recalled`].
    Recall { broker: BrokerId, client: ClientId, nonce: Nonce },
    /// Ask the worker that keeps a session for its subscriptions, or take it; answered by [`Input::Fetched`].
    Fetch { conn: ConnKey, home: Home, asked: SessionAsked },
    /// The answer to [`Input::Asked`].
    Answer { ticket: u64, reply: Fetched },
    /// The answer to [`Input::Drain`].
    Drained { ticket: u64 },
    /// All who must accept a will did.
    WillPublished { token: u64 },
    /// A will is to be retained: have it decided that it is written at `time`. It comes again with that.
    TimeWill { token: u64, time: Time },
    /// A will was not published, or not with all that P9 asks for: it is tried again.
    WillRefused { token: u64 },
    /// Tell the other workers and nodes of a filter; answered by [`Input::Barrier`].
    Subscribe { broker: BrokerId, filter: Arc<str>, token: u64 },
    /// Tell them that nobody here wants it any more.
    Unsubscribe { broker: BrokerId, filter: Arc<str> },
    /// The interest changes of `token` are in effect here.
    InterestSeen { token: u64 },
    /// Read some of the retained messages that match a filter; answered by [`Input::Retained`].
    ReadRetained { conn: ConnKey, broker: BrokerId, filter: Arc<str>, after: Option<Cursor>, most: Pages },
    /// Send a batch; answered by [`Input::Accepted`] or, at once, by [`Input::NoCredit`].
    Send { to: Holder, batch: Batch },
    /// Close the socket once what waits is flushed, or `linger` passed; then [`Input::Closed`].
    Close { conn: ConnKey },
}
