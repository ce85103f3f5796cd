//! Driver of the session shards: workers claim client IDs through [`Sessions`], and on the leader of each shard
//! the shepherd tells holders to stop and waiting connections that they serve (R4, R5).
//!
//! A free claim costs one commit, which it shares with what came while another was under way. A takeover costs the claim's commit, a notice to the holder, the release's
//! commit, and a notice to the one that waited; each step starts the next without a timer. A claim that would take
//! a client from one that this node had not heard of costs one commit more. Every notice is only a hint: what must be
//! revoked is sent again from the shard's state until it is released, and who waits asks again. What is proposed
//! goes through a numbered stream a shard (R13).

mod beat;
mod board;
mod courier;
mod durable;
mod forget;
mod node;
pub mod pace;
pub mod registry;
mod shepherd;
mod sizes;
mod streams;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_resting;
pub mod wills;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use self::board::{Board, Watcher};
use self::courier::Courier;
use self::node::Pursuit;
use self::registry::{Act, Begin, REST, Registry};
use self::streams::Streams;
use self::wills::Wills;
use crate::clock::SharedClock;
use crate::consensus::SharedConsensus;
use crate::control::{Notice, Notices, SharedControl, SharedMeta};
use crate::handle::{ClaimEvent, ClaimRefusal, ClaimRequest, ClaimWill, ClusterEvent, Leave, SharedWorkerPort};
use crate::ids::{BrokerId, ClientId, Epoch, NodeId, Nonce, WorkerId};
use crate::leases::driver::Lease;
use crate::limits::{CLAIM_RESEND, CLAIM_TIMEOUT};
use crate::sessions::{ClaimKey, Claimant, Will};

/// Connections of this node that may wait for their claim at one time; more are refused. A broker's may use as many of
/// these places as they leave to the others' (R19).
const MAX_WAITING: usize = 131_072;
/// Releases of this node that may be on their way at one time. More are left to the next claimant's revocation.
const MAX_RELEASING: usize = 1 << 20;
/// Claims of this node that may rest at one time. More are given back at once.
const MAX_RESTING: usize = 65_536;
/// Pause before a claim that found no room is made again.
const RETRY: Duration = Duration::from_millis(50);
/// Who waits asks again this often, in case that the notice was lost.
const ASK_AGAIN: Duration = Duration::from_millis(1000);

const _: () = assert!(CLAIM_RESEND.as_millis() < ASK_AGAIN.as_millis());
const _: () = assert!(REST.as_millis() <= CLAIM_RESEND.as_millis());
const _: () = assert!(ASK_AGAIN.as_millis() * 2 < CLAIM_TIMEOUT.as_millis());

/// Counts since the start.
#[derive(Debug, Default)]
pub struct ClaimStats {
    /// Claims made by this node's connections.
    pub claims: AtomicU64,
    /// Those of them that went on with the claim of an earlier connection of their client.
    pub inherited: AtomicU64,
    /// Claims refused because too many connections wait.
    pub refused_full: AtomicU64,
    /// Claims refused because their broker has all the sessions that it may.
    pub sessions_refused: AtomicU64,
    /// SUBSCRIBEs refused because its sessions have all the bytes of filters that they may.
    pub filters_refused: AtomicU64,
    /// Claims that got no answer in `limits::CLAIM_TIMEOUT`.
    pub timed_out: AtomicU64,
    /// Releases given up for want of room, or because a shard's replica here has stopped.
    pub releases_dropped: AtomicU64,
    /// Revocations sent again as leader (R4).
    pub revocations_resent: AtomicU64,
    /// Revocations reported as not carried out (R4).
    pub revocations_stuck: AtomicU64,
    /// Notices dropped because a node takes them too slowly.
    pub notices_dropped: AtomicU64,
}

/// The claims of this node's connections, and the shards led here. Cheap to clone; calls never wait.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    node: NodeId,
    clock: SharedClock,
    consensus: SharedConsensus,
    meta: SharedMeta,
    control: SharedControl,
    lease: Lease,
    board: Board,
    runtime: Handle,
    ports: RwLock<Vec<Option<SharedWorkerPort>>>,
    registry: Mutex<Registry<Pursuit>>,
    streams: Streams,
    /// What is to be posted to workers, at most as much as [`Registry`] has entries and notices bring; the bell rings for
    /// the first.
    outgoing: Mutex<Vec<(WorkerId, ClaimEvent)>>,
    gathers: Notify,
    wills: Mutex<Wills>,
    courier: Courier,
    stats: ClaimStats,
    tasks: Mutex<JoinSet<()>>,
}

impl Sessions {
    /// Starts the driver on the current tokio runtime (the control plane's: R18). The replicas of the shards
    /// must have been made by `board`.
    pub fn start(
        node: NodeId,
        clock: SharedClock,
        consensus: SharedConsensus,
        meta: SharedMeta,
        control: SharedControl,
        lease: Lease,
        board: Board,
    ) -> Self {
        let inner = Inner {
            node,
            clock,
            streams: Streams::new(consensus.clone(), meta.clone(), Handle::current()),
            outgoing: Mutex::default(),
            gathers: Notify::new(),
            wills: Mutex::default(),
            consensus,
            meta,
            courier: Courier::new(control.clone()),
            control,
            lease,
            board,
            runtime: Handle::current(),
            ports: RwLock::default(),
            registry: Mutex::new(Registry::new(MAX_WAITING, MAX_RELEASING, MAX_RESTING)),
            stats: ClaimStats::default(),
            tasks: Mutex::default(),
        };
        let sessions = Self(Arc::new(inner));
        let mut tasks = sessions.0.tasks.lock();
        tasks.spawn(sessions.clone().follow_life());
        tasks.spawn(shepherd::run(sessions.clone()));
        tasks.spawn(sessions.clone().let_time_pass());
        tasks.spawn(sessions.clone().post_gathered());
        drop(tasks);
        sessions
    }

    /// Where `worker`'s answers go.
    pub fn attach(&self, worker: WorkerId, port: SharedWorkerPort) {
        let mut ports = self.0.ports.write();
        let at = usize::from(worker.0);
        if ports.len() <= at {
            ports.resize_with(at + 1, || None);
        }
        ports[at] = Some(port);
    }

    /// Claims a client ID for a connection. The answer is one [`ClaimEvent`], `Granted` or `Refused`, within
    /// `limits::CLAIM_TIMEOUT`.
    pub fn claim(&self, request: ClaimRequest) {
        self.0.stats.claims.fetch_add(1, Ordering::Relaxed);
        let Some(life) = self.0.lease.life() else { return self.refuse(&request, ClaimRefusal::Unavailable) };
        let key = ClaimKey { broker: request.broker, client: request.client.clone() };
        let by = Claimant { life, nonce: request.nonce };
        let plain = request.will.is_none() && request.session_expiry == 0;
        let begun = self.0.registry.lock().begin(key.clone(), by, request.worker, Pursuit::Begun, plain);
        match begun {
            Begin::Serves(event) => {
                self.0.stats.inherited.fetch_add(1, Ordering::Relaxed);
                // To itself: whoever asks is about to look.
                self.post_any(request.worker, ClusterEvent::Claim(event));
            }
            Begin::Ask => self.ask(self.wish(key, by, request)),
            Begin::AskAfter(ending) => {
                self.give_back(ending);
                self.ask(self.wish(key, by, request));
            }
            Begin::Known => {}
            Begin::Full => {
                self.0.stats.refused_full.fetch_add(1, Ordering::Relaxed);
                self.refuse(&request, ClaimRefusal::Unavailable);
            }
        }
    }

    fn wish(&self, key: ClaimKey, by: Claimant, request: ClaimRequest) -> node::Wish {
        let (clean_start, session_expiry) = (request.clean_start, request.session_expiry);
        let will = request.will.map(|ClaimWill { message, delay }| Will { message, delay });
        node::Wish { key, by, clean_start, session_expiry, will, since: self.0.clock.now() }
    }

    /// The connection serves the client no more: it closed, or was revoked, or is gone when its grant came.
    pub fn release(&self, broker: BrokerId, client: ClientId, epoch: Epoch, nonce: Nonce, leave: Leave) {
        let now = self.0.clock.now();
        let act = self.0.registry.lock().release(now, ClaimKey { broker, client }, nonce, epoch, leave);
        self.act(act);
    }

    /// The connection is gone before its claim was answered.
    pub fn abandon(&self, broker: BrokerId, client: ClientId, nonce: Nonce) {
        let act = self.0.registry.lock().abandon(&ClaimKey { broker, client }, nonce);
        self.act(act);
    }

    /// Counts since the start.
    pub fn stats(&self) -> &ClaimStats {
        &self.0.stats
    }

    /// How many connections of this node hold a claim, and how many wait for one.
    pub fn counts(&self) -> (usize, usize) {
        self.0.registry.lock().counts()
    }

    /// How many claims rest.
    #[cfg(test)]
    fn rests(&self) -> usize {
        self.0.registry.lock().rests()
    }

    /// Stops the tasks, as a crash would.
    pub fn stop(&self) {
        self.0.tasks.lock().abort_all();
        self.0.streams.stop();
    }

    /// Claims of a life that is over are void: whoever waits is refused; the workers close the others.
    async fn follow_life(self) {
        let mut status = self.0.lease.status();
        loop {
            let life = status.borrow_and_update().life;
            let acts = self.0.registry.lock().keep_only(life);
            acts.into_iter().for_each(|act| self.act(Some(act)));
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    /// Gives back what has rested, and refuses claims of which nothing was heard for too long.
    async fn let_time_pass(self) {
        loop {
            tokio::time::sleep(REST).await;
            let now = self.0.clock.now();
            let rested = self.0.registry.lock().end_rest(now);
            rested.into_iter().for_each(|act| self.act(Some(act)));
            self.end_patience(now);
        }
    }

    fn refuse(&self, request: &ClaimRequest, why: ClaimRefusal) {
        let (broker, client, nonce) = (request.broker, request.client.clone(), request.nonce);
        self.post(request.worker, ClaimEvent::Refused { broker, client, nonce, why });
    }

    /// What many claims lead to at one moment is posted together: to wake a worker costs more than a claim.
    fn post(&self, worker: WorkerId, event: ClaimEvent) {
        let mut outgoing = self.0.outgoing.lock();
        outgoing.push((worker, event));
        if outgoing.len() == 1 {
            drop(outgoing);
            self.0.gathers.notify_one();
        }
    }

    async fn post_gathered(self) {
        loop {
            self.0.gathers.notified().await;
            // Whoever is about to post does so before this goes on.
            tokio::task::yield_now().await;
            let events = std::mem::take(&mut *self.0.outgoing.lock());
            let mut by_worker: BTreeMap<WorkerId, Vec<ClusterEvent>> = BTreeMap::new();
            for (worker, event) in events {
                by_worker.entry(worker).or_default().push(ClusterEvent::Claim(event));
            }
            for (worker, events) in by_worker {
                self.port_of(worker, |port| port.post_all(events));
            }
        }
    }

    fn post_any(&self, worker: WorkerId, event: ClusterEvent) {
        self.port_of(worker, |port| port.post(event));
    }

    fn port_of(&self, worker: WorkerId, post: impl FnOnce(&SharedWorkerPort)) {
        let ports = self.0.ports.read();
        match ports.get(usize::from(worker.0)) {
            Some(Some(port)) => post(port),
            _ => tracing::error!(%worker, "a claim was answered, but its worker has no mailbox"),
        }
    }

    fn act(&self, act: Option<Act>) {
        match act {
            None => {}
            Some(Act::Post(worker, event)) => self.post(worker, event),
            Some(Act::Release(ending)) => self.give_back(ending),
            Some(Act::Both(worker, event, ending)) => {
                self.post(worker, event);
                self.give_back(ending);
            }
            Some(Act::Withdraw(key, by)) => self.withdraw(key, by),
            Some(Act::Renew(key, grant)) => self.renew(key, grant),
            Some(Act::Hurry(key)) => self.0.streams.hurry(self.0.meta.group_of(key.broker, &key.client)),
            Some(Act::Dropped) => {
                self.0.stats.releases_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Notices for Sessions {
    fn notices(&self, notices: Vec<Notice>) {
        for notice in notices {
            let act = self.0.registry.lock().notice(notice);
            self.act(act);
        }
    }
}
