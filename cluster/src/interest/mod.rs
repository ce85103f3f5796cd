//! Who wants what: the filters of this node's workers and of each live peer, and the barrier that SUBACK waits
//! for (P8, R11). PURE: one [`Hub`] per node takes [`Input`]s and returns [`Output`]s; the forwarding driver
//! performs them.
//!
//! Three parties, two kinds of numbers:
//! - Towards this node's **workers**, changes are gathered into numbered lists (*tokens*). Each worker gets
//!   each list that concerns it, in order, and says when it has applied it.
//! - Towards each **peer life**, this node's filters travel as numbered messages: a snapshot at the start of
//!   every link, then what changed. The peer acknowledges a message when all its workers have applied it.
//!
//! Both directions gather while a few messages are unacknowledged, and keep only the last change of a filter,
//! so what waits is bounded by the number of filters, and a storm of SUBSCRIBEs costs few messages.
//!
//! Requirements only grow: whatever a later barrier waits for includes all that an earlier one waits for.
//! Barriers therefore end in the order in which they began, and only the first need be looked at.

mod barrier;
mod hub;
mod inbound;
mod outbound;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use hub::Hub;

use crate::handle::InterestChange;
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};

/// Messages that may be unacknowledged on one link, and change lists that a worker may have before it. More
/// would not make anything faster: what gathers meanwhile travels in one piece.
pub const IN_FLIGHT: u64 = 4;

/// A filter of a broker that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interest {
    /// The broker.
    pub broker: BrokerId,
    /// A valid filter, that of a shared subscription with its `$share` prefix: those are different interests.
    pub filter: Arc<str>,
}

/// A set of filters; cloning it is cheap, so that a snapshot is taken under a lock and encoded outside of it.
pub type Interests = imbl::OrdSet<Interest>;

/// What one message between two nodes says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All that the sending node wants.
    Snapshot(Interests),
    /// What changed since the message before: `true` for wanted, `false` for no longer.
    Changes(BTreeMap<Interest, bool>),
}

/// A numbered message from one node life to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// From 1, without gaps, across links.
    pub seq: u64,
    /// What it says.
    pub content: Content,
}

/// One connection between two nodes, in one direction; chosen by the driver, larger for a later one.
pub type Link = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Input {
    /// The live set as this node knows it, without itself.
    Live(BTreeMap<NodeId, Incarnation>),
    /// `worker` wants what matches and waits for a barrier, known to it as `token`.
    Subscribe { worker: WorkerId, interest: Interest, token: u64 },
    /// `worker` no longer does.
    Unsubscribe { worker: WorkerId, interest: Interest },
    /// `worker` has applied every list up to `token`.
    Seen { worker: WorkerId, token: u64 },
    /// The link on which this node tells `peer` what it wants is up.
    Connected { peer: NodeLife, link: Link },
    /// That link is down.
    Disconnected { peer: NodeLife, link: Link },
    /// All workers of `peer` have seen every message up to `through`.
    Acknowledged { peer: NodeLife, link: Link, through: u64 },
    /// A link on which `peer` tells what it wants is up; it replaces an older one. (What it told stays when the
    /// link goes down, R11, so that needs no input.)
    Opened { peer: NodeLife, link: Link },
    /// `peer` told something.
    Received { peer: NodeLife, link: Link, message: Message },
    /// Time passed.
    Tick,
}

/// What is to be done about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Output {
    /// Post `ClusterEvent::Interest` to `worker`.
    Interest { worker: WorkerId, token: u64, changes: Arc<[InterestChange]> },
    /// Post `ClusterEvent::Barrier` to `worker`.
    Barrier { worker: WorkerId, token: u64, seen: bool },
    /// Post `ClusterEvent::InterestComplete(true)` to all workers. Comes once. A peer that joins the live set
    /// later does not take it back: by R1 this node is in that peer's live set from the peer's first lease, so
    /// nothing of the peer is subscribed (its SUBACK is not sent) before this node has acknowledged it.
    Complete,
    /// `peer` left the live set: post `ClusterEvent::PeerExpired`, close its links. A worker that has seen
    /// `token` has also seen that event.
    Expired { peer: NodeLife, token: u64 },
    /// Send `message` on the link to `peer`.
    Send { peer: NodeLife, link: Link, message: Message },
    /// Tell `peer` that all workers have seen its messages up to `through`.
    Acknowledge { peer: NodeLife, link: Link, through: u64 },
    /// Close the link from `peer`: it is not live, or what came is not what follows. It shall connect anew.
    Close { peer: NodeLife, link: Link },
    /// Publishes of `broker` that come from other nodes now concern these workers, and no others.
    Serving { broker: BrokerId, workers: Vec<WorkerId> },
}

/// Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Barriers that ended in time.
    pub barriers_passed: u64,
    /// Barriers that ended at `limits::SUBACK_BARRIER`.
    pub barriers_timed_out: u64,
    /// Links closed because a message was missing or out of place.
    pub links_broken: u64,
}

#[cfg(test)]
mod tests;
