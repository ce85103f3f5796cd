//! Tick: the verb that lets shard time pass.

use serde::{Deserialize, Serialize};

use super::{ClaimKey, Effect, Outcome, ShardState, TAKEOVER_BURST};
use crate::ids::NodeLife;

/// What was put off since the last tick begins to count within this part of its time.
const BEGINS_WITHIN: u64 = 8;

/// What waits for shard time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Young {
    /// The end of a client's session.
    Session(ClaimKey),
    /// A client's will.
    Will(ClaimKey),
}

impl ShardState {
    /// Takes a reading of `by`'s clock. The first reading of another life adds nothing, since clocks of two
    /// nodes do not compare: at a change of leader, shard time stands still for one tick. It stands still too
    /// while nothing waits for it, and then the last reading is void.
    pub(super) fn tick(&mut self, by: NodeLife, millis: u64, out: &mut Vec<Effect>) -> Outcome {
        let before = self.time;
        match &mut self.ticker {
            Some((last_by, last)) if *last_by == by => {
                self.time = self.time.saturating_add(millis.saturating_sub(*last));
                *last = millis.max(*last);
            }
            other => *other = Some((by, millis)),
        }
        let now = self.time;
        self.grow_up(now - before);
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

    /// What was put off since the last tick waits from now on: of what the tick added, `added`, nobody knows how much came
    /// before it. A delay is never cut short by that, and begins late by one step at most.
    fn grow_up(&mut self, added: u64) {
        for (at, young) in std::mem::take(&mut self.young) {
            let later = at.saturating_add(added);
            match young {
                Young::Will(key) => {
                    if let Some(will) = self.due_wills.get_mut(&key) {
                        will.at = later;
                        self.due.remove(&(at, key.clone()));
                        self.due.insert((later, key));
                    }
                }
                Young::Session(key) => {
                    if let Some(session) = self.sessions.get_mut(&key) {
                        session.ends = Some(later);
                        self.ending.remove(&(at, key.clone()));
                        self.ending.insert((later, key));
                    }
                }
            }
        }
    }

    /// In how many milliseconds of shard time the leader must have let it pass: for what is due next, and for what has
    /// yet to begin to wait.
    pub(super) fn wanted_within(&self) -> Option<u64> {
        let left = |at: u64| at.saturating_sub(self.time);
        let begins = self.young.first().map(|(at, _)| left(*at) / BEGINS_WITHIN);
        self.next_due().map(left).into_iter().chain(begins).min()
    }
}
