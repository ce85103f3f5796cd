//! The state of a shard and what others see of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::durable::{Attached, Session};
use super::tick::Young;
use super::wills::DueWill;
use super::{ClaimKey, Claimant, Command, Effect, GONE_MEMORY, Outcome, SWEEP_STEP, Tally};
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Sequence};

/// One shard. Call [`ShardState::apply`] for each committed command, in log order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    /// The last epoch given to anyone that serves or waits. One counter for the shard, so that a client's epochs
    /// rise even if its record was gone in between. (The log index would not do: one entry carries many commands.)
    pub(super) last_epoch: Epoch,
    /// Shard time, milliseconds: the sum of what committed ticks added.
    pub(super) time: u64,
    /// Whose clock was read last, and its reading.
    pub(super) ticker: Option<(NodeLife, u64)>,
    /// Claims of these incarnations and earlier ones are free by comparison (R3).
    pub(super) expired: OrdMap<NodeId, Incarnation>,
    /// The last number taken of each life that proposes (R13). One a live life: an ended one is refused by
    /// comparison, and is forgotten with its end.
    pub(super) streams: BTreeMap<NodeLife, Sequence>,
    /// Every client that somebody serves.
    pub(super) records: BTreeMap<ClaimKey, Record>,
    /// What depends on those of the claimants that have a will or a session.
    pub(super) attached: BTreeMap<Claimant, Attached>,
    /// Every session that outlives its connections, served or not.
    pub(super) sessions: BTreeMap<ClaimKey, Session>,
    /// Wills that wait for their delay.
    pub(super) due_wills: BTreeMap<ClaimKey, DueWill>,
    /// When they are due, in shard time. Derived from `due_wills`.
    pub(super) due: BTreeSet<(u64, ClaimKey)>,
    /// Wills that are due, by the connection that left them: to be published until that is confirmed.
    pub(super) firing: OrdMap<(ClaimKey, Epoch), Bytes>,
    /// At which hybrid time those of them are written that are to be retained, once that is decided.
    pub(super) will_times: OrdMap<(ClaimKey, Epoch), u64>,
    /// When the sessions end that nobody serves, in shard time. Derived from `sessions`.
    pub(super) ending: BTreeSet<(u64, ClaimKey)>,
    /// What there is of each broker. Derived from `sessions`, `records` and the wills.
    pub(super) tallies: OrdMap<BrokerId, Tally>,
    /// What was put off since the last tick, and until when: the time that passed before it does not count for it.
    pub(super) young: BTreeSet<(u64, Young)>,
    /// Takeover allowances that are not full.
    pub(super) buckets: BTreeMap<ClaimKey, Bucket>,
    /// Where the removal of claims of ended lives goes on.
    pub(super) sweep: Option<Sweep>,
    /// What is to be revoked: the records with a waiting claimant. Derived from `records`.
    pub(super) pending: OrdMap<ClaimKey, Revocation>,
    /// How many claims, held or waiting, each life has, and one more for its stream. Derived from `records` and
    /// `streams`.
    pub(super) lives: OrdMap<NodeLife, u64>,
}

/// A client's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) held: Held,
    pub(super) waiting: Option<Wish>,
    /// The epoch at which the last numbered claim began to wait: who has not heard of it does not replace it.
    pub(super) asked: Epoch,
    /// Claimants that lost, oldest first.
    pub(super) gone: Vec<Claimant>,
}

impl Record {
    /// A client that `wish` got free.
    pub(super) fn new(wish: Wish, epoch: Epoch) -> Self {
        Self { held: Held { wish, epoch }, waiting: None, asked: Epoch(0), gone: Vec::new() }
    }

    /// Remembers that `who` lost, forgetting the oldest beyond [`GONE_MEMORY`].
    pub(super) fn lost(&mut self, who: Claimant) {
        if self.gone.len() == GONE_MEMORY {
            self.gone.remove(0);
        }
        self.gone.push(who);
    }
}

/// A granted claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was asked for, and by whom.
    pub wish: Wish,
    /// Under which epoch it was granted.
    pub epoch: Epoch,
}

/// A claim as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The connection.
    pub by: Claimant,
    /// CONNECT's Clean Start.
    pub clean_start: bool,
    /// Session expiry, seconds.
    pub session_expiry: u32,
}

/// What is left of a client's takeover allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub(super) tokens: u32,
    /// Shard time up to which refills were added.
    pub(super) filled: u64,
}

/// A walk over all records, [`SWEEP_STEP`] a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sweep {
    /// The last record looked at.
    pub(super) after: Option<ClaimKey>,
}

/// A holder that must be told to release, again and again until it has (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who holds the claim.
    pub holder: Claimant,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Who waits for it.
    pub next: Claimant,
}

/// What the drivers see of a shard: cheap to clone, as of one log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardView {
    /// What is to be revoked.
    pub pending: OrdMap<ClaimKey, Revocation>,
    /// The lives that claims and streams name, with how many; lives that ended stay until their claims were
    /// removed.
    pub lives: OrdMap<NodeLife, u64>,
    /// Up to which incarnation the shard knows each node's lives to have ended.
    pub expired: OrdMap<NodeId, Incarnation>,
    /// The last epoch given to anyone.
    pub epoch: Epoch,
    /// Wills to be published, by the connection that left them.
    pub firing: OrdMap<(ClaimKey, Epoch), Bytes>,
    /// The hybrid times at which those of them are written that are to be retained, once that is decided.
    pub will_times: OrdMap<(ClaimKey, Epoch), u64>,
    /// What there is of each broker.
    pub tallies: OrdMap<BrokerId, Tally>,
    /// Whether a takeover allowance waits for shard time, or the sweep for a command: the leader proposes ticks while it
    /// does.
    pub wants_ticks: bool,
    /// Milliseconds of shard time until a session ends or a will is due, or fewer for one that has yet to begin to wait, if
    /// any waits for that: the leader proposes ticks, the more often the nearer it is.
    pub next_due: Option<u64>,
}

impl ShardView {
    /// Whether the shard knows that `life` has ended.
    pub fn has_ended(&self, life: NodeLife) -> bool {
        self.expired.get(&life.node).is_some_and(|last| life.incarnation <= *last)
    }
}

impl ShardState {
    /// Applies one committed command. Effects are added to `out`.
    pub fn apply(&mut self, command: Command, out: &mut Vec<Effect>) -> Outcome {
        let outcome = match command {
            Command::Claim { key, by, clean_start, session_expiry } => {
                self.claim(key, Wish { by, clean_start, session_expiry }, None, None, None, out)
            }
            Command::Release { key, by, epoch } => self.release(&key, by, Some(epoch), None, out),
            Command::Abandon { key, by } => self.release(&key, by, None, None, out),
            Command::Expire { life } => self.expire(life, out),
            Command::Tick { by, millis } => self.tick(by, millis, out),
            Command::Numbered(numbered) => self.numbered(numbered, None, out),
            Command::Bounded(bounded) => self.bounded(bounded, out),
            Command::Forget { broker } => self.forget(broker, out),
        };
        self.sweep_step();
        outcome
    }

    /// What the drivers see.
    pub fn view(&self) -> ShardView {
        ShardView {
            pending: self.pending.clone(),
            lives: self.lives.clone(),
            expired: self.expired.clone(),
            epoch: self.last_epoch,
            firing: self.firing.clone(),
            will_times: self.will_times.clone(),
            tallies: self.tallies.clone(),
            next_due: self.wanted_within(),
            wants_ticks: !self.buckets.is_empty() || self.sweep.is_some(),
        }
    }

    /// Who serves a client, if anyone does whose life has not ended.
    pub fn holder(&self, key: &ClaimKey) -> Option<Held> {
        self.records.get(key).map(|r| r.held).filter(|held| !self.has_ended(held.wish.by.life))
    }

    /// How many clients are served, counting those of ended lives that are not removed yet.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no client is served.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn has_ended(&self, life: NodeLife) -> bool {
        self.expired.get(&life.node).is_some_and(|last| life.incarnation <= *last)
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.last_epoch = Epoch(self.last_epoch.0 + 1);
        self.last_epoch
    }

    pub(super) fn count(&mut self, life: NodeLife) {
        *self.lives.entry(life).or_insert(0) += 1;
    }

    pub(super) fn discount(&mut self, life: NodeLife) {
        if let Some(left) = self.lives.get_mut(&life) {
            *left -= 1;
            if *left == 0 {
                self.lives.remove(&life);
            }
        }
    }

    /// Removes claims of ended lives among the next few records: memory only, they were free before.
    fn sweep_step(&mut self) {
        let Some(Sweep { after }) = self.sweep.take() else { return };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let seen: Vec<ClaimKey> = self
            .records
            .range((from, std::ops::Bound::Unbounded))
            .take(SWEEP_STEP)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &seen {
            let Some(life) = self.records.get(key).map(|r| r.held.wish.by.life) else { continue };
            if self.has_ended(life) {
                self.forget_waiting(key);
                self.records.remove(key);
                self.discount(life);
            }
        }
        if seen.len() == SWEEP_STEP {
            self.sweep = Some(Sweep { after: seen.last().cloned() });
        }
    }
}
