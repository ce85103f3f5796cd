//! Claim: the verb that grants, or makes wait.

use super::durable::Attached;
use super::state::{Bucket, Held, Record, Revocation, Wish};
use super::{
    ClaimKey, Claimant, Effect, Outcome, Refusal, ShardState, TAKEOVER_BURST, TAKEOVER_REFILL_MILLIS, Will, Within,
};
use crate::handle::SessionGrant;
use crate::ids::{Epoch, Incarnation, NodeLife};

impl ShardState {
    /// `heard`: the last epoch that the proposer had heard of. It takes the client from nobody who got it later,
    /// so a claim that was long on its way, from a connection that may be gone, disturbs no newer one. `None` for
    /// claims without a number, which were not asked. `within`: what the shard may hold of the broker.
    pub(super) fn claim(
        &mut self,
        key: ClaimKey,
        wish: Wish,
        will: Option<Will>,
        heard: Option<Epoch>,
        within: Option<Within>,
        out: &mut Vec<Effect>,
    ) -> Outcome {
        let by = wish.by;
        if self.has_ended(by.life) {
            return Outcome::Refused(Refusal::Expired);
        }
        self.end_earlier_lives(by.life, out);
        if let Some(standing) = self.standing(&key, by) {
            return standing;
        }
        if !self.has_room_for(&key, &wish, within) {
            return Outcome::Refused(Refusal::Full);
        }
        let Some(record) = self.records.get(&key) else {
            self.bring_will(&key, &wish, will);
            return self.grant_free(key, wish, out);
        };
        let holder = record.held.wish.by.life;
        if self.has_ended(holder) {
            // With the end of a life nobody waits for what it held; a snapshot may say otherwise.
            self.forget_waiting(&key);
            self.discount(holder);
            self.bring_will(&key, &wish, will);
            return self.grant_free(key, wish, out);
        }
        let newest = record.held.epoch.max(record.asked);
        if heard.is_some_and(|heard| heard < newest) {
            return Outcome::Outdated { epoch: self.last_epoch };
        }
        if !self.may_take_over(&key) {
            return Outcome::Refused(Refusal::TooFast);
        }
        let asked = heard.map(|_| self.next_epoch());
        self.bring_will(&key, &wish, will);
        self.wait(key, wish, asked, out)
    }

    /// How an earlier claim of `by` stands, as far as the shard remembers it.
    pub(super) fn standing(&self, key: &ClaimKey, by: Claimant) -> Option<Outcome> {
        let record = self.records.get(key)?;
        if record.held.wish.by == by {
            Some(granted(record.held.epoch, self.granted_session(key, by)))
        } else if record.waiting.is_some_and(|w| w.by == by) {
            Some(Outcome::Waiting { holder: record.held.wish.by })
        } else {
            record.gone.contains(&by).then_some(Outcome::Refused(Refusal::Superseded))
        }
    }

    /// A node registers its life in group 0 before it claims, and that ended all earlier ones (R3): the shard
    /// need not wait to be told.
    pub(super) fn end_earlier_lives(&mut self, life: NodeLife, out: &mut Vec<Effect>) {
        if let Some(earlier) = life.incarnation.0.checked_sub(1) {
            self.expire(NodeLife { incarnation: Incarnation(earlier), ..life }, out);
        }
    }

    fn grant_free(&mut self, key: ClaimKey, wish: Wish, out: &mut Vec<Effect>) -> Outcome {
        let epoch = self.next_epoch();
        self.count(wish.by.life);
        let session = self.attach(&key, &wish, epoch, out);
        self.records.insert(key, Record::new(wish, epoch));
        granted(epoch, session)
    }

    /// Keeps the will of a claimant that serves or waits from here on.
    fn bring_will(&mut self, key: &ClaimKey, wish: &Wish, will: Option<Will>) {
        if will.is_some() {
            let entry =
                Attached { key: key.clone(), expiry: wish.session_expiry, session: None, will, forestalled: None };
            self.attached.insert(wish.by, entry);
        }
    }

    /// Makes `wish` the one that waits; log order decides between rivals.
    fn wait(&mut self, key: ClaimKey, wish: Wish, asked: Option<Epoch>, out: &mut Vec<Effect>) -> Outcome {
        let Some(record) = self.records.get_mut(&key) else { return self.grant_free(key, wish, out) };
        record.asked = asked.unwrap_or(record.asked);
        let Held { wish: Wish { by: holder, .. }, epoch } = record.held;
        let replaced = record.waiting.replace(wish);
        match replaced {
            Some(old) => {
                record.lost(old.by);
                self.attached.remove(&old.by);
                out.push(Effect::Refuse { key: key.clone(), to: old.by, why: Refusal::Superseded });
                self.discount(old.by.life);
            }
            None => {
                self.recount(key.broker, |tally| tally.waiting += 1);
                out.push(Effect::Revoke { key: key.clone(), holder, epoch });
            }
        }
        self.count(wish.by.life);
        self.pending.insert(key, Revocation { holder, epoch, next: wish.by });
        Outcome::Waiting { holder }
    }

    /// Takes one token of the client's takeover allowance, if there is one.
    fn may_take_over(&mut self, key: &ClaimKey) -> bool {
        let now = self.time;
        let bucket = self.buckets.entry(key.clone()).or_insert(Bucket { tokens: TAKEOVER_BURST, filled: now });
        bucket.refill(now);
        let allowed = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        allowed
    }

    /// A takeover that was allowed did not come to be.
    pub(super) fn give_back_takeover(&mut self, key: &ClaimKey) {
        if let Some(bucket) = self.buckets.get_mut(key) {
            bucket.tokens = (bucket.tokens + 1).min(TAKEOVER_BURST);
        }
    }
}

/// The answer to a claimant that serves.
fn granted(epoch: Epoch, session: Option<SessionGrant>) -> Outcome {
    match session {
        Some(session) => Outcome::GrantedSession { epoch, session },
        None => Outcome::Granted { epoch, session_present: false },
    }
}

impl Bucket {
    /// Adds what shard time up to `now` allows.
    pub(super) fn refill(&mut self, now: u64) {
        let steps = now.saturating_sub(self.filled) / TAKEOVER_REFILL_MILLIS;
        self.filled += steps * TAKEOVER_REFILL_MILLIS;
        self.tokens = u32::try_from(steps).unwrap_or(u32::MAX).saturating_add(self.tokens).min(TAKEOVER_BURST);
    }
}
