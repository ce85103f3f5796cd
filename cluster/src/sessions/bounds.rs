//! How much a broker's clients may leave in a shard, and what it has there. The bounds are a tenant's setting, which the
//! shard does not know: they travel in the command, as its proposer has them from the metadata.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::durable::Session;
use super::state::Wish;
use super::{ClaimKey, Numbered, Outcome, ShardState};
use crate::ids::BrokerId;
use crate::limits::{SESSION_FILTER_BYTES, SESSIONS};

/// What a filter counts besides its bytes.
const FILTER_OVERHEAD: u64 = 32;
/// Sessions that a shard may have of any broker, however small the broker's limit: client IDs spread by chance.
const LEAST_SHARE: u32 = 8;

/// What one shard may hold of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// Sessions that outlive their connections.
    pub sessions: u32,
    /// Bytes of the filters that they are subscribed to, each with 32 more.
    pub filter_bytes: u64,
}

/// A numbered proposal, and the bounds of the broker that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// What is proposed.
    pub numbered: Numbered,
    /// What the shard may hold of that broker.
    pub within: Within,
}

/// What a shard holds of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sessions that outlive their connections.
    pub sessions: u32,
    /// Bytes of their filters, as [`Within::filter_bytes`] counts them.
    pub filter_bytes: u64,
    /// Wills that wait to be published.
    pub wills: u32,
    /// Claimants that wait, each of which may begin a session.
    pub waiting: u32,
}

impl Within {
    /// A shard's share of what a broker's limits say, 0 being none, but of no more than any broker may have. Client IDs
    /// spread over the shards by chance: the share is the average and four standard deviations.
    pub fn share(sessions: u32, filter_bytes: u64, shards: u32) -> Self {
        let least = |limit: u64, bound: u64| if limit == 0 { bound } else { limit.min(bound) };
        let (sessions, shards) = (least(sessions.into(), SESSIONS.into()), u64::from(shards.max(1)));
        let average = u32::try_from(sessions.div_ceil(shards)).unwrap_or(SESSIONS);
        let share = average.saturating_add(4 * average.isqrt()).max(LEAST_SHARE);
        let bytes = least(filter_bytes, SESSION_FILTER_BYTES);
        // As much of the bytes as of the sessions.
        let filter_bytes = bytes.div_ceil(sessions).saturating_mul(share.into()).min(bytes);
        Self { sessions: share.min(u32::try_from(sessions).unwrap_or(SESSIONS)), filter_bytes }
    }
}

impl Tally {
    /// Whether the shard keeps anything of the broker that does not end with its connections.
    pub fn keeps(&self) -> bool {
        self.sessions > 0 || self.wills > 0
    }
}

/// What a filter counts.
pub(super) fn filter_bytes(filter: &str) -> u64 {
    filter.len() as u64 + FILTER_OVERHEAD
}

impl ShardState {
    /// Whether a claim may be granted that begins a session if `wish` asks for one and there is none to go on with.
    pub(super) fn has_room_for(&self, key: &ClaimKey, wish: &Wish, within: Option<Within>) -> bool {
        let (Some(within), true) = (within, wish.session_expiry > 0) else { return true };
        let tally = self.tally(key.broker);
        self.sessions.contains_key(key) || tally.sessions.saturating_add(tally.waiting) < within.sessions
    }

    /// Whether the session may have these changes of its subscriptions: always, if they take up no more than is there.
    pub(super) fn has_room_to_subscribe(
        &self,
        key: &ClaimKey,
        session: &Session,
        changes: &[(Arc<str>, Option<u64>)],
        within: Option<Within>,
    ) -> bool {
        let Some(within) = within else { return true };
        let (mut more, mut less) = (0, 0);
        for (filter, options) in changes {
            match (session.subscriptions.contains_key(filter), options) {
                (false, Some(_)) => more += filter_bytes(filter),
                (true, None) => less += filter_bytes(filter),
                _ => {}
            }
        }
        more <= less || self.tally(key.broker).filter_bytes + more <= within.filter_bytes + less
    }

    pub(super) fn tally(&self, broker: BrokerId) -> Tally {
        self.tallies.get(&broker).copied().unwrap_or_default()
    }

    /// Changes what is counted of a broker.
    pub(super) fn recount(&mut self, broker: BrokerId, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally(broker);
        change(&mut tally);
        if tally == Tally::default() {
            self.tallies.remove(&broker);
        } else {
            self.tallies.insert(broker, tally);
        }
    }

    /// Counts everything afresh.
    pub(super) fn count_all(&mut self) {
        let waiting = self.records.iter().filter(|(_, record)| record.waiting.is_some()).map(|(key, _)| key.broker);
        let wills = self.due_wills.keys().chain(self.firing.keys().map(|(key, _)| key)).map(|key| key.broker);
        let sessions = self.sessions.iter().map(|(key, session)| (key.broker, session.filter_bytes()));
        let (waiting, wills): (Vec<_>, Vec<_>) = (waiting.collect(), wills.collect());
        let sessions: Vec<_> = sessions.collect();
        waiting.into_iter().for_each(|broker| self.recount(broker, |tally| tally.waiting += 1));
        wills.into_iter().for_each(|broker| self.recount(broker, |tally| tally.wills += 1));
        for (broker, bytes) in sessions {
            self.recount(broker, |tally| {
                (tally.sessions, tally.filter_bytes) = (tally.sessions + 1, tally.filter_bytes + bytes);
            });
        }
    }

    /// A proposal with the bounds of its broker.
    pub(super) fn bounded(&mut self, bounded: Bounded, out: &mut Vec<super::Effect>) -> Outcome {
        self.numbered(bounded.numbered, Some(bounded.within), out)
    }
}
