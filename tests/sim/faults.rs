//! What goes wrong, at random.

mod disks;

use std::time::Duration;

use rookery_cluster::ids::{GroupId, NodeId};

use crate::clock::MOST_DRIFT;
use crate::world::World;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Crash,
    CutOff,
    LateThenCutOff,
    OneWay,
    BreakStream,
    NewLeader,
    Stall,
    Drift,
    SlowLog,
    BadNetwork,
    BlockSock,
    VanishSock,
    PowerOff,
    SetClock,
    SlowDisk,
    BadDisk,
}

/// What a run has most of. A run with everything at once has little of what takes several faults in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Everything,
    Leases,
    Streams,
    Claims,
    Retained,
    Shared,
}

impl Mood {
    pub const ALL: [Mood; 6] =
        [Mood::Everything, Mood::Leases, Mood::Streams, Mood::Claims, Mood::Retained, Mood::Shared];

    fn faults(self) -> &'static [Fault] {
        use Fault::*;
        match self {
            Mood::Everything => &[
                Crash,
                CutOff,
                LateThenCutOff,
                OneWay,
                BreakStream,
                BreakStream,
                NewLeader,
                Stall,
                Drift,
                SlowLog,
                BadNetwork,
                BlockSock,
                VanishSock,
                PowerOff,
                SetClock,
                SlowDisk,
                BadDisk,
            ],
            Mood::Leases => &[LateThenCutOff, LateThenCutOff, CutOff, Drift, Drift, NewLeader],
            Mood::Streams => &[BreakStream, BreakStream, BreakStream, Stall, Stall, OneWay, BlockSock],
            Mood::Claims => &[Crash, NewLeader, SlowLog, BadNetwork, BadNetwork, BlockSock, Stall, VanishSock],
            Mood::Shared => &[BreakStream, BreakStream, Stall, Stall, OneWay, BlockSock, VanishSock],
            Mood::Retained => {
                &[Crash, Crash, PowerOff, CutOff, OneWay, BreakStream, Stall, SetClock, SlowDisk, BadDisk]
            }
        }
    }
}

impl World {
    /// Faults come one after the other until `end`.
    pub fn faults_until(&mut self, mood: Mood, end: Duration) {
        let pause = if mood == Mood::Leases { self.rng.millis(200, 3000) } else { self.rng.millis(100, 1500) };
        if self.now + pause >= end {
            return;
        }
        self.after(pause, move |w| {
            let fault = w.rng.pick(mood.faults());
            w.fault(fault);
            w.faults_until(mood, end);
        });
    }

    fn fault(&mut self, fault: Fault) {
        let node = self.some_node();
        match fault {
            Fault::Crash => self.crash(node),
            Fault::CutOff => self.partition(node),
            Fault::LateThenCutOff => self.late_then_cut_off(node),
            Fault::OneWay => self.one_way(node),
            Fault::BreakStream => self.break_some_stream(),
            Fault::NewLeader => self.new_leader(),
            Fault::Stall => self.stall(node),
            Fault::Drift => self.drift(node),
            Fault::SlowLog => self.slow_log(),
            Fault::BadNetwork => self.bad_network(),
            Fault::BlockSock => self.block_some_sock(),
            Fault::VanishSock => self.vanish_some_sock(),
            Fault::PowerOff => self.power_off(),
            Fault::SetClock => self.set_clock(node),
            Fault::SlowDisk => self.slow_disk(node),
            Fault::BadDisk => self.bad_disk(node),
        }
    }

    fn some_node(&mut self) -> NodeId {
        let nodes = self.all_nodes();
        self.rng.pick(&nodes)
    }

    fn some_group(&mut self) -> GroupId {
        GroupId(self.rng.below(u64::from(self.cfg.shards) + 1) as u32)
    }

    fn crash(&mut self, node: NodeId) {
        self.kill_node(node);
        let down = if self.rng.percent(50) { self.rng.millis(10, 300) } else { self.rng.millis(300, 7000) };
        self.after(down, move |w| w.start_node(node));
    }

    /// A node is cut off, both ways; or the network splits in two.
    fn partition(&mut self, node: NodeId) {
        if self.net.is_cut() {
            // One at a time: two would mostly be the end of all service, which is soon looked at.
            return;
        }
        self.note(|| format!("fault: node {node} is cut off"));
        let also = self.some_node();
        let split = self.cfg.nodes > 3 && self.rng.percent(50);
        let inside = |n: NodeId| n == node || (split && n == also);
        let nodes = self.all_nodes();
        for a in &nodes {
            for b in nodes.iter().filter(|b| inside(*a) != inside(**b)) {
                self.cut(*a, *b);
            }
        }
        let lasts = if self.rng.percent(60) { self.rng.millis(4500, 9000) } else { self.rng.millis(200, 4500) };
        self.after(lasts, move |w| {
            let nodes = w.all_nodes();
            let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
            pairs.for_each(|(a, b)| w.net.heal_one(a, b));
        });
    }

    /// Answers come late, and then none come: where leases are thin.
    fn late_then_cut_off(&mut self, node: NodeId) {
        self.note(|| format!("fault: node {node} hears late"));
        self.net.late = 90;
        let lasts = self.rng.millis(500, 2500);
        self.after(lasts, move |w| {
            w.net.late = 0;
            w.partition(node);
        });
    }

    fn one_way(&mut self, from: NodeId) {
        let to = self.some_node();
        self.note(|| format!("fault: nothing from node {from} to node {to}"));
        self.cut(from, to);
        let lasts = self.rng.millis(100, 7000);
        self.after(lasts, move |w| w.net.heal_one(from, to));
    }

    fn break_some_stream(&mut self) {
        if self.rng.percent(40) {
            let node = self.some_node();
            self.note(|| format!("fault: all streams of node {node} break"));
            return self.break_streams(|ends| ends.contains(&node));
        }
        let streams = self.net.streams();
        if !streams.is_empty() {
            let stream = self.rng.pick(&streams);
            self.note(|| format!("fault: stream {stream} breaks"));
            self.break_stream(stream);
        }
    }

    fn new_leader(&mut self) {
        let group = self.some_group();
        self.note(|| format!("fault: group {group} loses its leader"));
        let pause = if self.rng.percent(50) { Duration::ZERO } else { self.rng.millis(100, 4000) };
        self.depose(group, pause);
    }

    fn stall(&mut self, node: NodeId) {
        let worker = self.rng.below(u64::from(self.cfg.workers)) as usize;
        let long = self.rng.percent(40);
        let until = self.now + if long { self.rng.millis(500, 6000) } else { self.rng.millis(10, 500) };
        self.note(|| format!("fault: worker {worker} of node {node} stalls until {until:?}"));
        if let Some(broker) = &mut self.node(node).broker {
            broker.workers[worker].stalled_until = until;
        }
    }

    fn drift(&mut self, node: NodeId) {
        let drift = self.rng.pick(&[-MOST_DRIFT, -MOST_DRIFT / 2, 0, MOST_DRIFT / 2, MOST_DRIFT]);
        let now = self.now;
        self.note(|| format!("fault: clock of node {node} runs {drift} per mille fast"));
        self.node(node).clock.set_drift(now, drift);
    }

    fn slow_log(&mut self) {
        let group = self.some_group();
        let (slow, lasts) = (self.rng.millis(50, 900), self.rng.millis(500, 4000));
        self.note(|| format!("fault: group {group} takes {slow:?}"));
        self.group(group).slow = slow;
        self.after(lasts, move |w| w.group(group).slow = Duration::ZERO);
    }

    fn bad_network(&mut self) {
        self.note(|| "fault: bad network".into());
        (self.net.loss, self.net.late) = (self.rng.below(50), self.rng.below(60));
        let lasts = self.rng.millis(500, 4000);
        self.after(lasts, |w| (w.net.loss, w.net.late) = (0, 0));
    }

    fn block_some_sock(&mut self) {
        let until = self.now + self.rng.millis(50, 4000);
        if let Some(id) = self.some_sock()
            && let Some(sock) = self.sock(id)
        {
            sock.blocked_until = until;
            self.note(|| format!("fault: connection {id} takes nothing until {until:?}"));
        }
    }

    fn vanish_some_sock(&mut self) {
        if let Some(id) = self.some_sock() {
            self.vanish(id);
        }
    }

    pub fn some_sock(&mut self) -> Option<u64> {
        let up = self.socks.ids(|sock| sock.up());
        (!up.is_empty()).then(|| self.rng.pick(&up))
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.heal_disks();
        self.note(|| "healing".into());
        self.net.heal();
        let now = self.now;
        for node in self.all_nodes() {
            self.start_node(node);
            for worker in self.node(node).broker.iter_mut().flat_map(|b| &mut b.workers) {
                worker.stalled_until = now;
            }
        }
        self.groups.values_mut().for_each(|group| (group.slow, group.barred_until) = (Duration::ZERO, now));
        for id in self.socks.ids(|_| true) {
            if let Some(sock) = self.sock(id) {
                sock.blocked_until = now;
            }
        }
    }
}
