//! Publishes and interest between nodes: the driver of [`interest::Hub`](crate::interest::Hub), and one ordered
//! stream of batches from each worker of a node to each live peer.
//!
//! **Data.** A worker's batches wait in an [`outbox::Outbox`] until the peer has accepted them (R8). One gRPC call
//! for each (worker, peer life) carries them, on a connection of its own purpose; when it breaks, the next call
//! begins where the receiver says. The receiver's [`inbox::Inbox`] drops what it has seen, hands the rest to
//! those of its workers that hold filters of the batch's brokers, and acknowledges in order, many batches in one
//! reply if they were accepted meanwhile. A batch is one gRPC message, and its bodies are not looked at.
//!
//! **Interest.** Each node tells each live peer what it wants, see [`crate::interest`].
//!
//! **Retained publishes** go to every live peer and into its [`Store`], see `retained`; the peers compare what they
//! have, and a node that starts copies it.
//!
//! **Locks**, in the order in which they are taken: `live`, `interest`, `links`, one stream. Workers' mailboxes
//! are posted to while they are held, so that events come in the order in which things happened: a
//! [`WorkerPort`](crate::handle::WorkerPort) must not call back into [`Forward`] from `post`.

pub mod fuzz;
pub mod inbox;
pub mod outbox;

mod data_in;
mod data_out;
mod driver;
mod interest_driver;
mod interest_in;
mod interest_out;
mod retained;
mod service;
mod stats;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use service::{Door, Service, service};
pub use stats::ForwardStats;

use crate::clock::SharedClock;
use crate::handle::{Replicas, Run, SendError, SharedWorkerPort};
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};
use crate::interest::{Input, Interest};
use crate::net::SharedPeers;
use crate::retained::store::Store;
use driver::Inner;

/// What [`Forward::start`] needs.
pub struct ForwardConfig {
    /// This life of this node.
    pub own: NodeLife,
    /// The mailboxes of workers 0, 1, 2, ...
    pub workers: Vec<SharedWorkerPort>,
    /// Channels to the peers. Those of `Purpose::Data` should have passed [`tune_endpoint`](crate::net::tune_endpoint).
    pub peers: SharedPeers,
    /// Where time comes from.
    pub clock: SharedClock,
    /// Where the data streams' tasks run.
    pub data: tokio::runtime::Handle,
    /// Where the interest links' tasks run: not behind message traffic (R18).
    pub control: tokio::runtime::Handle,
    /// Where retained publishes are kept; without it they are delivered only.
    pub retained: Option<Store>,
}

/// A worker's (and the node's) handle to the forwarding streams. Cheap to clone; no call waits.
#[derive(Clone)]
pub struct Forward {
    inner: Arc<Inner>,
}

impl Forward {
    /// Starts forwarding, with an empty live set, and returns the service to add to the server for peers (which
    /// should have passed [`tune_server`](crate::net::tune_server), and whose requests must carry
    /// [`PeerIdentity`](crate::net::PeerIdentity)). No worker hears `InterestComplete` before the first
    /// [`Forward::set_live`].
    pub fn start(config: ForwardConfig) -> (Forward, Service) {
        let door = Door::default();
        (Self::start_behind(config, &door), service(door))
    }

    /// As [`Forward::start`], for a server that runs already with the service of `door`: a node must answer its
    /// peers before it has a life to forward for.
    pub fn start_behind(config: ForwardConfig, door: &Door) -> Forward {
        let inner = Inner::start(config);
        door.open(Arc::clone(&inner));
        Forward { inner }
    }

    /// The live peers, without this node. Peers that are gone or have another incarnation get
    /// `ClusterEvent::PeerExpired`; streams to new ones are opened. The first call after the start must know every
    /// node whose lease was granted before this node's own (a linearized read): R11 rests on it.
    pub fn set_live(&self, live: BTreeMap<NodeId, Incarnation>) {
        self.inner.set_live(live);
    }

    /// All members of the cluster, this node included: what P9's majority is of.
    pub fn set_members(&self, members: BTreeSet<NodeId>) {
        self.inner.set_members(members);
    }

    /// Who must take a retained publish that begins now.
    pub fn replicas(&self) -> Arc<Replicas> {
        self.inner.retained.as_ref().map_or_else(Arc::default, |retained| retained.replicas())
    }

    /// Queues a batch of at most `limits::FORWARD_BATCH_BYTES` from `worker` to `peer`; returns its number, from 1
    /// for each worker and peer life. `ClusterEvent::Accepted` follows, or `PeerExpired`.
    ///
    /// # Errors
    /// With the runs, which stay the caller's. `NotLive` also until `worker` has seen the end of the peer's former
    /// life (`interest_seen` of the list that clears it), so that numbers of two lives are never confused.
    pub fn send(&self, worker: WorkerId, peer: NodeId, runs: Vec<Run>) -> Result<u64, (SendError, Vec<Run>)> {
        self.inner.send(worker, peer, runs)
    }

    /// `worker` wants what matches `filter` (valid; a shared one with its `$share` prefix). `ClusterEvent::Barrier` with the same
    /// `token` follows. The worker takes the filter into its own index before this call.
    pub fn subscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>, token: u64) {
        self.inner.input(Input::Subscribe { worker, interest: Interest { broker, filter }, token });
    }

    /// `worker` no longer does. Also due after a barrier that timed out.
    pub fn unsubscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>) {
        self.inner.input(Input::Unsubscribe { worker, interest: Interest { broker, filter } });
    }

    /// `worker` has applied `ClusterEvent::Interest` lists up to `token`.
    pub fn interest_seen(&self, worker: WorkerId, token: u64) {
        self.inner.interest_seen(worker, token);
    }

    /// Counters since the start.
    pub fn stats(&self) -> ForwardStats {
        self.inner.stats()
    }

    /// Ends all streams and tasks, without a word to the workers. Nothing can be sent afterwards. Dropping the
    /// handles does not do this: the tasks hold the state too.
    pub fn stop(&self) {
        self.inner.stop();
    }
}

#[cfg(test)]
mod tests;
