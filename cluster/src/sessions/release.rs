//! Release and Abandon: the verbs that make room. And Renew, which makes who waits for it ask again.

use super::state::{Held, Wish};
use super::{ClaimKey, Claimant, Effect, Outcome, Refusal, ShardState};
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
        let Some(by) = self.take_waiting(key) else { return };
        if let Some(record) = self.records.get_mut(key) {
            record.lost(by);
        }
    }

    fn take_waiting(&mut self, key: &ClaimKey) -> Option<Claimant> {
        self.pending.remove(key);
        let Wish { by, .. } = self.records.get_mut(key)?.waiting.take()?;
        self.recount(key.broker, |tally| tally.waiting -= 1);
        self.attached.remove(&by);
        self.discount(by.life);
        Some(by)
    }

    /// `by` serves a later connection than the one that was granted `epoch`. A claim that waits may have been made, and its
    /// connection gone, before that one came, so it does not count: whoever still wants the client claims again, having
    /// heard of the new epoch.
    pub(super) fn renew(&mut self, key: &ClaimKey, by: Claimant, epoch: Epoch, out: &mut Vec<Effect>) -> Outcome {
        let holds = self.records.get(key).is_some_and(|r| r.held.wish.by == by && r.held.epoch == epoch);
        // Wills and sessions are named by the epoch of their connection.
        if !holds || self.attached.contains_key(&by) {
            return self.standing(key, by).unwrap_or(Outcome::Done);
        }
        if let Some(to) = self.take_waiting(key) {
            self.give_back_takeover(key);
            out.push(Effect::Refuse { key: key.clone(), to, why: Refusal::Outdated });
        }
        let epoch = self.next_epoch();
        if let Some(record) = self.records.get_mut(key) {
            record.held.epoch = epoch;
        }
        Outcome::Granted { epoch, session_present: false }
    }
}
