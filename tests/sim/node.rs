//! One node: its disk's worth of replicas, its lease, its claims and, while it has a life, its broker. What the
//! drivers do with I/O is done here at once, as thinly as it goes.

pub mod claims;
pub mod copying;
pub mod data;
pub mod forward;
pub mod kept;
pub mod lease;
pub mod retained;
pub mod shepherd;
pub mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::consensus::Applied;
use rookery_cluster::ids::{
    AccountId, ClusterId, GroupId, Incarnation, LogIndex, NamespaceId, NodeId, NodeLife, RequestId,
};
use rookery_cluster::limits::PROPOSE_TIMEOUT;
use rookery_cluster::metadata::{self, Change, Command, CommandBody, Kid, Name, NewKey, Outcome, State};
use rookery_cluster::sessions::{self, Effect, ShardState};

use crate::clock::{LocalClock, MOST_DRIFT};
use crate::log::{Group, Replica};
use crate::rng::Rng;
use crate::world::{BROKER, Config, Proc, World};
use claims::Claims;
use forward::Forward;
use lease::LeaseOf;
use retained::{Copying, Shelf};
use worker::{Mail, Worker};

pub struct Node {
    pub id: NodeId,
    pub up: bool,
    /// Counts processes.
    pub boot: u64,
    pub clock: LocalClock,
    pub meta: State,
    pub shards: BTreeMap<GroupId, ShardState>,
    pub replicas: BTreeMap<GroupId, Replica>,
    /// What shards' commands led to and nobody has looked at.
    pub effects: Vec<(GroupId, Effect)>,
    pub lease: LeaseOf,
    pub claims: Claims,
    pub broker: Option<Broker>,
    pub shelf: Shelf,
    requests: u128,
}

/// What serves clients under one life.
pub struct Broker {
    pub life: NodeLife,
    pub workers: Vec<Worker>,
    pub forward: Forward,
    pub copying: Copying,
    /// Up to which metadata index the workers were told of changes.
    pub told: LogIndex,
}

impl Node {
    pub fn new(id: NodeId, rng: &mut Rng) -> Self {
        let drift = rng.range(0, 2 * MOST_DRIFT as u64) as i64 - MOST_DRIFT;
        Self {
            id,
            up: false,
            boot: 0,
            clock: LocalClock::new(rng.millis(1, 100_000), drift),
            meta: State::default(),
            shards: BTreeMap::new(),
            replicas: BTreeMap::new(),
            effects: Vec::new(),
            lease: LeaseOf::default(),
            claims: Claims::default(),
            broker: None,
            shelf: Shelf::new(rng),
            requests: 0,
        }
    }

    pub fn apply(&mut self, group: GroupId, index: LogIndex, command: &[u8]) -> Bytes {
        if group == GroupId::METADATA {
            let command = Command::decode(command).expect("a command of this binary");
            return metadata::apply(&mut self.meta, index, &command).encode();
        }
        let command = sessions::Command::decode(command).expect("a command of this binary");
        let mut effects = Vec::new();
        let outcome = self.shards.entry(group).or_default().apply(command, &mut effects);
        self.effects.extend(effects.into_iter().map(|effect| (group, effect)));
        outcome.encode()
    }

    pub fn snapshot(&self, group: GroupId) -> Bytes {
        match group {
            GroupId::METADATA => self.meta.snapshot(),
            _ => self.shards.get(&group).map(ShardState::snapshot).unwrap_or_default(),
        }
    }

    pub fn restore(&mut self, group: GroupId, snapshot: &[u8]) {
        if group == GroupId::METADATA {
            self.meta = State::from_snapshot(snapshot).expect("a snapshot of this binary");
        } else {
            self.shards.insert(group, ShardState::restore(snapshot).expect("a snapshot of this binary"));
        }
    }

    pub fn live(&self) -> Vec<NodeLife> {
        let live = self.meta.live_set().iter();
        live.map(|(node, incarnation)| NodeLife { node: *node, incarnation: *incarnation }).collect()
    }

    pub fn live_peers(&self) -> BTreeMap<NodeId, Incarnation> {
        self.live().into_iter().filter(|l| l.node != self.id).map(|l| (l.node, l.incarnation)).collect()
    }

    /// Whether this node runs under `life` and serves clients.
    pub fn serves_as(&self, life: NodeLife) -> bool {
        self.up && self.broker.as_ref().is_some_and(|b| b.life == life)
    }
}

/// The logs of a new cluster.
pub fn founding(cfg: &Config) -> BTreeMap<GroupId, Group> {
    let name = |text: &str| Name::parse(text).expect("a good name");
    let key = |text: &str| NewKey { kid: Kid::from(text), public: [0; 32], sealed: Bytes::new() };
    let (ca_pem, sealed_ca_key, sealed_secrets) = Default::default();
    let (account, namespace, description) = (AccountId(1), NamespaceId(1), String::new());
    let mut bodies = vec![
        CommandBody::InitCluster { id: ClusterId(1), ca_pem, sealed_ca_key, sealed_secrets, shards: cfg.shards },
        CommandBody::CreateAccount { id: account, name: "sim".into(), max_namespaces: 1 },
        CommandBody::CreateNamespace { id: namespace, account, name: name("sim"), description, max_brokers: 1 },
        CommandBody::CreateBroker {
            id: BROKER,
            namespace,
            name: name("sim"),
            settings: Default::default(),
            keys: vec![key("a"), key("b")],
        },
    ];
    bodies.extend((1..=cfg.nodes).map(|n| CommandBody::AddNode {
        name: format!("n{n}"),
        key_hash: [n as u8; 32],
        join_token: None,
        voter_eligible: true,
    }));
    let founding = bodies.into_iter().zip(1..).map(|(body, n)| command(RequestId(n), body)).collect();
    let shards = (1..=cfg.shards).map(|group| (GroupId(group), Group::new(Vec::new())));
    std::iter::once((GroupId::METADATA, Group::new(founding))).chain(shards).collect()
}

fn command(request_id: RequestId, body: CommandBody) -> Bytes {
    Command { request_id, at: UnixMillis(1), body }.encode()
}

impl World {
    pub fn local(&mut self, node: NodeId) -> Moment {
        let now = self.now;
        self.node(node).clock.now(now)
    }

    // ---- processes ----

    /// Starts a process, with what the disk kept.
    pub fn start_node(&mut self, id: NodeId) {
        if self.node(id).up {
            return;
        }
        if !self.open_store(id) {
            return self.after(Duration::from_millis(200), move |w| w.start_node(id));
        }
        self.restore_disk(id);
        let node = self.node(id);
        node.up = true;
        node.boot += 1;
        (node.lease, node.claims) = Default::default();
        let at = self.proc(id);
        self.note(|| format!("node {id}: process {} starts", at.boot));
        self.start_lease(at);
        self.start_shepherd(at);
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        groups.into_iter().for_each(|group| self.catch_up_soon(id, group));
    }

    /// Ends a process without a word. Its machine may lose power with it.
    pub fn kill_node(&mut self, id: NodeId) {
        let power = self.rng.percent(50);
        if self.stop_node(id) {
            self.lose_store(id, power);
        }
    }

    /// The machine is without power.
    pub fn kill_without_power(&mut self, id: NodeId) {
        if self.stop_node(id) {
            self.lose_store(id, true);
        }
    }

    /// Ends what a process does; whether it did anything.
    fn stop_node(&mut self, id: NodeId) -> bool {
        if !std::mem::replace(&mut self.node(id).up, false) {
            return false;
        }
        self.note(|| format!("node {id}: killed"));
        self.oracle.sharing.ended = self.now;
        if let Some(life) = self.node(id).broker.as_ref().map(|b| b.life) {
            self.kept_is_lost(life);
        }
        self.node(id).broker = None;
        self.drop_socks_of(id);
        self.break_streams(|ends| ends.contains(&id));
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            let replica = self.replica(id, group);
            replica.leader = None;
            if self.group(group).leader == Some(id) {
                let pause = self.rng.millis(300, 1500);
                self.depose(group, pause);
            }
        }
        true
    }

    /// The cluster ended this node's life: everything is taken down and started anew, but
    /// for what the process has open.
    pub fn life_is_over(&mut self, at: Proc) {
        let life = self.node(at.node).lease.life;
        self.note(|| format!("node {}: life {life:?} is over", at.node));
        self.farewell(at.node);
        self.stop_node(at.node);
        let pause = self.rng.millis(5, 100);
        self.after(pause, move |w| w.start_node(at.node));
    }

    /// The lease is held for the first time: clients are served from here on.
    pub fn begin_life(&mut self, at: Proc, life: NodeLife) {
        if self.node(at.node).lease.life != Some(life) || self.node(at.node).broker.is_some() {
            return;
        }
        self.linearize(at, GroupId::METADATA, move |w, read| {
            if !read {
                return w.later(at, Duration::from_millis(50), move |w| w.begin_life(at, life));
            }
            if w.node(at.node).lease.life != Some(life) || w.node(at.node).broker.is_some() {
                return;
            }
            let workers = (0..w.cfg.workers).map(|id| Worker::new(id, life, w.rng.next())).collect();
            let forward = Forward::new(w.cfg.workers);
            let told = w.node(at.node).meta.applied();
            let copying = Copying::new(at.node);
            w.node(at.node).broker = Some(Broker { life, workers, forward, copying, told });
            w.begin_retained(life);
            w.note(|| format!("node {}: serves as {life}", at.node));
            let live = w.node(at.node).live_peers();
            w.set_live(life, live);
            (0..w.cfg.workers).for_each(|worker| w.start_worker(life, worker));
        });
    }

    // ---- metadata ----

    /// As `Metadata::propose`: the same bytes until there is an answer; `None` if it took too long.
    pub fn propose_meta(
        &mut self,
        at: Proc,
        body: CommandBody,
        then: impl FnOnce(&mut World, Option<(LogIndex, Outcome)>) + 'static,
    ) {
        let node = self.node(at.node);
        node.requests += 1;
        let request = RequestId(u128::from(at.node.0) << 96 | u128::from(at.boot) << 64 | node.requests);
        let deadline = self.local(at.node) + PROPOSE_TIMEOUT;
        self.propose_again(at, command(request, body), deadline, Box::new(then));
    }

    fn propose_again(&mut self, at: Proc, bytes: Bytes, deadline: Moment, then: Answered) {
        if self.local(at.node) >= deadline {
            return then(self, None);
        }
        let copy = bytes.clone();
        self.propose(at, GroupId::METADATA, bytes, move |w, answer| match answer {
            Ok(Applied { index, outcome }) => {
                let outcome = Outcome::decode(&outcome).expect("an outcome of this binary");
                then(w, Some((index, outcome)));
            }
            Err(_) => {
                w.later(at, Duration::from_millis(50), move |w| w.propose_again(at, copy, deadline, then));
            }
        });
    }

    /// A replica has applied more.
    pub fn applied(&mut self, node: NodeId, group: GroupId) {
        if group == GroupId::METADATA {
            self.metadata_changed(node);
        } else {
            self.shard_news(node);
        }
    }

    fn metadata_changed(&mut self, id: NodeId) {
        self.kept_by_the_ended(id);
        let node = self.node(id);
        if let Some(broker) = &mut node.broker {
            let life = broker.life;
            let restricts = match node.meta.changes_since(broker.told) {
                Some(mut changes) => changes.any(|c| matches!(c, Change::Broker { restricts: true, .. })),
                None => true,
            };
            broker.told = node.meta.applied();
            let live = node.live_peers();
            self.set_live(life, live);
            if restricts && self.cfg.sabotage != crate::world::Sabotage::NoRecheck {
                (0..self.cfg.workers).for_each(|worker| self.post(life, worker, Mail::Recheck));
            }
        }
        self.shepherd_metadata(id);
    }
}

type Answered = Box<dyn FnOnce(&mut World, Option<(LogIndex, Outcome)>)>;
