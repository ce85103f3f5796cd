//! Fixed schedules, each named by the rule that it is about. Nothing goes wrong in them but what they do; the
//! promises are checked all the while.

mod r01_leases;
mod r02_renewal;
mod r03_incarnations;
mod r04_holders;
mod r05_claims;
mod r06_slots;
mod r08_accepted;
mod r09_refusals;
mod r10_streams;
mod r11_interest;
mod r12_sessions;
mod r13_retries;
mod r14_moves;
mod r15_retained;
mod r16_wills;
mod shared;

use std::time::Duration;

use rookery::mqtt::codec::QoS;
use rookery_cluster::ids::{GroupId, NodeId};

use crate::client::{Phase, SockId};
use crate::keeper::Terms;
use crate::world::{Config, World};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const META: GroupId = GroupId::METADATA;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A scenario: a world that must be whole at its end.
struct Scene(World);

impl Scene {
    /// Nodes that all serve; node 3 leads every group.
    fn new(nodes: u64) -> Self {
        Self::of(nodes, Config::calm(nodes))
    }

    /// The same, of nodes that have one worker each.
    fn of_one_worker(nodes: u64) -> Self {
        Self::of(nodes, Config { workers: 1, ..Config::calm(nodes) })
    }

    fn of(nodes: u64, config: Config) -> Self {
        let mut scene = Self(World::new(7, config));
        scene.must("all nodes serve", 10_000, |w| w.all_serve());
        let last = NodeId(nodes);
        let groups: Vec<GroupId> = scene.0.groups.keys().copied().collect();
        groups.into_iter().for_each(|group| scene.0.set_leader(group, last));
        scene.0.run(ms(1500));
        scene
    }

    fn must(&mut self, what: &str, within: u64, done: impl FnMut(&mut World) -> bool) {
        let came = self.0.until(ms(within), done);
        assert!(came, "never: {what}; {:?}", self.0.oracle.broken);
    }

    fn run(&mut self, millis: u64) {
        self.0.run(ms(millis));
        assert!(!self.0.oracle.failed(), "{:?}", self.0.oracle.broken);
    }

    fn up(&mut self, client: &str, node: NodeId) -> SockId {
        let id = self.0.connect(client, node);
        self.must("connected", 1000, |w| w.socks.get(id).up());
        id
    }

    fn subscribed(&mut self, client: &str, node: NodeId, filter: &str) -> SockId {
        let id = self.up(client, node);
        self.0.subscribe(id, &[(filter, QoS::AtLeastOnce)]);
        self.must("subscribed", 1000, |w| w.socks.get(id).subacks.contains_key(filter));
        id
    }

    /// A client that keeps its session, served.
    fn kept(&mut self, client: &str, node: NodeId, terms: Terms) -> SockId {
        let id = self.0.connect_keeper(client, node, terms);
        self.must("connected", 2000, |w| w.socks.get(id).up());
        id
    }

    fn kept_subscribes(&mut self, id: SockId, filter: &str, qos: QoS) {
        self.0.subscribe(id, &[(filter, qos)]);
        self.must("subscribed", 1000, |w| w.socks.get(id).subacks.contains_key(filter));
    }

    /// Whether its CONNACK said that there was a session.
    fn present(&self, id: SockId) -> bool {
        self.0.keepers.conns[&id].acked.is_some_and(|(_, present)| present)
    }

    /// The workers of a node stand still.
    fn stall(&mut self, node: NodeId, millis: u64) {
        let until = self.0.now + ms(millis);
        for worker in &mut self.0.node(node).broker.as_mut().expect("serves").workers {
            worker.stalled_until = until;
        }
    }

    fn phase(&self, id: SockId) -> Phase {
        self.0.socks.get(id).phase
    }

    fn cut_both(&mut self, a: NodeId, b: NodeId) {
        self.0.cut(a, b);
        self.0.cut(b, a);
    }

    /// Heals, and requires all that a random run requires.
    fn end(mut self) {
        self.0.heal();
        self.0.finish_run();
        assert!(!self.0.oracle.failed(), "{:?}", self.0.oracle.broken);
    }
}
