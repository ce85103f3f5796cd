//! Tick: the verb that lets shard time pass.

use super::{Effect, Outcome, ShardState, TAKEOVER_BURST};
use crate::ids::NodeLife;

impl ShardState {
    /// Takes a reading of `by`'s clock. The first reading of another life adds nothing, since clocks of two
    /// nodes do not compare: at a change of leader, shard time stands still for one tick. It stands still too
    /// while nothing waits for it, and then the last reading is void.
    pub(super) fn tick(&mut self, by: NodeLife, millis: u64, out: &mut Vec<Effect>) -> Outcome {
        match &mut self.ticker {
            Some((last_by, last)) if *last_by == by => {
                self.time = self.time.saturating_add(millis.saturating_sub(*last));
                *last = millis.max(*last);
            }
            other => *other = Some((by, millis)),
        }
        let now = self.time;
        self.buckets.retain(|_, bucket| {
            bucket.refill(now);
            bucket.tokens < TAKEOVER_BURST
        });
        self.fire_overdue();
        self.end_overdue(out);
        if self.buckets.is_empty() && self.next_due().is_none() {
            self.ticker = None;
        }
        Outcome::Done
    }
}
