//! Wills (R16): kept while their connection serves, due when it is lost, published by the shard's leader, and forgotten
//! once that is confirmed. A leader that dies between the publishing and the confirmation leaves a second try to its
//! successor, which carries the same name and, if it is retained, the same time: who had the first has nothing of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::tick::Young;
use super::{ClaimKey, ShardState};
use crate::ids::Epoch;
use crate::retained::Time;

/// A will as it was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// What is published, encoded by the broker.
    pub message: Bytes,
    /// Will Delay Interval, seconds.
    pub delay: u32,
}

/// A will that waits for its delay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DueWill {
    epoch: Epoch,
    /// In shard time.
    pub(super) at: u64,
    message: Bytes,
}

impl ShardState {
    /// A will is due in `delay` milliseconds. An earlier one of the client that still waits is published now: each
    /// stands for the end of another connection.
    pub(super) fn schedule_will(&mut self, key: &ClaimKey, epoch: Epoch, message: Bytes, delay: u64) {
        self.fire_due(key);
        if delay == 0 {
            return self.fire(key, epoch, message);
        }
        let at = self.time.saturating_add(delay);
        self.put_due(key, DueWill { epoch, at, message });
    }

    /// The client's session is gone on with before its will was due (MQTT-3.1.3-9).
    pub(super) fn cancel_will(&mut self, key: &ClaimKey) -> Option<DueWill> {
        self.take_due(key)
    }

    /// What waits of the client's is due now.
    pub(super) fn fire_due(&mut self, key: &ClaimKey) {
        if let Some(DueWill { epoch, message, .. }) = self.take_due(key) {
            self.fire(key, epoch, message);
        }
    }

    /// Publishes what is due by now. Each turn takes an entry away, whatever there is behind it.
    pub(super) fn fire_overdue(&mut self) {
        while self.due.first().is_some_and(|(at, _)| *at <= self.time)
            && let Some((at, key)) = self.due.pop_first()
        {
            if self.due_wills.get(&key).is_some_and(|will| will.at == at) {
                self.fire_due(&key);
            }
        }
    }

    /// A will that is to be retained is written at `time`, whoever publishes it: the first to say so decides.
    pub(super) fn will_timed(&mut self, key: ClaimKey, epoch: Epoch, time: Time) {
        let name = (key, epoch);
        if self.firing.contains_key(&name) {
            self.will_times.entry(name).or_insert(time.0);
        }
    }

    /// A will was published, and accepted by all who must.
    pub(super) fn will_published(&mut self, key: ClaimKey, epoch: Epoch) {
        let (broker, name) = (key.broker, (key, epoch));
        self.will_times.remove(&name);
        if self.firing.remove(&name).is_some() {
            self.recount(broker, |tally| tally.wills -= 1);
        }
    }

    /// The next moment of shard time at which something is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        let first = |set: &BTreeSet<(u64, ClaimKey)>| set.first().map(|(at, _)| *at);
        first(&self.due).into_iter().chain(first(&self.ending)).min()
    }

    /// Keeps a will until it is due, in place of what the client had.
    pub(super) fn put_due(&mut self, key: &ClaimKey, will: DueWill) {
        self.take_due(key);
        self.due.insert((will.at, key.clone()));
        self.young.insert((will.at, Young::Will(key.clone())));
        self.due_wills.insert(key.clone(), will);
        self.recount(key.broker, |tally| tally.wills += 1);
    }

    /// Takes the will that waits of the client's.
    pub(super) fn take_due(&mut self, key: &ClaimKey) -> Option<DueWill> {
        let will = self.due_wills.remove(key)?;
        self.due.remove(&(will.at, key.clone()));
        self.young.remove(&(will.at, Young::Will(key.clone())));
        self.recount(key.broker, |tally| tally.wills -= 1);
        Some(will)
    }

    fn fire(&mut self, key: &ClaimKey, epoch: Epoch, message: Bytes) {
        if self.firing.insert((key.clone(), epoch), message).is_none() {
            self.recount(key.broker, |tally| tally.wills += 1);
        }
    }
}
