//! Wills (R16): kept while their connection serves, due when it is lost, published by the shard's leader, and forgotten
//! once that is confirmed. A leader that dies between the publishing and the confirmation leaves a second try to its
//! successor, which carries the same name and, if it is retained, the same time: who had the first has nothing of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    at: u64,
    message: Bytes,
}

impl ShardState {
    /// A will is due in `delay` milliseconds. An earlier one of the client that still waits is published now: each
    /// stands for the end of another connection.
    pub(super) fn schedule_will(&mut self, key: &ClaimKey, epoch: Epoch, message: Bytes, delay: u64) {
        self.fire_due(key);
        if delay == 0 {
            self.firing.insert((key.clone(), epoch), message);
            return;
        }
        let at = self.time.saturating_add(delay);
        self.due_wills.insert(key.clone(), DueWill { epoch, at, message });
    }

    /// The client's session is gone on with before its will was due (MQTT-3.1.3-9).
    pub(super) fn cancel_will(&mut self, key: &ClaimKey) -> Option<DueWill> {
        self.due_wills.remove(key)
    }

    /// What waits of the client's is due now.
    pub(super) fn fire_due(&mut self, key: &ClaimKey) {
        if let Some(DueWill { epoch, message, .. }) = self.due_wills.remove(key) {
            self.firing.insert((key.clone(), epoch), message);
        }
    }

    /// Publishes what is due by now.
    pub(super) fn fire_overdue(&mut self) {
        let now = self.time;
        let overdue: Vec<ClaimKey> =
            self.due_wills.iter().filter(|(_, will)| will.at <= now).map(|(key, _)| key.clone()).collect();
        overdue.iter().for_each(|key| self.fire_due(key));
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
        let name = (key, epoch);
        self.firing.remove(&name);
        self.will_times.remove(&name);
    }

    /// The next moment of shard time at which something is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        let will = self.due_wills.values().map(|will| will.at).min();
        let session = self.ending.first().map(|(at, _)| *at);
        will.into_iter().chain(session).min()
    }
}
