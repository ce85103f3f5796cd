//! The world: true time, what happens next, and everything that exists. One thread, one seed, one run.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_cluster::ids::{BrokerId, GroupId, NodeId};

use crate::client::{Links, SockId};
use crate::keeper::Keepers;
use crate::log::Group;
use crate::net::Net;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::rng::Rng;

pub const BROKER: BrokerId = BrokerId(0xb0b << 100);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A thing that will happen.
pub type Job = Box<dyn FnOnce(&mut World)>;

/// One process of a node: what it meant to do ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    pub node: NodeId,
    pub boot: u64,
}

/// A bug put back on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// The claim goes back before DISCONNECT 0x8E was flushed.
    ReleaseBeforeFlush,
    /// Interest is acknowledged before the workers saw it.
    SeenBeforeWorkers,
    /// PUBACK does not wait for the peers.
    AcceptedWhenSent,
    /// A lease counts from its answer, and without a margin.
    LeaseWithoutMargin,
    /// Leases are renewed without a quorum round.
    RenewUnconfirmed,
    /// A new connection's batches are taken as if none had come before it.
    ForgetInbox,
    /// Workers are not told that tokens were revoked.
    NoRecheck,
    /// What nodes propose to shards has no numbers.
    NoNumbers,
    /// A claim takes over from whoever holds, however long it was on its way.
    TakeFromAnybody,
    /// A claim that was given back is gone on with all the same.
    GoOnAnyhow,
    /// A connection that went on with a claim is ended by whoever waits, were he gone before it came.
    NoRenewal,
    /// A retained message counts as kept before it is on disk.
    StoredWhenTaken,
    /// Retained messages of a peer are taken however far its clock is ahead.
    TrustClocks,
    /// A node that starts answers for retained messages before it has copied them.
    AnswerAtOnce,
    /// What replaced a page's messages since it was read does not matter.
    StalePages,
    /// Every worker of a node that gets a message for a shared subscription thinks that it is the one to serve it.
    AllServeShares,
    /// Every one leaves it to the others.
    NobodyServesShares,
    /// A session's state is taken without waiting for what is on its way to its home.
    NoFence,
    /// What a session had queued does not move with it.
    ForgetQueue,
    /// SUBACK does not wait for the shard to have the subscription.
    PersistNothing,
    /// Messages are not known again by who took them from their publishers.
    NoMarks,
    /// The shard is not told that a will was published.
    NoConfirmation,
    /// A goodbye counts as a loss.
    WillAnyhow,
    /// A session ends with its connection.
    EndSession,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub nodes: u64,
    pub workers: u16,
    pub shards: u32,
    /// Percent of entries that are in the log twice.
    pub duplicates: u64,
    /// Percent of answers to proposals that are lost.
    pub lost_answers: u64,
    /// Percent of clients' acts that are connects.
    pub connects: u64,
    /// Percent of clients' acts that are a goodbye and a quick return.
    pub returns: u64,
    /// Percent of publishes that are retained.
    pub retains: u64,
    /// Percent of clients' acts that are those of members of shared subscriptions.
    pub shares: u64,
    /// How many clients keep their sessions.
    pub keepers: u64,
    /// Whether sockets and workers dawdle.
    pub dawdle: bool,
    pub sabotage: Sabotage,
}

impl Config {
    /// Nothing goes wrong unless a scenario says so.
    pub fn calm(nodes: u64) -> Self {
        let (duplicates, lost_answers, returns, retains, shares, keepers) = Default::default();
        let (dawdle, sabotage) = Default::default();
        let (workers, shards, connects) = (2, 2, 0);
        Self {
            nodes,
            workers,
            shards,
            duplicates,
            lost_answers,
            connects,
            returns,
            retains,
            shares,
            keepers,
            dawdle,
            sabotage,
        }
    }
}

pub struct World {
    pub cfg: Config,
    pub now: Duration,
    pub rng: Rng,
    pub net: Net,
    pub groups: BTreeMap<GroupId, Group>,
    nodes: Vec<Node>,
    pub socks: Links,
    pub oracle: Oracle,
    pub keepers: Keepers,
    /// When the end of a run last tried something on a connection.
    pub tried: BTreeMap<(SockId, &'static str), Duration>,
    queue: BTreeMap<(Duration, u64), Job>,
    scheduled: u64,
    /// Hash of all that happened: two runs of one seed must agree.
    pub digest: u64,
    pub happened: u64,
    trace: bool,
}

impl World {
    pub fn new(seed: u64, cfg: Config) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = (1..=cfg.nodes).map(|id| Node::new(NodeId(id), &mut rng)).collect();
        let mut world = Self {
            now: Duration::ZERO,
            groups: crate::node::founding(&cfg),
            rng,
            net: Net::default(),
            nodes,
            socks: Links::default(),
            oracle: Oracle::default(),
            keepers: Keepers::default(),
            tried: BTreeMap::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            digest: 0,
            happened: 0,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            cfg,
        };
        let groups: Vec<GroupId> = world.groups.keys().copied().collect();
        groups.into_iter().for_each(|group| world.watch_leader(group));
        for node in world.all_nodes() {
            world.start_node(node);
        }
        world
    }

    // ---- time ----

    /// `job` happens after `delay` of true time.
    pub fn after(&mut self, delay: Duration, job: impl FnOnce(&mut World) + 'static) {
        self.scheduled += 1;
        self.queue.insert((self.now + delay, self.scheduled), Box::new(job));
    }

    /// `job` happens after `delay` of the node's own time, if that process still runs then.
    pub fn later(&mut self, at: Proc, delay: Duration, job: impl FnOnce(&mut World) + 'static) {
        let truth = self.node(at.node).clock.truth_of(delay);
        self.after(truth, move |w| {
            if w.alive(at) {
                job(w);
            }
        });
    }

    /// Lets everything happen that is due within `time`.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) && !self.oracle.failed() {}
        self.now = end.max(self.now);
    }

    /// Runs until `done`, looking every few milliseconds, at most for `limit`; whether it came to that.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if self.oracle.failed() || self.now >= end {
                return false;
            }
            self.run(LOOK_EVERY);
        }
        true
    }

    fn step(&mut self, end: Duration) -> bool {
        let Some(next) = self.queue.first_entry().filter(|e| e.key().0 <= end) else { return false };
        let ((at, number), job) = next.remove_entry();
        self.now = at;
        self.happened += 1;
        self.digest = (self.digest ^ (at.as_nanos() as u64) ^ number.rotate_left(32)).wrapping_mul(0x100_0000_01b3);
        job(self);
        true
    }

    // ---- what exists ----

    pub fn all_nodes(&self) -> Vec<NodeId> {
        (1..=self.cfg.nodes).map(NodeId).collect()
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize - 1]
    }

    pub fn proc(&mut self, id: NodeId) -> Proc {
        Proc { node: id, boot: self.node(id).boot }
    }

    pub fn alive(&mut self, it: Proc) -> bool {
        let node = self.node(it.node);
        node.up && node.boot == it.boot
    }

    // ---- what is told ----

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>10.3} {}", self.now.as_secs_f64() * 1000.0, what());
        }
    }

    /// An invariant does not hold.
    pub fn broken(&mut self, what: String) {
        self.note(|| format!("BROKEN {what}"));
        let at = self.now.as_secs_f64();
        self.oracle.broken.push(format!("at {at:.3} s: {what}"));
    }

    /// The connection, for readers.
    pub fn sock(&mut self, id: SockId) -> Option<&mut crate::client::Sock> {
        self.socks.get_mut(id)
    }
}
