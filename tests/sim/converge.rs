//! One random run: work and faults, then healing, and then everything must work again.

use std::time::Duration;

use rookery::mqtt::codec::{QoS, Version};
use rookery_cluster::ids::GroupId;
use rookery_cluster::limits::RETAINED_COMPARE_EVERY;

use crate::client::SockId;
use crate::faults::Mood;
use crate::keeper::WILLS;
use crate::rng::Rng;
use crate::workload;
use crate::world::{Config, Sabotage, World};

/// After healing, how long until everything must work. The longest single wait is a lease that must run out under a
/// new leader.
const RECOVERY: Duration = Duration::from_secs(30);

/// By then every node has compared with every other, and met a message that was on its way then.
const COMPARED: Duration = RETAINED_COMPARE_EVERY.saturating_mul(3);

/// Runs one seed; what was found, if anything, is in the oracle.
pub fn run(seed: u64) -> World {
    let mood = Rng::new(seed).pick(&Mood::ALL);
    run_with(seed, mood, Sabotage::None, Rng::new(seed ^ 0xcee9).range(0, 3))
}

pub fn run_with(seed: u64, mood: Mood, sabotage: Sabotage, keepers: u64) -> World {
    let mut dice = Rng::new(seed ^ 0x5eed);
    // Runs about leases and claims have nothing else: what they look for takes many connections.
    let rate = |of: Mood, high: u64, low: u64| match mood {
        Mood::Leases | Mood::Claims => 0,
        _ if mood == of => high,
        _ => low,
    };
    let cfg = Config {
        nodes: dice.pick(&[3, 3, 3, 3, 3, 5, 1]),
        workers: dice.range(1, 2) as u16,
        shards: 2,
        duplicates: dice.below(8),
        lost_answers: dice.below(12),
        connects: if matches!(mood, Mood::Leases | Mood::Claims) { 40 } else { 12 },
        returns: if keepers == 0 && matches!(mood, Mood::Leases | Mood::Claims) { 15 } else { 0 },
        retains: rate(Mood::Retained, 60, 10),
        shares: rate(Mood::Shared, 40, 5),
        dawdle: dice.percent(80),
        keepers,
        sabotage,
    };
    let mut world = World::new(seed, cfg);
    world.until(RECOVERY, |w| w.all_serve());
    let length = if mood == Mood::Leases { dice.millis(9_000, 16_000) } else { dice.millis(4_000, 12_000) };
    let end = world.now + length;
    world.clients_until(end);
    world.faults_until(mood, end);
    world.run(end - world.now);
    world.heal();
    world.finish_run();
    world
}

impl World {
    pub fn all_serve(&mut self) -> bool {
        self.all_nodes().into_iter().all(|n| self.node(n).broker.is_some() && self.lease_holds(n))
    }

    /// Requires that everything works, and looks at what is only to be seen at the end.
    pub fn finish_run(&mut self) {
        self.require("every node has a lease and serves", |w| w.all_serve());
        self.require("every client can connect", |w| w.everybody_connects());
        self.require("every keeper is connected", |w| w.keepers_connect());
        // What was on the way comes to rest: publishes are answered or closed by then.
        self.run(Duration::from_secs(6));
        self.require("a last message reaches everybody", |w| w.last_message());
        self.run(Duration::from_secs(1));
        self.finish_retained();
        self.require("every keeper is connected", |w| w.keepers_connect());
        self.run(Duration::from_secs(2));
        self.require("nothing is to be revoked any more", |w| w.nothing_pending());
        if !self.oracle.failed() {
            self.p01_all_applied();
            self.p02_check();
            self.p03_check();
            self.p04_all_answered();
            self.p05_check();
            self.p10_check();
            self.p08_check();
            self.shared_all_given();
        }
    }

    fn finish_retained(&mut self) {
        self.require_within(COMPARED, "every node gives the same retained messages", |w| w.p09_converged());
        self.require("a subscriber on every node has got all", |w| w.late_readers().is_some());
        let readers = self.late_readers();
        if let Some(readers) = readers.filter(|_| !self.oracle.failed()) {
            self.p09_settled(&readers);
        }
    }

    fn require(&mut self, what: &str, done: impl FnMut(&mut World) -> bool) {
        self.require_within(RECOVERY, what, done);
    }

    fn require_within(&mut self, limit: Duration, what: &str, done: impl FnMut(&mut World) -> bool) {
        if !self.until(limit, done) && !self.oracle.failed() {
            self.broken(format!("convergence: it never came to this: {what}"));
        }
    }

    /// Brings up whoever has no connection; whether all have one.
    fn everybody_connects(&mut self) -> bool {
        let mut all = true;
        for client in workload::clients() {
            let socks = self.socks.of(client);
            if socks.iter().any(|id| self.socks.get(*id).up()) {
                continue;
            }
            all = false;
            let trying = socks.last().is_some_and(|id| self.socks.get(*id).phase == crate::client::Phase::Connecting);
            if !trying {
                let nodes = self.all_nodes();
                let node = self.rng.pick(&nodes);
                self.connect_as(client, node, Version::V5, &format!("{client}-0"), None);
            }
        }
        all
    }

    /// Every client subscribes and publishes once; whether all got all.
    fn last_message(&mut self) -> bool {
        if !self.everybody_connects() {
            return false;
        }
        let now = self.now;
        let all: Vec<SockId> = workload::clients().filter_map(|c| self.newest(c)).collect();
        for id in &all {
            if !self.socks.get(*id).subacks.contains_key("last") && self.once_a_second(*id, "subscribe", now) {
                self.subscribe(*id, &[("last", QoS::AtLeastOnce)]);
            }
        }
        let ready = all.iter().all(|id| self.oracle.subs.iter().any(|s| s.sock == *id && s.filter == "last"));
        if !ready {
            return false;
        }
        for id in &all {
            let sent = self.oracle.msgs.iter().any(|m| m.by == *id && m.topic == "last");
            if !sent {
                self.publish(*id, "last", QoS::AtLeastOnce);
            }
        }
        all.iter().all(|to| {
            all.iter().all(|by| {
                let got = &self.socks.get(*to).got;
                got.iter()
                    .filter(|m| **m < WILLS)
                    .any(|m| self.oracle.msg(*m).by == *by && self.oracle.msg(*m).topic == "last")
            })
        })
    }

    fn newest(&self, client: &str) -> Option<SockId> {
        self.socks.of(client).into_iter().rfind(|id| self.socks.get(*id).up())
    }

    fn once_a_second(&mut self, id: SockId, what: &'static str, now: Duration) -> bool {
        let due = self.tried.get(&(id, what)).is_none_or(|at| now - *at >= Duration::from_secs(6));
        if due {
            self.tried.insert((id, what), now);
        }
        due
    }

    fn nothing_pending(&mut self) -> bool {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        let nodes = self.all_nodes();
        let quiet = |w: &mut World, n, g| w.replica(n, g).applied == w.group(g).entries.len();
        let idle = nodes.iter().all(|n| groups.iter().all(|g| quiet(self, *n, *g)));
        idle && nodes.iter().all(|n| self.node(*n).shards.values().all(|shard| shard.view().pending.is_empty()))
    }
}
