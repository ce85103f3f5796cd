//! Several nodes in one process: an ordered log per group that all of them share, metadata that is a table, and
//! a network that can be cut; on tokio's paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{Board, Sessions};
use crate::clock::{Clock, Moment, SharedClock, UnixMillis};
use crate::consensus::{Applied, BoxFuture, Consensus, GroupStatus, ProposeError, Replicated};
use crate::control::{AppliedPort, ControlClient, ControlError, MetaPort, Notice, Notices, SharedMeta};
use crate::handle::{ClaimEvent, ClaimRequest, ClusterEvent, Home, Leave, WorkerPort};
use crate::ids::{BrokerId, Epoch, GroupId, Incarnation, LogIndex, NodeId, NodeLife, Nonce, WorkerId};
use crate::leases::Verdict;
use crate::leases::driver::Lease;
use crate::sessions::Within;

/// What a hop costs.
const HOP: Duration = Duration::from_millis(1);
pub const SHARDS: u32 = 2;
pub const BROKER: BrokerId = BrokerId(1);

struct TokioClock(tokio::time::Instant);
impl Clock for TokioClock {
    #[expect(clippy::disallowed_methods, reason = "the test's clock is tokio's, which stands still")]
    fn now(&self) -> Moment {
        Moment(tokio::time::Instant::now() - self.0)
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(0)
    }
}

#[derive(Default)]
struct Group {
    leader: Option<NodeId>,
    term: u64,
    log: Vec<Bytes>,
    replicas: BTreeMap<NodeId, Box<dyn Replicated>>,
}

#[derive(Clone, Default)]
struct Meta {
    index: u64,
    nodes: BTreeMap<NodeId, (Incarnation, bool)>,
    lease_term: u64,
}

pub struct World {
    pub clock: SharedClock,
    groups: Mutex<BTreeMap<GroupId, Group>>,
    status: watch::Sender<u64>,
    meta: watch::Sender<Meta>,
    /// Nodes that neither send nor receive.
    cut: Mutex<BTreeSet<NodeId>>,
    /// Notices to these are lost.
    pub deaf: Mutex<BTreeSet<NodeId>>,
    /// How many commands were proposed together, each time.
    pub together: Mutex<Vec<(GroupId, usize)>>,
    /// Nodes that are removed as soon as their lease is over.
    pub drained: Mutex<BTreeSet<NodeId>>,
    /// Brokers that are there no more.
    pub deleted: Mutex<BTreeSet<BrokerId>>,
    /// Sessions that a broker may have in a shard; 0: any number.
    pub most_sessions: AtomicU32,
    nodes: Mutex<BTreeMap<NodeId, (Lease, Sessions)>>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the test's clock is tokio's, which stands still")]
    pub fn new() -> Arc<Self> {
        let groups = (0..=SHARDS).map(|g| (GroupId(g), Group { leader: Some(NodeId(1)), term: 1, ..Group::default() }));
        Arc::new(Self {
            clock: Arc::new(TokioClock(tokio::time::Instant::now())),
            groups: Mutex::new(groups.collect()),
            status: watch::Sender::new(0),
            meta: watch::Sender::new(Meta::default()),
            cut: Mutex::default(),
            deaf: Mutex::default(),
            together: Mutex::default(),
            drained: Mutex::default(),
            deleted: Mutex::default(),
            most_sessions: AtomicU32::new(0),
            nodes: Mutex::default(),
        })
    }

    pub fn set_leader(&self, group: GroupId, leader: Option<NodeId>) {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(&group).unwrap();
        (group.leader, group.term) = (leader, group.term + 1);
        drop(groups);
        self.status.send_modify(|n| *n += 1);
    }

    pub fn cut(&self, node: NodeId) {
        self.cut.lock().insert(node);
    }

    pub fn mend(&self, node: NodeId) {
        self.cut.lock().remove(&node);
    }

    fn reach(&self, a: NodeId, b: NodeId) -> bool {
        let cut = self.cut.lock();
        a == b || !(cut.contains(&a) || cut.contains(&b))
    }

    fn leader(&self, group: GroupId, from: NodeId) -> Option<NodeId> {
        self.groups.lock()[&group].leader.filter(|leader| self.reach(from, *leader))
    }

    fn change(&self, from: NodeId, f: impl FnOnce(&mut Meta)) -> Result<(), ProposeError> {
        self.leader(GroupId::METADATA, from).ok_or(ProposeError::Unavailable)?;
        self.meta.send_modify(|meta| {
            meta.index += 1;
            f(meta);
        });
        Ok(())
    }

    pub fn write(&self) -> LogIndex {
        self.meta.send_modify(|meta| meta.index += 1);
        LogIndex(self.meta.borrow().index)
    }

    fn commit(&self, group: GroupId, command: Bytes) -> Applied {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(&group).unwrap();
        group.log.push(command.clone());
        let index = LogIndex(group.log.len() as u64);
        let mut outcome = Bytes::new();
        for (node, replica) in &mut group.replicas {
            let answer = replica.apply(index, &command).unwrap();
            replica.applied(index);
            if Some(*node) == group.leader {
                outcome = answer;
            }
        }
        Applied { index, outcome }
    }
}

struct Raft(Arc<World>, NodeId);
impl Consensus for Raft {
    fn propose(&self, group: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            self.0.leader(group, self.1).ok_or(ProposeError::Unavailable)?;
            Ok(self.0.commit(group, command))
        }
        .boxed()
    }
    fn propose_all(&self, group: GroupId, commands: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Bytes>, ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            self.0.leader(group, self.1).ok_or(ProposeError::Unavailable)?;
            self.0.together.lock().push((group, commands.len()));
            Ok(commands.into_iter().map(|command| self.0.commit(group, command).outcome).collect())
        }
        .boxed()
    }
    fn linearize(&self, group: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            self.0.leader(group, self.1).map(|_| LogIndex(0)).ok_or(ProposeError::Unavailable)
        }
        .boxed()
    }
    fn confirm_leadership(&self, group: GroupId) -> BoxFuture<'_, Result<(), ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            let leads = self.0.leader(group, self.1) == Some(self.1) && !self.0.cut.lock().contains(&self.1);
            if leads { Ok(()) } else { Err(ProposeError::Unavailable) }
        }
        .boxed()
    }
    fn status(&self, group: GroupId) -> GroupStatus {
        let groups = self.0.groups.lock();
        let it = &groups[&group];
        let leads = it.leader == Some(self.1);
        GroupStatus { leader: it.leader, term: it.term, leads, replica: true, ..GroupStatus::default() }
    }
    fn changed(&self, group: GroupId, seen: GroupStatus) -> BoxFuture<'_, GroupStatus> {
        async move {
            let mut watch = self.0.status.subscribe();
            while self.status(group) == seen {
                watch.changed().await.unwrap();
            }
            self.status(group)
        }
        .boxed()
    }
    fn change_membership(&self, _: GroupId, _: Vec<NodeId>, _: Vec<NodeId>) -> BoxFuture<'_, Result<(), ProposeError>> {
        async { Ok(()) }.boxed()
    }
    fn transfer_leader(&self, group: GroupId, to: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
        self.0.set_leader(group, Some(to));
        async { Ok(()) }.boxed()
    }
}

struct Table(Arc<World>, NodeId);
impl MetaPort for Table {
    fn group_of(&self, _: BrokerId, client: &str) -> GroupId {
        GroupId(1 + client.len() as u32 % SHARDS)
    }
    fn within(&self, broker: BrokerId) -> Option<Within> {
        let known = !self.0.deleted.lock().contains(&broker);
        known.then(|| Within::share(self.0.most_sessions.load(Ordering::Relaxed), 0, 1))
    }
    fn deleted(&self, brokers: Vec<BrokerId>) -> BoxFuture<'_, Result<Vec<BrokerId>, ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            let deleted = self.0.deleted.lock();
            Ok(brokers.into_iter().filter(|broker| deleted.contains(broker)).collect())
        }
        .boxed()
    }
    fn live(&self) -> Vec<NodeLife> {
        let meta = self.0.meta.borrow();
        let live = meta.nodes.iter().filter(|(_, (_, live))| *live);
        live.map(|(node, (incarnation, _))| NodeLife { node: *node, incarnation: *incarnation }).collect()
    }
    fn has_ended(&self, life: NodeLife) -> bool {
        let meta = self.0.meta.borrow();
        let of = meta.nodes.get(&life.node);
        of.is_some_and(|(last, live)| life.incarnation < *last || life.incarnation == *last && !live)
    }
    fn newest(&self, node: NodeId) -> Option<NodeLife> {
        let meta = self.0.meta.borrow();
        meta.nodes.get(&node).map(|(incarnation, _)| NodeLife { node, incarnation: *incarnation })
    }
    fn is_drained(&self, node: NodeId) -> bool {
        self.0.drained.lock().contains(&node)
    }
    fn applied(&self) -> LogIndex {
        LogIndex(self.0.meta.borrow().index)
    }
    fn changed(&self, seen: LogIndex) -> BoxFuture<'_, ()> {
        async move {
            let mut watch = self.0.meta.subscribe();
            let _seen = watch.wait_for(|meta| meta.index > seen.0).await.unwrap();
        }
        .boxed()
    }
    fn register(&self) -> BoxFuture<'_, Result<NodeLife, ProposeError>> {
        async move {
            tokio::time::sleep(HOP).await;
            let mut life = NodeLife { node: self.1, incarnation: Incarnation(0) };
            self.0.change(self.1, |meta| {
                let of = meta.nodes.entry(self.1).or_default();
                *of = (Incarnation(of.0.0 + 1), true);
                life.incarnation = of.0;
            })?;
            Ok(life)
        }
        .boxed()
    }
    fn lead_leases(&self, term: u64) -> BoxFuture<'_, Result<(), ProposeError>> {
        async move { self.0.change(self.1, |meta| meta.lease_term = meta.lease_term.max(term)) }.boxed()
    }
    fn expire(&self, life: NodeLife, term: Option<u64>) -> BoxFuture<'_, Result<(), ProposeError>> {
        async move {
            self.0.change(self.1, |meta| {
                let current = term.is_none_or(|t| t >= meta.lease_term);
                let of = meta.nodes.entry(life.node).or_default();
                if current && of.0 == life.incarnation {
                    of.1 = false;
                }
            })
        }
        .boxed()
    }
}

struct Wire(Arc<World>, NodeId);
impl Wire {
    async fn to(&self, node: NodeId) -> Result<(Lease, Sessions), ControlError> {
        tokio::time::sleep(HOP).await;
        let far = self.0.nodes.lock().get(&node).cloned();
        far.filter(|_| self.0.reach(self.1, node)).ok_or(ControlError::Unreachable)
    }
}
impl ControlClient for Wire {
    fn renew(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<Verdict, ControlError>> {
        async move { Ok(self.to(leader).await?.0.renew_for(life).await) }.boxed()
    }
    fn notify(&self, to: NodeId, notices: Vec<Notice>) -> BoxFuture<'_, Result<(), ControlError>> {
        async move {
            let (_, sessions) = self.to(to).await?;
            if !self.0.deaf.lock().contains(&to) {
                sessions.notices(notices);
            }
            Ok(())
        }
        .boxed()
    }
    fn report_stuck(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<(), ControlError>> {
        async move {
            self.to(leader).await?.0.stuck(life, self.1);
            Ok(())
        }
        .boxed()
    }
    fn wait_applied(&self, node: NodeId, _: LogIndex, _: Duration) -> BoxFuture<'_, Result<NodeLife, ControlError>> {
        async move { self.to(node).await?.0.life().ok_or(ControlError::Unreachable) }.boxed()
    }
    fn drain(&self, node: NodeId, _: BrokerId, _: Home, _: Duration) -> BoxFuture<'_, Result<NodeLife, ControlError>> {
        async move { self.to(node).await?.0.life().ok_or(ControlError::Unreachable) }.boxed()
    }
}

/// Workers that act by everything at once.
pub struct AtOnce;
impl AppliedPort for AtOnce {
    fn workers_applied(&self, _: LogIndex) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

struct Mailbox(mpsc::Sender<ClaimEvent>);
impl WorkerPort for Mailbox {
    fn post(&self, event: ClusterEvent) {
        if let ClusterEvent::Claim(event) = event {
            self.0.try_send(event).unwrap();
        }
    }
}

/// One node with one worker.
pub struct Node {
    pub id: NodeId,
    pub lease: Lease,
    pub sessions: Sessions,
    pub events: mpsc::Receiver<ClaimEvent>,
    pub meta: SharedMeta,
    pub control: Arc<dyn ControlClient>,
}

impl Node {
    /// Starts a node and waits for its lease.
    pub async fn start(world: &Arc<World>, id: u64) -> Self {
        let id = NodeId(id);
        let board = Board::default();
        for (group, it) in world.groups.lock().iter_mut().filter(|(group, _)| group.0 > 0) {
            let mut machine = board.machine(*group);
            for (at, command) in (1..).zip(&it.log) {
                machine.apply(LogIndex(at), command).unwrap();
                machine.applied(LogIndex(at));
            }
            it.replicas.insert(id, Box::new(machine));
        }
        let consensus = Arc::new(Raft(world.clone(), id));
        let meta: SharedMeta = Arc::new(Table(world.clone(), id));
        let control: Arc<dyn ControlClient> = Arc::new(Wire(world.clone(), id));
        let clock = world.clock.clone();
        let lease = Lease::start(id, clock.clone(), consensus.clone(), meta.clone(), control.clone());
        let sessions = Sessions::start(id, clock, consensus, meta.clone(), control.clone(), lease.clone(), board);
        let (port, events) = mpsc::channel(65_536);
        sessions.attach(WorkerId(0), Arc::new(Mailbox(port)));
        world.nodes.lock().insert(id, (lease.clone(), sessions.clone()));
        lease.status().wait_for(|s| s.held).await.unwrap();
        Self { id, lease, sessions, events, meta, control }
    }

    /// Kills the process: its tasks stop and nobody reaches it.
    pub fn kill(&self, world: &World) {
        self.lease.stop();
        self.sessions.stop();
        world.nodes.lock().remove(&self.id);
        world.groups.lock().values_mut().for_each(|g| drop(g.replicas.remove(&self.id)));
    }

    pub fn claim(&self, client: &str, nonce: u64) {
        self.claim_session(client, nonce, 0);
    }

    pub fn claim_session(&self, client: &str, nonce: u64, session_expiry: u32) {
        self.sessions.claim(ClaimRequest {
            broker: BROKER,
            client: client.into(),
            nonce: Nonce(nonce),
            worker: WorkerId(0),
            clean_start: true,
            session_expiry,
            will: None,
        });
    }

    pub fn release(&self, client: &str, epoch: Epoch, nonce: u64) {
        self.sessions.release(BROKER, client.into(), epoch, Nonce(nonce), Leave::default());
    }

    pub async fn next(&mut self) -> ClaimEvent {
        self.events.recv().await.unwrap()
    }

    /// The next event, which must be a grant.
    pub async fn granted(&mut self) -> Epoch {
        match self.next().await {
            ClaimEvent::Granted { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }
}
