//! P1, the part below linearizability: two replicas that have applied the same number of entries have the same
//! bytes, whatever crashes, snapshots and repeated entries lie between; and in the end all have applied all.
//!
//! Not wider: that an acknowledged write is in the log is what the simulated log is made of, and durability is the
//! real logs' own test. The metadata's bytes are compared at every eighth entry, since its snapshot is large.

use rookery_cluster::ids::{GroupId, NodeId};

use crate::world::World;

impl World {
    pub fn p01_check(&mut self, node: NodeId, group: GroupId, at: usize) {
        if group == GroupId::METADATA && !at.is_multiple_of(8) {
            return;
        }
        let hash = hash(&self.node(node).snapshot(group));
        if *self.oracle.states.entry((group, at)).or_insert(hash) != hash {
            self.broken(format!("P1: group {group} differs at node {node} after {} entries", at + 1));
        }
    }

    /// At the end, when all is quiet.
    pub fn p01_all_applied(&mut self) {
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            let entries = self.group(group).entries.len();
            for node in self.all_nodes() {
                let applied = self.replica(node, group).applied;
                if applied != entries {
                    self.broken(format!("P1: node {node} has applied {applied} of {entries} entries of group {group}"));
                }
            }
            let all: Vec<_> = self.all_nodes().into_iter().map(|n| hash(&self.node(n).snapshot(group))).collect();
            if all.iter().any(|h| *h != all[0]) {
                self.broken(format!("P1: replicas of group {group} differ at the end"));
            }
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
