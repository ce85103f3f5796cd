//! When the leader of shards gives them time. PURE.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::GroupId;
use crate::limits::CLAIM_RESEND;
use crate::sessions::ShardView;

/// Shard time passes in steps of this.
const TICK_EVERY: Duration = Duration::from_millis(1000);
/// Longest step of shard time while anything waits for it; a change of the leader may lose one.
const TICK_AT_LEAST: Duration = Duration::from_secs(10);

/// When which shard was given time.
#[derive(Debug, Default)]
pub struct Pace {
    ticked: Moment,
    ticked_group: BTreeMap<GroupId, Moment>,
}

impl Pace {
    /// Which of the shards led here are to be given time now.
    pub fn due(&mut self, now: Moment, led: &BTreeMap<GroupId, ShardView>) -> Vec<GroupId> {
        let tick = now.since(self.ticked) >= TICK_EVERY;
        if tick {
            self.ticked = now;
        }
        let mut due = Vec::new();
        for (group, view) in led {
            let since = now.since(*self.ticked_group.entry(*group).or_default());
            if (tick && view.wants_ticks) || view.next_due.is_some_and(|due| since >= tick_within(due)) {
                self.ticked_group.insert(*group, now);
                due.push(*group);
            }
        }
        due
    }
}

/// How long shard time may stand still that something waits for which is due in `due` milliseconds of it: half of that,
/// so that few commands are spent on what is far off, and what is near is met to the quarter of a second.
fn tick_within(due: u64) -> Duration {
    Duration::from_millis(due / 2).clamp(CLAIM_RESEND, TICK_AT_LEAST)
}
