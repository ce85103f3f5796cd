//! What a crash leaves of a node: of each replica a state that it had applied at some time, maybe an old one; the
//! logs themselves are safe.

use rookery_cluster::ids::{GroupId, LogIndex, NodeId};

use crate::world::World;

impl World {
    /// Gives a starting process its replicas: as of an index between nothing and what was applied, partly through
    /// a snapshot.
    pub fn restore_disk(&mut self, id: NodeId) {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        self.node(id).meta = Default::default();
        self.node(id).shards.clear();
        for group in groups {
            let before = self.replica(id, group).applied as u64;
            // Mostly nearly all of it: a replica stores its state often.
            let back =
                if self.rng.percent(60) { self.rng.below(before.min(5) + 1) } else { self.rng.below(before + 1) };
            let applied = (before - back) as usize;
            let snapshot_at = self.rng.below(applied as u64 + 1) as usize;
            for at in 0..applied {
                let command = self.group(group).entries[at].command.clone();
                self.node(id).apply(group, LogIndex(at as u64 + 1), &command);
                if at + 1 == snapshot_at {
                    let bytes = self.node(id).snapshot(group);
                    self.node(id).restore(group, &bytes);
                }
            }
            *self.replica(id, group) = Default::default();
            self.replica(id, group).applied = applied;
        }
        // Seen by nobody: the process that would have acted on them is gone.
        self.node(id).effects.clear();
    }
}
