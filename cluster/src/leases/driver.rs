//! Driver. A node keeps its lease; the metadata leader ends those that ran out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{error, info, warn};

use super::{Ask, Holder, LeaseTable, Verdict};
use crate::clock::{Moment, SharedClock};
use crate::consensus::{GroupStatus, SharedConsensus};
use crate::control::{SharedControl, SharedMeta};
use crate::ids::{GroupId, NodeId, NodeLife, WorkerId};
use crate::limits::{LEASE, LEASE_ANSWER, LEASE_ASKS, LEASE_RENEW_EVERY, PROPOSE_TIMEOUT};

/// Pause after a request that failed: a few fit between two renewals.
const RETRY: Duration = Duration::from_millis(200);
/// How often the leader looks for leases that ran out.
const CHECK_EVERY: Duration = Duration::from_millis(250);
const _: () = assert!(RETRY.as_millis() * 4 < LEASE_RENEW_EVERY.as_millis());
const _: () = assert!(CHECK_EVERY.as_millis() * 4 < LEASE.as_millis());

/// How this node's lease stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The registered life. When it is replaced or gone, all claims of the earlier one are void and all its
    /// connections must be closed.
    pub life: Option<NodeLife>,
    /// Whether the lease is held. When it lapses, strict brokers' connections must be closed; the life goes on
    /// if the lease is renewed before group 0 ends it.
    pub held: bool,
    /// A later life that this process did not begin: another runs as this node, and this one keeps no lease any more.
    pub superseded: Option<NodeLife>,
}

/// What went wrong, as counts since the start.
#[derive(Debug, Default)]
pub struct LeaseStats {
    /// Times that the lease lapsed.
    pub lapsed: AtomicU64,
    /// Requests that were not sent, as a worker stood still (R4).
    pub stuck_workers: AtomicU64,
    /// Requests that failed or were not granted.
    pub not_granted: AtomicU64,
    /// Lives whose expiry this node proposed as leader.
    pub expiries: AtomicU64,
    /// Lives that were reported to this node as leader, for not carrying out a revocation (R4).
    pub reported_stuck: AtomicU64,
}

/// This node's lease, and on the metadata leader the table of all. Cheap to clone.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    node: NodeId,
    clock: SharedClock,
    consensus: SharedConsensus,
    meta: SharedMeta,
    control: SharedControl,
    /// Nanoseconds of the [`Moment`] before which this node may serve; 0 if it may not.
    until: AtomicU64,
    status: watch::Sender<LeaseStatus>,
    workers: Mutex<Vec<Arc<AtomicU64>>>,
    table: Mutex<LeaseTable>,
    stats: LeaseStats,
    tasks: Mutex<JoinSet<()>>,
    /// Stops renewing, but not the leader's side.
    holder: Mutex<Option<AbortHandle>>,
}

impl Lease {
    /// Registers a life of `node`, keeps its lease and, while this node leads group 0, ends those of others; on
    /// tasks of the current tokio runtime.
    pub fn start(
        node: NodeId,
        clock: SharedClock,
        consensus: SharedConsensus,
        meta: SharedMeta,
        control: SharedControl,
    ) -> Self {
        let inner = Inner {
            node,
            clock,
            consensus,
            meta,
            control,
            until: AtomicU64::new(0),
            status: watch::Sender::new(LeaseStatus::default()),
            workers: Mutex::default(),
            table: Mutex::default(),
            stats: LeaseStats::default(),
            tasks: Mutex::default(),
            holder: Mutex::default(),
        };
        let lease = Self(Arc::new(inner));
        let mut tasks = lease.0.tasks.lock();
        *lease.0.holder.lock() = Some(tasks.spawn(lease.clone().hold()));
        tasks.spawn(lease.clone().watch_lapse());
        tasks.spawn(lease.clone().lead());
        drop(tasks);
        lease
    }

    /// This node may serve strictly before this moment of its own clock. One atomic read.
    pub fn serving_until(&self) -> Moment {
        Moment(Duration::from_nanos(self.0.until.load(Ordering::Acquire)))
    }

    /// Whether this node may serve now.
    pub fn may_serve(&self) -> bool {
        self.0.clock.now() < self.serving_until()
    }

    /// The registered life, if there is one.
    pub fn life(&self) -> Option<NodeLife> {
        self.0.status.borrow().life
    }

    /// How the lease stands, and each change.
    pub fn status(&self) -> watch::Receiver<LeaseStatus> {
        self.0.status.subscribe()
    }

    /// The counter that `worker` must raise at least once in `limits::LEASE_RENEW_EVERY`, or the lease is not
    /// renewed (R4).
    pub fn worker_progress(&self, worker: WorkerId) -> Arc<AtomicU64> {
        let mut workers = self.0.workers.lock();
        let at = usize::from(worker.0);
        if workers.len() <= at {
            workers.resize_with(at + 1, Arc::default);
        }
        workers[at].clone()
    }

    /// Counts since the start.
    pub fn stats(&self) -> &LeaseStats {
        &self.0.stats
    }

    /// As the metadata leader: the answer to a request by `life`, which must have arrived before this call (R2).
    pub async fn renew_for(&self, life: NodeLife) -> Verdict {
        let it = &self.0;
        if it.consensus.confirm_leadership(GroupId::METADATA).await.is_err() {
            return Verdict::NotLeader;
        }
        let status = it.consensus.status(GroupId::METADATA);
        let live = it.meta.live().contains(&life);
        if !live && !it.meta.has_ended(life) {
            // Registered, but not applied here yet: it may ask again.
            return Verdict::NotLeader;
        }
        let mut table = it.table.lock();
        if !status.leads || table.term() != Some(status.term) {
            return Verdict::NotLeader;
        }
        if it.meta.is_drained(life.node) {
            table.stuck(life);
        }
        table.renew(it.clock.now(), life, live)
    }

    /// As the metadata leader: `from` reports that `life` does not carry out a revocation.
    pub fn stuck(&self, life: NodeLife, from: NodeId) {
        self.0.stats.reported_stuck.fetch_add(1, Ordering::Relaxed);
        error!(%life, reported_by = %from, "a node does not carry out a revocation; its lease will not be renewed");
        self.0.table.lock().stuck(life);
    }

    /// Serves no more: ends this life in group 0, so that nobody has to wait for it, and stops renewing. To be
    /// called after all connections were closed.
    pub async fn end(&self) {
        if let Some(holder) = self.0.holder.lock().take() {
            holder.abort();
        }
        self.0.until.store(0, Ordering::Release);
        let status = self.0.status.send_replace(LeaseStatus::default());
        if let Some(life) = status.life
            && let Err(why) = self.0.meta.expire(life, None).await
        {
            warn!(%life, %why, "could not end this life; it runs out with its lease");
        }
    }

    /// Stops all tasks, as a crash would.
    pub fn stop(&self) {
        self.0.tasks.lock().abort_all();
    }

    // ---- the holder's side ----

    async fn hold(self) {
        loop {
            let life = self.register().await;
            info!(%life, "registered");
            self.0.status.send_replace(LeaseStatus { life: Some(life), ..LeaseStatus::default() });
            self.keep(life).await;
            self.0.until.store(0, Ordering::Release);
            let superseded = self.superseded(life).await;
            self.0.status.send_replace(LeaseStatus { superseded, ..LeaseStatus::default() });
            if let Some(other) = superseded {
                error!(%life, %other, "another process runs as this node; this one serves no more");
                return;
            }
            warn!(%life, "the cluster ended this life; registering another");
        }
    }

    /// The later life that ended `life`, if that is how it ended: this process begins none before the last is over.
    async fn superseded(&self, life: NodeLife) -> Option<NodeLife> {
        // The leader may know of the end before this node does.
        let _known_or_not = tokio::time::timeout(PROPOSE_TIMEOUT, self.ended(life)).await;
        self.0.meta.newest(life.node).filter(|newest| *newest > life)
    }

    async fn ended(&self, life: NodeLife) {
        loop {
            let applied = self.0.meta.applied();
            if self.0.meta.has_ended(life) {
                return;
            }
            self.0.meta.changed(applied).await;
        }
    }

    /// Registers a life, and waits until this node has applied that: so it knows every revocation that was
    /// acknowledged without it (P2).
    async fn register(&self) -> NodeLife {
        loop {
            match self.0.meta.register().await {
                Ok(life) => {
                    self.seen(life).await;
                    return life;
                }
                Err(why) => {
                    info!(%why, "could not register yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn seen(&self, life: NodeLife) {
        loop {
            let applied = self.0.meta.applied();
            if self.0.meta.live().contains(&life) || self.0.meta.has_ended(life) {
                return;
            }
            self.0.meta.changed(applied).await;
        }
    }

    /// Keeps the lease of `life` until group 0 has ended it.
    async fn keep(&self, life: NodeLife) {
        let mut holder = Holder::new(life);
        let mut asks = FuturesUnordered::new();
        loop {
            let wait = holder.next_ask().since(self.0.clock.now());
            tokio::select! {
                Some((sent, verdict)) = asks.next() => if self.answered(&mut holder, sent, verdict) {
                    return;
                },
                () = tokio::time::sleep(wait), if asks.len() < LEASE_ASKS => {
                    if self.0.meta.has_ended(life) {
                        return;
                    }
                    if let Some(sent) = self.may_ask(&mut holder) {
                        asks.push(async move { (sent, self.ask(life).await) });
                    }
                }
            }
        }
    }

    /// The moment that the lease will count from, if the workers' progress allows a request.
    fn may_ask(&self, holder: &mut Holder) -> Option<Moment> {
        let turns: Vec<u64> = self.0.workers.lock().iter().map(|w| w.load(Ordering::Relaxed)).collect();
        let sent = self.0.clock.now();
        match holder.ask(sent, &turns) {
            Ask::Send => Some(sent),
            Ask::Stuck(workers) => {
                self.0.stats.stuck_workers.fetch_add(1, Ordering::Relaxed);
                error!(?workers, "workers stand still; the lease is not renewed");
                None
            }
        }
    }

    /// Whether the life is over.
    fn answered(&self, holder: &mut Holder, sent: Moment, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Granted => {
                holder.granted(sent);
                self.granted(holder.serving_until());
            }
            Verdict::Ended => return true,
            Verdict::Refused | Verdict::NotLeader => {
                self.0.stats.not_granted.fetch_add(1, Ordering::Relaxed);
                holder.failed(self.0.clock.now() + RETRY);
            }
        }
        false
    }

    async fn ask(&self, life: NodeLife) -> Verdict {
        let Some(leader) = self.0.consensus.status(GroupId::METADATA).leader else { return Verdict::NotLeader };
        if leader == self.0.node {
            let answer = tokio::time::timeout(LEASE_ANSWER, self.renew_for(life)).await;
            return answer.unwrap_or(Verdict::NotLeader);
        }
        match self.0.control.renew(leader, life).await {
            Ok(verdict) => verdict,
            Err(why) => {
                info!(%leader, %why, "the lease was not renewed");
                Verdict::NotLeader
            }
        }
    }

    fn granted(&self, until: Moment) {
        self.0.until.store(u64::try_from(until.0.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        let held = self.0.clock.now() < until;
        self.0.status.send_if_modified(|s| std::mem::replace(&mut s.held, held) != held);
    }

    /// Tells when the lease lapses, whatever the other tasks wait for.
    async fn watch_lapse(self) {
        let mut status = self.0.status.subscribe();
        loop {
            if status.borrow_and_update().held {
                let left = self.serving_until().since(self.0.clock.now());
                if left.is_zero() {
                    self.lapsed();
                } else {
                    tokio::time::sleep(left).await;
                }
            } else if status.changed().await.is_err() {
                return;
            }
        }
    }

    fn lapsed(&self) {
        let lapsed = self.0.status.send_if_modified(|s| !self.may_serve() && std::mem::take(&mut s.held));
        if lapsed {
            self.0.stats.lapsed.fetch_add(1, Ordering::Relaxed);
            warn!("the lease lapsed; strict brokers are not served");
        }
    }

    // ---- the leader's side ----

    async fn lead(self) {
        loop {
            let status = self.0.consensus.status(GroupId::METADATA);
            if !status.leads {
                self.0.table.lock().follow();
            } else if self.leads(&status).await {
                self.end_due(status.term).await;
            }
            let changed = self.0.consensus.changed(GroupId::METADATA, status);
            let _either = tokio::time::timeout(CHECK_EVERY, changed).await;
        }
    }

    /// Whether the table serves this term; makes it, once all earlier terms are applied here and no earlier
    /// leader can end a life any more.
    async fn leads(&self, status: &GroupStatus) -> bool {
        if self.0.table.lock().term() == Some(status.term) {
            return true;
        }
        self.0.table.lock().follow();
        let applied = self.0.consensus.linearize(GroupId::METADATA).await;
        if applied.is_err() || self.0.meta.lead_leases(status.term).await.is_err() {
            return false;
        }
        let now = self.0.consensus.status(GroupId::METADATA);
        let leads = now.leads && now.term == status.term;
        if leads && self.0.table.lock().lead(status.term) {
            info!(term = status.term, "leading the leases");
        }
        leads
    }

    async fn end_due(&self, term: u64) {
        let live = self.0.meta.live();
        let due = self.0.table.lock().due(self.0.clock.now(), &live);
        let ends = due.into_iter().map(|life| async move {
            warn!(%life, "a lease ran out; ending that life");
            match self.0.meta.expire(life, Some(term)).await {
                Ok(()) => drop(self.0.stats.expiries.fetch_add(1, Ordering::Relaxed)),
                Err(why) => warn!(%life, %why, "its end was not committed"),
            }
        });
        futures_util::future::join_all(ends).await;
    }
}
