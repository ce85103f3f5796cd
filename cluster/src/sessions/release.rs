//! Release and Abandon: the verbs that make room.

use super::state::{Held, Wish};
use super::{ClaimKey, Claimant, Effect, Outcome, ShardState};
use crate::ids::Epoch;

impl ShardState {
    /// Ends what `by` holds (under `epoch`, if one is named) or waits for. Anything else is out of date and
    /// changes nothing.
    pub(super) fn release(
        &mut self,
        key: &ClaimKey,
        by: Claimant,
        epoch: Option<Epoch>,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let Some(record) = self.records.get(key) else { return Outcome::Done };
        let held = record.held;
        if held.wish.by == by && epoch.is_none_or(|e| e == held.epoch) {
            self.vacate(key, out);
        } else if record.waiting.is_some_and(|w| w.by == by) {
            self.forget_waiting(key);
        }
        Outcome::Done
    }

    /// The holder is gone: the waiting claimant, if there is one, serves now; else the record ends, as no
    /// session outlives its connection.
    pub(super) fn vacate(&mut self, key: &ClaimKey, out: &mut Vec<Effect>) {
        self.pending.remove(key);
        let Some(mut record) = self.records.remove(key) else { return };
        let Wish { by: old, .. } = record.held.wish;
        self.discount(old.life);
        let Some(wish) = record.waiting.take() else { return };
        let epoch = self.next_epoch();
        record.lost(old);
        record.held = Held { wish, epoch };
        self.records.insert(key.clone(), record);
        out.push(Effect::Grant { key: key.clone(), to: wish.by, epoch, session_present: false });
    }

    /// The waiting claimant is gone. The holder may have been told to stop already; then it releases, and
    /// the client is free.
    pub(super) fn forget_waiting(&mut self, key: &ClaimKey) {
        self.pending.remove(key);
        let Some(wish) = self.records.get_mut(key).and_then(|r| r.waiting.take()) else { return };
        if let Some(record) = self.records.get_mut(key) {
            record.lost(wish.by);
        }
        self.discount(wish.by.life);
    }
}
