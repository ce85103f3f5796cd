//! Retained messages between nodes: taking those that are published, and copying what is lacking.
//!
//! Why nothing is missed while a node `N` starts. `N` copies from a live peer `A` only after all workers of `A` have
//! confirmed interest of this life of `N` (its first snapshot, which all workers hear of, empty as it may be). `A` puts `N` among the
//! [`Replicas`] before its workers can hear of it, and each worker hands on what it gathered before it confirms. So a
//! publish at `A` either went to `N` as well, or is in `A`'s table before `N` reads it. The first digests also say `A`'s
//! time, before which nothing is written at `N`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rookery_proto::forward as proto;
use tokio::sync::Notify;
use tonic::{Request, Status};

use super::driver::{ANSWER_TIMEOUT, BACKOFF_FIRST, BACKOFF_MOST, Inner};
use super::wire;
use crate::handle::{ClusterEvent, ForwardedBatch, Replicas, Run};
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife};
use crate::limits;
use crate::net::Purpose;
use crate::retained::store::{Durable, Store, Write};
use crate::retained::{Ask, BUCKETS, Came, Comparison, Copied, Digests, Next, Pages, Replication, Time};

/// Brokers whose digests travel in one answer: half a KiB each.
const BROKERS_AT_ONCE: usize = 256;
/// What one answer holds. Topics that are passed over cost a hash each.
const ANSWER: Pages = Pages { messages: 4096, bytes: limits::RETAINED_CHUNK_BYTES, steps: 16_384 };

/// This node's store, and how far it has come.
pub(super) struct Retained {
    store: Store,
    replication: Mutex<Replication>,
    replicas: RwLock<Arc<Replicas>>,
    /// Told when the gate may have opened.
    news: Notify,
    /// Told when all peers are to be compared with once more.
    again: Notify,
}

impl Retained {
    pub(super) fn new(store: Store, own: NodeId) -> Self {
        let replication = Mutex::new(Replication::new(own));
        Self { store, replication, replicas: RwLock::default(), news: Notify::new(), again: Notify::new() }
    }

    pub(super) fn replicas(&self) -> Arc<Replicas> {
        Arc::clone(&self.replicas.read())
    }

    fn others_changed(&self, change: impl FnOnce(&mut Replication)) {
        let mut replication = self.replication.lock();
        change(&mut replication);
        let replicas = Replicas { peers: replication.peers().to_vec(), needed: replication.needed() };
        *self.replicas.write() = Arc::new(replicas);
    }

    /// Takes what a peer's batch keeps; `post` hands the batch to the workers.
    pub(super) fn take(&self, batch: &Arc<ForwardedBatch>, post: impl FnOnce()) {
        let writes: Vec<Write> = batch.runs.iter().flat_map(|run| writes(run, batch.origin.node)).collect();
        let durable = batch.runs.iter().flat_map(|run| &run.retained).any(|retained| retained.durable);
        let done = Arc::clone(batch);
        let done = move || done.receipt.done();
        if durable {
            let tell: Durable = Box::new(done);
            self.store.take(&writes, Came::Published, Some(tell), post);
        } else {
            self.store.take(&writes, Came::Published, None, post);
            done();
        }
    }
}

pub(super) fn writes(run: &Run, node: NodeId) -> impl Iterator<Item = Write> {
    let broker = run.broker;
    run.records(node).map(move |(topic, record)| Write { broker, topic, record })
}

impl Inner {
    pub(super) fn set_members(&self, members: BTreeSet<NodeId>) {
        let Some(retained) = &self.retained else { return };
        retained.others_changed(|replication| replication.on_members(members));
        self.check_gate();
    }

    pub(super) fn retained_live(&self, live: &BTreeMap<NodeId, Incarnation>) {
        let Some(retained) = &self.retained else { return };
        retained.others_changed(|replication| replication.on_live(&live.keys().copied().collect()));
        self.check_gate();
    }

    /// R15: a peer whose clock is ahead is refused, until the time has come.
    pub(super) fn check_times(&self, runs: &[Run]) -> Result<(), Status> {
        let Some(retained) = &self.retained else { return Ok(()) };
        for written in runs.iter().flat_map(|run| &run.retained) {
            retained.store.check(written.time).map_err(|ahead| {
                tracing::warn!(%ahead, "retained message of a peer refused");
                Status::unavailable(ahead.to_string())
            })?;
        }
        Ok(())
    }

    /// Tells the workers, once each, that this node's time is in step and that it has everything.
    fn check_gate(&self) {
        let Some(retained) = &self.retained else { return };
        if retained.replication.lock().falls_in_step() {
            self.ports.iter().for_each(|port| port.post(ClusterEvent::RetainedInStep));
        }
        if retained.replication.lock().again(self.clock.now()) {
            retained.again.notify_waiters();
        }
        if !retained.replication.lock().completes(retained.store.sound()) {
            return;
        }
        retained.store.caught_up();
        self.ports.iter().for_each(|port| port.post(ClusterEvent::RetainedComplete));
        retained.news.notify_one();
    }

    async fn until_heard_by(&self, peer: NodeLife) {
        loop {
            let news = self.acknowledged.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.interest.lock().heard_by(peer) {
                return;
            }
            news.await;
        }
    }
}

/// Copies from one peer life what this node lacks, at once and then every now and then, until the task is aborted.
pub(super) async fn run(inner: Arc<Inner>, peer: NodeLife) {
    let Some(retained) = &inner.retained else { return };
    inner.until_heard_by(peer).await;
    let mut pause = BACKOFF_FIRST;
    loop {
        let again = retained.again.notified();
        tokio::pin!(again);
        again.as_mut().enable();
        let began = inner.clock.now();
        match copy(&inner, retained, peer).await {
            Ok(copied) => {
                retained.replication.lock().on_copied(peer.node, began, copied);
                inner.check_gate();
                pause = BACKOFF_FIRST;
                let _ = tokio::time::timeout(limits::RETAINED_COMPARE_EVERY, again).await;
            }
            Err(why) => {
                tracing::debug!(%peer, error = %why, "retained messages are not compared");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF_MOST);
            }
        }
    }
}

async fn copy(inner: &Inner, retained: &Retained, peer: NodeLife) -> Result<Copied, Status> {
    let store = &retained.store;
    let mut client = inner.client(peer.node, Purpose::Control)?;
    let hello = Some(wire::hello(inner.own, peer));
    let (mut comparison, mut ask) = Comparison::begin();
    loop {
        let next = match ask {
            Ask::Digests(after) => {
                let request = proto::RetainedDigestsRequest { hello, after: after.map(wire::broker_name) };
                let reply = within(client.retained_digests(request)).await?;
                if let Err(ahead) = store.follow(Time(reply.latest))
                    && retained.replication.lock().waits_for(peer.node)
                {
                    return Err(Status::unavailable(ahead.to_string()));
                }
                retained.replication.lock().on_followed(peer.node);
                inner.check_gate();
                let theirs: Option<Vec<_>> = reply.brokers.iter().map(digests_of).collect();
                let theirs = theirs
                    .ok_or_else(|| Status::invalid_argument("digests without a broker, or not as many as buckets"))?;
                comparison.on_digests(&theirs, reply.more, reply.sound, |broker| store.digests_of(broker))
            }
            Ask::Records { broker, buckets, after } => {
                let after = after.unwrap_or_default();
                let name = Some(wire::broker_name(broker));
                let request = proto::RetainedRecordsRequest { hello, broker: name, buckets, after };
                let reply = within(client.retained_records(request)).await?;
                let writes: Vec<Write> = reply.records.into_iter().map(|it| wire::parse_record(broker, it)).collect();
                let took = store.copy(&writes).map_err(|ahead| Status::unavailable(ahead.to_string()))?;
                comparison.on_records(took, Some(reply.next).filter(|next| !next.is_empty()))
            }
        };
        match next {
            Next::Ask(next) => ask = next,
            Next::Done(copied) => return Ok(copied),
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(reply) => reply.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer")),
    }
}

pub(super) fn digests_of(broker: &proto::BrokerDigests) -> Option<(BrokerId, Digests)> {
    let digests: [u64; BUCKETS] = broker.sums.as_slice().try_into().ok()?;
    Some((wire::parse_broker(broker.broker.as_ref()?), digests))
}

/// Time passes for the store; comparisons that find nothing new show that the node is up to date still.
pub(super) async fn tick(inner: Arc<Inner>) {
    let Some(retained) = &inner.retained else { return };
    retained.news.notified().await;
    loop {
        let confirmed = retained.replication.lock().confirmed(inner.clock.now());
        retained.store.tick(confirmed);
        tokio::time::sleep(limits::RETAINED_COMPARE_EVERY).await;
        retained.store.caught_up();
    }
}

/// Answers a peer that compares.
pub(super) fn digests(
    inner: &Inner,
    request: &Request<proto::RetainedDigestsRequest>,
) -> Result<proto::RetainedDigestsReply, Status> {
    let asked = request.get_ref();
    let store = admitted(inner, request, asked.hello.as_ref())?;
    let found = store.digests(asked.after.as_ref().map(wire::parse_broker), BROKERS_AT_ONCE);
    let more = found.len() == BROKERS_AT_ONCE;
    let brokers = found.into_iter().map(|(broker, digests)| proto::BrokerDigests {
        broker: Some(wire::broker_name(broker)),
        sums: digests.to_vec(),
    });
    Ok(proto::RetainedDigestsReply { brokers: brokers.collect(), more, sound: store.sound(), latest: store.latest().0 })
}

/// Answers a peer that copies.
pub(super) fn records(
    inner: &Inner,
    request: &Request<proto::RetainedRecordsRequest>,
) -> Result<proto::RetainedRecordsReply, Status> {
    let asked = request.get_ref();
    let store = admitted(inner, request, asked.hello.as_ref())?;
    let broker = asked.broker.as_ref().ok_or_else(|| Status::invalid_argument("no broker"))?;
    let after = Some(asked.after.as_str()).filter(|after| !after.is_empty());
    let (found, next) = store.records(wire::parse_broker(broker), asked.buckets, after, ANSWER);
    let records = found.into_iter().map(|(topic, record)| wire::record(topic, record)).collect();
    Ok(proto::RetainedRecordsReply { records, next: next.unwrap_or_default() })
}

fn admitted<'a, T>(inner: &'a Inner, request: &Request<T>, hello: Option<&proto::Hello>) -> Result<&'a Store, Status> {
    let hello = hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
    inner.admit(request.extensions(), hello, |_| ())?;
    inner.retained.as_ref().map(|r| &r.store).ok_or_else(|| Status::unimplemented("nothing is retained here"))
}
