//! What goes wrong with disks and wall clocks.

use std::time::Duration;

use rookery_cluster::ids::NodeId;

use crate::world::World;

impl World {
    /// All machines lose power; one of them may come back late.
    pub fn power_off(&mut self) {
        self.note(|| "fault: all machines lose power".into());
        let late = self.some_node();
        for node in self.all_nodes() {
            self.kill_without_power(node);
            let down = if node == late { self.rng.millis(10, 8000) } else { self.rng.millis(10, 1500) };
            self.after(down, move |w| w.start_node(node));
        }
    }

    /// A wall clock that is off, for a while.
    pub fn set_clock(&mut self, node: NodeId) {
        let far = self.rng.percent(60);
        let ahead = if far { self.rng.range(400, 3000) as i64 } else { -(self.rng.range(0, 3000) as i64) };
        self.note(|| format!("fault: the clock of node {node} is {ahead} ms ahead"));
        self.node(node).shelf.ahead = ahead;
        let lasts = self.rng.millis(500, 5000);
        self.after(lasts, move |w| w.node(node).shelf.ahead = 0);
    }

    pub fn slow_disk(&mut self, node: NodeId) {
        let (slow, lasts) = (self.rng.millis(50, 1500), self.rng.millis(500, 4000));
        self.note(|| format!("fault: the disk of node {node} takes {slow:?}"));
        self.node(node).shelf.slow = slow;
        self.after(lasts, move |w| w.node(node).shelf.slow = Duration::ZERO);
    }

    /// A sync fails, or the disk is full for a while.
    pub fn bad_disk(&mut self, node: NodeId) {
        self.note(|| format!("fault: the disk of node {node} refuses"));
        let (syncs, lasts) = (self.rng.below(3), self.rng.millis(200, 3000));
        if self.rng.percent(60) {
            return self.node(node).shelf.disk.fail_sync_in(syncs);
        }
        self.node(node).shelf.disk.set_capacity(Some(0));
        self.after(lasts, move |w| w.node(node).shelf.disk.set_capacity(None));
    }

    pub fn heal_disks(&mut self) {
        for node in self.all_nodes() {
            let shelf = &mut self.node(node).shelf;
            (shelf.slow, shelf.ahead) = (Duration::ZERO, 0);
            shelf.disk.heal();
            shelf.disk.set_capacity(None);
        }
    }
}
