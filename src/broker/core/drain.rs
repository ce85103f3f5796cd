//! The fence of a session's move (R14): what this worker has for the node or worker that keeps the session, from before it
//! knew who else wants it, is there before the session leaves.

use rookery_cluster::handle::Holder;
use rookery_cluster::ids::BrokerId;

use super::{ConnKey, Core};

/// The place of no connection: what is accepted under it is a drain.
const NO_PLACE: u32 = u32::MAX - 1;

impl Core {
    pub(super) fn on_drain(&mut self, ticket: u64, broker: BrokerId, to: Holder) {
        self.next_drain = self.next_drain.wrapping_add(1);
        let key = ConnKey { index: NO_PLACE, generation: self.next_drain };
        let dest = self.dest_of.get(&to).copied();
        if dest.is_some_and(|dest| self.dests[usize::from(dest)].await_drained(broker, key)) {
            self.drains.insert(self.next_drain, ticket);
        } else {
            self.drained.push(ticket);
        }
    }

    /// What the drain `key` waited for is accepted, or its destination's life is over. Whether `key` is a drain at all.
    pub(super) fn drain_accepted(&mut self, key: ConnKey) -> bool {
        if key.index != NO_PLACE {
            return false;
        }
        self.drained.extend(self.drains.remove(&key.generation));
        true
    }
}
