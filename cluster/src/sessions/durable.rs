//! Sessions that outlive their connections: what a shard keeps of them, and when they end (MQTT 5 §4.1).
//!
//! Their queues and what is in flight are not here but at the session's home, the worker that served it last.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::filter_bytes;
use super::state::Wish;
use super::tick::Young;
use super::wills::{DueWill, Will};
use super::{ClaimKey, Claimant, Effect, Outcome, RECALL_BYTES, Refusal, ShardState, Within};
use crate::handle::{Home, Keep, Leave, SessionGrant, Subscription};
use crate::ids::{Epoch, SessionId};

/// A client's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Filters as the client sent them, with their options. How many is bounded by the broker's limits, at its worker.
    pub(super) subscriptions: BTreeMap<Arc<str>, u64>,
    /// Where its queue is, as of its last release.
    pub(super) home: Option<Home>,
    /// For how long it was last kept without a connection, seconds; `None`: it never was.
    pub(super) kept_for: Option<u32>,
    /// Until when it is kept, in shard time; `None` while it is served, or for ever.
    pub(super) ends: Option<u64>,
}

impl Session {
    /// What its filters count.
    pub(super) fn filter_bytes(&self) -> u64 {
        self.subscriptions.keys().map(|filter| filter_bytes(filter)).sum()
    }
}

/// What depends on one claimant that serves or waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attached {
    pub(super) key: ClaimKey,
    /// Session expiry that it asked for, seconds.
    pub(super) expiry: u32,
    /// Whether it was granted, and with which session.
    pub(super) session: Option<(SessionId, bool)>,
    pub(super) will: Option<Will>,
    /// A will of an earlier connection that waited for its delay: if this one never serves, it waits on.
    pub(super) forestalled: Option<DueWill>,
}

impl ShardState {
    /// `wish` serves from `epoch` on: its session goes on or begins.
    pub(super) fn attach(
        &mut self,
        key: &ClaimKey,
        wish: &Wish,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) -> Option<SessionGrant> {
        if wish.clean_start {
            self.end_session(key, out);
        }
        let mut forestalled = None;
        if let Some(session) = self.sessions.get_mut(key) {
            let ends = session.ends.take();
            self.unschedule(key, ends);
            forestalled = self.cancel_will(key);
        } else if wish.session_expiry > 0 {
            let session = Session {
                id: SessionId(epoch.0),
                subscriptions: BTreeMap::new(),
                home: None,
                kept_for: None,
                ends: None,
            };
            self.sessions.insert(key.clone(), session);
            self.recount(key.broker, |tally| tally.sessions += 1);
        }
        // A will of an earlier session may still wait: that session is over.
        self.fire_due(key);
        let grant = self.sessions.get(key).map(|session| {
            let home = session.home.filter(|home| !self.has_ended(home.life));
            SessionGrant { id: session.id, present: session.id != SessionId(epoch.0), home }
        });
        let entry = self.attached.get_mut(&wish.by);
        match (entry, grant) {
            (Some(entry), grant) => {
                entry.session = grant.map(|grant| (grant.id, grant.present));
                entry.forestalled = forestalled;
            }
            (None, Some(grant)) => {
                let session = Some((grant.id, grant.present));
                let entry =
                    Attached { key: key.clone(), expiry: wish.session_expiry, session, will: None, forestalled };
                self.attached.insert(wish.by, entry);
            }
            (None, None) => {}
        }
        grant
    }

    /// The grant that `by` has, said once more.
    pub(super) fn granted_session(&self, key: &ClaimKey, by: Claimant) -> Option<SessionGrant> {
        let (id, present) = self.attached.get(&by)?.session?;
        let session = self.sessions.get(key).filter(|session| session.id == id)?;
        let home = session.home.filter(|home| !self.has_ended(home.life));
        Some(SessionGrant { id, present, home })
    }

    /// `by`, which served under `epoch`, does so no more.
    pub(super) fn detach(
        &mut self,
        key: &ClaimKey,
        by: Claimant,
        epoch: Epoch,
        leave: Option<Leave>,
        out: &mut Vec<Effect>,
    ) {
        let Some(Attached { expiry, session, will, forestalled, .. }) = self.attached.remove(&by) else { return };
        let leave = leave.unwrap_or_else(|| self.lost(key, expiry));
        if let (Some(Keep { expiry: None, .. }), false, Some(earlier)) = (leave.keep, leave.fire_will, forestalled) {
            self.put_due(key, earlier);
        }
        let mine = session.is_some_and(|(id, _)| self.sessions.get(key).is_some_and(|s| s.id == id));
        let goes_on = mine && self.keep(key, leave.keep);
        if mine && !goes_on {
            self.end_session(key, out);
        }
        if let Some(will) = will.filter(|_| leave.fire_will) {
            let delay = if goes_on { u64::from(will.delay) * 1000 } else { 0 };
            self.schedule_will(key, epoch, will.message, delay);
        }
    }

    /// What a claimant leaves whose node has ended: as if its connection were lost.
    fn lost(&self, key: &ClaimKey, expiry: u32) -> Leave {
        let home = self.sessions.get(key).and_then(|session| session.home);
        Leave { keep: (expiry > 0).then_some(Keep { expiry: Some(expiry), home }), fire_will: true }
    }

    /// Whether the session goes on without a connection.
    fn keep(&mut self, key: &ClaimKey, keep: Option<Keep>) -> bool {
        let (Some(keep), Some(session)) = (keep, self.sessions.get_mut(key)) else { return false };
        let Some(expiry) = keep.expiry.or(session.kept_for) else { return false };
        // Who does not know where it is leaves it where it was.
        session.home = keep.home.or(session.home);
        session.kept_for = Some(expiry);
        let ends = (expiry != u32::MAX).then(|| self.time.saturating_add(u64::from(expiry) * 1000));
        // It has none while it is served; a snapshot may say otherwise, and what stands there twice never goes.
        let before = std::mem::replace(&mut session.ends, ends);
        self.unschedule(key, before);
        if let Some(ends) = ends {
            self.ending.insert((ends, key.clone()));
            self.young.insert((ends, Young::Session(key.clone())));
        }
        true
    }

    /// Ends a session, wherever it is.
    pub(super) fn end_session(&mut self, key: &ClaimKey, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.remove(key) else { return };
        self.unschedule(key, session.ends);
        let bytes = session.filter_bytes();
        self.recount(key.broker, |tally| {
            (tally.sessions, tally.filter_bytes) = (tally.sessions - 1, tally.filter_bytes - bytes);
        });
        if let Some(home) = session.home {
            out.push(Effect::Discard { key: key.clone(), session: session.id, home });
        }
        // Its will, if it still waits, is due with its end (MQTT-3.1.2-8).
        self.fire_due(key);
    }

    fn unschedule(&mut self, key: &ClaimKey, ends: Option<u64>) {
        if let Some(ends) = ends {
            self.ending.remove(&(ends, key.clone()));
            self.young.remove(&(ends, Young::Session(key.clone())));
        }
    }

    /// Ends the sessions whose time is over. Each turn takes an entry away, whatever there is behind it.
    pub(super) fn end_overdue(&mut self, out: &mut Vec<Effect>) {
        while self.ending.first().is_some_and(|(ends, _)| *ends <= self.time)
            && let Some((ends, key)) = self.ending.pop_first()
        {
            if self.sessions.get(&key).is_some_and(|session| session.ends == Some(ends)) {
                self.end_session(&key, out);
            }
        }
    }

    /// The lives of a node up to `life` have ended: what their claimants had is left as by lost connections.
    pub(super) fn detach_ended(&mut self, out: &mut Vec<Effect>) {
        let ended: Vec<(Claimant, ClaimKey)> = self
            .attached
            .iter()
            .filter(|(by, _)| self.has_ended(by.life))
            .map(|(by, entry)| (*by, entry.key.clone()))
            .collect();
        for (by, key) in ended {
            match self.records.get(&key).map(|record| record.held) {
                Some(held) if held.wish.by == by => self.detach(&key, by, held.epoch, None, out),
                _ => drop(self.attached.remove(&by)),
            }
        }
    }

    /// Changes of the subscriptions of the session that `by` serves.
    pub(super) fn subscribe(
        &mut self,
        key: &ClaimKey,
        by: Claimant,
        epoch: Epoch,
        changes: Vec<(Arc<str>, Option<u64>)>,
        within: Option<Within>,
    ) -> Outcome {
        let serves = self.records.get(key).is_some_and(|r| r.held.wish.by == by && r.held.epoch == epoch);
        let Some(session) = self.sessions.get(key).filter(|_| serves) else {
            return Outcome::Refused(Refusal::Superseded);
        };
        if !self.has_room_to_subscribe(key, session, &changes, within) {
            return Outcome::Refused(Refusal::Full);
        }
        let Some(session) = self.sessions.get_mut(key) else { return Outcome::Refused(Refusal::Superseded) };
        let (mut more, mut less) = (0, 0);
        for (filter, options) in changes {
            let bytes = filter_bytes(&filter);
            let had = match options {
                Some(options) => session.subscriptions.insert(filter, options).is_some(),
                None => session.subscriptions.remove(&filter).is_some(),
            };
            match (had, options) {
                (false, Some(_)) => more += bytes,
                (true, None) => less += bytes,
                _ => {}
            }
        }
        self.recount(key.broker, |tally| tally.filter_bytes = tally.filter_bytes + more - less);
        Outcome::Done
    }

    /// The subscriptions of the session that `by` serves, those after `after` in their order, as many as fit.
    pub(super) fn recall(&self, key: &ClaimKey, by: Claimant, after: Option<&Arc<str>>) -> Outcome {
        let serves = self.records.get(key).is_some_and(|r| r.held.wish.by == by);
        let Some(session) = self.sessions.get(key).filter(|_| serves) else {
            return Outcome::Refused(Refusal::Superseded);
        };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut rest = session.subscriptions.range::<Arc<str>, _>((from, std::ops::Bound::Unbounded)).peekable();
        let mut subscriptions: Vec<Subscription> = Vec::new();
        let mut bytes = 0;
        while let Some((filter, options)) = rest.next_if(|_| bytes < RECALL_BYTES) {
            bytes += filter.len();
            subscriptions.push((filter.clone(), *options));
        }
        Outcome::Subscriptions { subscriptions, more: rest.peek().is_some() }
    }
}
