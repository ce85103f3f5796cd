//! Release and Abandon: the verbs that make room.

use super::state::{Held, Wish};
use super::{ClaimKey, Claimant, Effect, Outcome, ShardState};
use crate::handle::Leave;
use crate::ids::Epoch;

impl ShardState {
    /// Ends what `by` holds (under `epoch`, if one is named) or waits for. Anything else is out of date and
    /// changes nothing.
    pub(super) fn release(
        &mut self,
        key: &ClaimKey,
        by: Claimant,
        epoch: Option<Epoch>,
        leave: Option<Leave>,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let Some(record) = self.records.get(key) else { return Outcome::Done };
        let held = record.held;
        if held.wish.by == by && epoch.is_none_or(|e| e == held.epoch) {
            // Who abandons never served: what it was granted is as before.
            let leave = leave.unwrap_or_else(|| Leave::untouched(self.granted_session(key, by)));
            self.vacate(key, Some(leave), out);
        } else if record.waiting.is_some_and(|w| w.by == by) {
            self.forget_waiting(key);
        }
        Outcome::Done
    }

    /// The holder is gone, and leaves what it says, or what a lost connection does: the waiting claimant, if there is
    /// one, serves now; else the record ends.
    pub(super) fn vacate(&mut self, key: &ClaimKey, leave: Option<Leave>, out: &mut Vec<Effect>) {
        self.pending.remove(key);
        let Some(mut record) = self.records.remove(key) else { return };
        let Wish { by: old, .. } = record.held.wish;
        self.discount(old.life);
        self.detach(key, old, record.held.epoch, leave, out);
        let Some(wish) = record.waiting.take() else { return };
        self.recount(key.broker, |tally| tally.waiting -= 1);
        let epoch = self.next_epoch();
        record.lost(old);
        record.held = Held { wish, epoch };
        self.records.insert(key.clone(), record);
        let session = self.attach(key, &wish, epoch, out);
        out.push(Effect::Grant { key: key.clone(), to: wish.by, epoch, session });
    }

    /// The waiting claimant is gone. The holder may have been told to stop already; then it releases, and
    /// the client is free.
    pub(super) fn forget_waiting(&mut self, key: &ClaimKey) {
        self.pending.remove(key);
        let Some(wish) = self.records.get_mut(key).and_then(|r| r.waiting.take()) else { return };
        if let Some(record) = self.records.get_mut(key) {
            record.lost(wish.by);
        }
        self.recount(key.broker, |tally| tally.waiting -= 1);
        self.attached.remove(&wish.by);
        self.discount(wish.by.life);
    }
}
