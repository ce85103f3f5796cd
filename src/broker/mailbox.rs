//! What other threads tell a worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::handle::{ClusterEvent, Holder, Run, SessionAsked, WorkerPort};
use rookery_cluster::ids::{BrokerId, WorkerId};
use rookery_cluster::retained::Page;
use tokio::sync::Notify;

use super::core::{Admitted, ConnKey, Fetched, Settings, Transport};
use super::transport::Incoming;
use crate::mqtt::codec::ReasonCode;

/// A batch from another worker of this node.
#[derive(Debug)]
pub struct LocalBatch {
    /// The worker that sent it.
    pub from: WorkerId,
    /// Its number on the way from that worker to this one, from 1.
    pub seq: u64,
    /// The publishes.
    pub runs: Vec<Run>,
}

/// Where the answer to [`SessionAsked`] goes.
pub type Answer = Box<dyn FnOnce(Fetched) + Send>;

/// Whom to tell that a worker has handed over what it had, or cannot say.
pub type Drained = Box<dyn FnOnce(bool) + Send>;

/// One message to a worker.
#[expect(missing_docs, reason = "each variant's text tells its fields")]
pub enum Mail {
    /// From the cluster's drivers.
    Cluster(ClusterEvent),
    /// A new connection, `spent` after it was accepted: that is part of the time that it has for its CONNECT.
    Adopt {
        incoming: Box<Incoming>,
        from: SocketAddr,
        server_name: Option<Arc<str>>,
        transport: Transport,
        spent: Duration,
    },
    /// A token was checked.
    Authenticated { conn: ConnKey, result: Result<Admitted, ReasonCode> },
    /// Publishes from another worker of this node.
    Local(LocalBatch),
    /// Another worker of this node accepted this worker's batches up to `through`.
    LocalAccepted { from: WorkerId, through: u64 },
    /// A worker that goes on with a session kept here asks for its subscriptions, or takes it.
    Asked { asked: SessionAsked, answer: Answer },
    /// Calls back once everything of `broker` that came for `to` so far is there, or with `false`.
    Drain { broker: BrokerId, to: Holder, answer: Drained },
    /// What the worker that keeps a session answered.
    Fetched { conn: ConnKey, reply: Fetched },
    /// The store has that many batches on disk, up to `through`.
    Stored { batches: usize, through: u64 },
    /// A page that was read for a subscriber.
    Retained { conn: ConnKey, broker: BrokerId, filter: Arc<str>, page: Page },
    /// What restricts the connections of `broker` (of all, if `None`) may have changed.
    Recheck { broker: Option<BrokerId> },
    /// A broker's limits changed.
    Reconfigured { broker: BrokerId, settings: Arc<Settings> },
    /// Ends every connection.
    CloseAll { reason: ReasonCode },
    /// Calls back once everything posted before is done.
    Sync(Box<dyn FnOnce() + Send>),
    /// Ends every connection, flushes, and ends the thread.
    Stop { reason: ReasonCode },
}

/// A worker's mailbox. Posting takes one short lock and never waits. What may stand in it is bounded by others:
/// publishes by the credit of the streams and siblings they come from, answers by the connections that asked,
/// new connections by the listeners' cap.
#[derive(Default)]
pub struct Mailbox {
    queue: Mutex<Vec<Mail>>,
    arrived: Notify,
}

impl Mailbox {
    /// Hands `mail` to the worker.
    pub fn post(&self, mail: Mail) {
        let was_empty = {
            let mut queue = self.queue.lock();
            queue.push(mail);
            queue.len() == 1
        };
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Hands them all to the worker, which is woken once.
    pub fn post_all(&self, mail: impl IntoIterator<Item = Mail>) {
        let was_empty = {
            let mut queue = self.queue.lock();
            let was_empty = queue.is_empty();
            queue.extend(mail);
            was_empty && !queue.is_empty()
        };
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Whether nothing has come since.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }

    /// Swaps everything that came with `into` (empty), waiting for the first.
    pub async fn collect(&self, into: &mut Vec<Mail>) {
        loop {
            std::mem::swap(&mut *self.queue.lock(), into);
            if !into.is_empty() {
                return;
            }
            self.arrived.notified().await;
        }
    }
}

impl WorkerPort for Mailbox {
    fn post(&self, event: ClusterEvent) {
        Mailbox::post(self, Mail::Cluster(event));
    }

    fn post_all(&self, events: Vec<ClusterEvent>) {
        Mailbox::post_all(self, events.into_iter().map(Mail::Cluster));
    }
}
