//! All records of a node, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::digest::{BUCKETS, Digests, bucket, weight};
use super::scan::{key, topic};
use super::{Record, Stamp, Time};
use crate::clock::{Moment, UnixMillis};
use crate::ids::BrokerId;
use crate::limits;

mod read;

pub use read::{Cursor, Found, Page, Pages};

/// A topic, with its separators as they are sorted.
type Key = Arc<str>;

/// Each broker's topics.
#[derive(Debug, Default)]
pub struct Table {
    brokers: BTreeMap<BrokerId, Topics>,
    /// Messages that expire, the next one first.
    expiring: BTreeSet<(UnixMillis, BrokerId, Key)>,
    /// Tombstones in the order in which they came.
    graves: VecDeque<Grave>,
    /// The latest time of all records.
    latest: Time,
    totals: Totals,
}

#[derive(Debug)]
struct Topics {
    slots: BTreeMap<Key, Slot>,
    digests: Box<Digests>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    record: Record,
    came: Came,
    /// Whether it stands in the list of what is to be written.
    queued: bool,
}

#[derive(Debug)]
struct Grave {
    broker: BrokerId,
    key: Key,
    stamp: Stamp,
    came: Moment,
}

/// How a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// With its publish, which live subscribers get.
    Published,
    /// By repair or from the disk: live subscribers did not get it.
    Copied,
}

/// What a table, or one broker of it, holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that are messages.
    pub messages: usize,
    /// Records, tombstones included.
    pub records: usize,
    /// Bytes of messages and topics.
    pub bytes: usize,
}

/// What a broker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Topics with a message.
    pub messages: usize,
    /// Bytes of messages and topics.
    pub bytes: usize,
    /// Topics with a message or a tombstone.
    pub records: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let (messages, bytes) = (limits::RETAINED_MESSAGES, limits::RETAINED_BYTES);
        Self { messages, bytes, records: 2 * messages }
    }
}

impl Bounds {
    /// What a broker's own limits say, 0 being none, but no more than any broker may hold.
    pub fn of(messages: u32, bytes: u64) -> Self {
        let least = |limit: u64, bound: usize| match usize::try_from(limit) {
            Ok(limit) if limit > 0 => limit.min(bound),
            _ => bound,
        };
        let any = Self::default();
        Self { messages: least(messages.into(), any.messages), bytes: least(bytes, any.bytes), ..any }
    }
}

/// A broker holds as much as it may, or the node does. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for more retained messages")]
pub struct Full;

impl Default for Topics {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), digests: Box::new([0; BUCKETS]), messages: 0, bytes: 0 }
    }
}

impl Topics {
    /// Adds a record to the sums, or takes it out.
    fn count(&mut self, totals: &mut Totals, name: &str, record: &Record, adds: bool) {
        if record.message.is_none() {
            return;
        }
        let sum = &mut self.digests[bucket(name)];
        let bytes = name.len() + record.bytes();
        if adds {
            *sum = sum.wrapping_add(weight(name, record));
            (self.messages, self.bytes) = (self.messages + 1, self.bytes + bytes);
            (totals.messages, totals.bytes) = (totals.messages + 1, totals.bytes + bytes);
        } else {
            *sum = sum.wrapping_sub(weight(name, record));
            (self.messages, self.bytes) = (self.messages - 1, self.bytes - bytes);
            (totals.messages, totals.bytes) = (totals.messages - 1, totals.bytes - bytes);
        }
    }
}

impl Table {
    /// Takes a record: whether it won, so that the topic changed.
    pub fn merge(&mut self, now: Moment, broker: BrokerId, name: &str, record: Record, came: Came) -> bool {
        self.latest = self.latest.max(record.stamp.time);
        let topics = self.brokers.entry(broker).or_default();
        let key = key(name);
        let (key, queued) = match topics.slots.get_key_value(key.as_str()) {
            Some((_, old)) if !record.beats(&old.record) => return false,
            Some((known, old)) => (known.clone(), old.queued),
            None => (Key::from(key), false),
        };
        let (stamp, expires, gone) = (record.stamp, record.expires, record.message.is_none());
        topics.count(&mut self.totals, name, &record, true);
        let old = topics.slots.insert(key.clone(), Slot { record, came, queued });
        if let Some(old) = old {
            topics.count(&mut self.totals, name, &old.record, false);
            if let Some(at) = old.record.expires {
                self.expiring.remove(&(at, broker, key.clone()));
            }
        } else {
            self.totals.records += 1;
        }
        if gone {
            self.graves.push_back(Grave { broker, key, stamp, came: now });
        } else if let Some(at) = expires {
            self.expiring.insert((at, broker, key));
        }
        true
    }

    /// Whether the broker may have a message of so many bytes on this topic.
    ///
    /// # Errors
    /// [`Full`].
    pub fn room(&self, broker: BrokerId, name: &str, bytes: usize, bounds: Bounds) -> Result<(), Full> {
        let topics = self.brokers.get(&broker);
        let old = topics.and_then(|topics| topics.slots.get(key(name).as_str()));
        let had = old.filter(|old| old.record.message.is_some()).map(|old| name.len() + old.record.bytes());
        let held = self.totals_of(broker);
        let fits = held.bytes - had.unwrap_or(0) + name.len() + bytes <= bounds.bytes
            && (had.is_some() || held.messages < bounds.messages)
            && (old.is_some() || held.records < bounds.records);
        if !fits {
            return Err(Full);
        }
        self.room_on_node(had.unwrap_or(0), name.len() + bytes)
    }

    fn room_on_node(&self, less: usize, more: usize) -> Result<(), Full> {
        let fits = self.totals.bytes - less + more <= limits::RETAINED_NODE_BYTES;
        if fits { Ok(()) } else { Err(Full) }
    }

    /// Whether a deletion of the topic has to be remembered: not if the broker has too many tombstones to remember
    /// one of a topic that it does not know.
    pub fn remembers(&self, broker: BrokerId, name: &str, bounds: Bounds) -> bool {
        self.brokers
            .get(&broker)
            .is_none_or(|topics| topics.slots.len() < bounds.records || topics.slots.contains_key(key(name).as_str()))
    }

    /// Whether `record` is a message that is later than what is here of its topic.
    pub fn lacks(&self, broker: BrokerId, name: &str, record: &Record) -> bool {
        record.message.is_some() && self.get(broker, name).is_none_or(|ours| record.beats(ours))
    }

    /// Whether the topic has a tombstone that removes `record`, a message.
    pub fn removes(&self, broker: BrokerId, name: &str, record: &Record) -> bool {
        record.message.is_some()
            && self.get(broker, name).is_some_and(|ours| ours.message.is_none() && ours.beats(record))
    }

    /// Makes tombstones of the messages that have expired; how many.
    pub fn expire(&mut self, now: Moment, wall: UnixMillis) -> usize {
        let mut gone = 0;
        while self.expiring.first().is_some_and(|(at, ..)| *at <= wall) {
            let Some((_, broker, key)) = self.expiring.pop_first() else { break };
            let Some(topics) = self.brokers.get_mut(&broker) else { continue };
            let Some(mut slot) = topics.slots.remove(&key) else { continue };
            topics.count(&mut self.totals, &topic(&key), &slot.record, false);
            slot.record.message = None;
            self.graves.push_back(Grave { broker, key: key.clone(), stamp: slot.record.stamp, came: now });
            topics.slots.insert(key, slot);
            gone += 1;
        }
        gone
    }

    /// Forgets tombstones that every other member has: those that came before `since`, when the digests with each
    /// of them were last found equal (`None`: never), if they are old enough that no older message is still on its
    /// way; and those so old that members which lack them copy afresh.
    pub fn bury(&mut self, since: Option<Moment>, wall: UnixMillis) -> usize {
        let mut gone = 0;
        let age = |stamp: &Stamp| u128::from(wall.0.saturating_sub(stamp.time.wall().0));
        while let Some(grave) = self.graves.front() {
            let settled = age(&grave.stamp) >= limits::TOMBSTONE_LEAST.as_millis();
            let known = since.is_some_and(|since| grave.came < since);
            if !(settled && known) && age(&grave.stamp) < limits::TOMBSTONE_MOST.as_millis() {
                break;
            }
            let Some(grave) = self.graves.pop_front() else { break };
            let Some(topics) = self.brokers.get_mut(&grave.broker) else { continue };
            let same = |slot: &Slot| slot.record.message.is_none() && slot.record.stamp == grave.stamp;
            if topics.slots.get(&grave.key).is_some_and(same) {
                topics.slots.remove(&grave.key);
                self.totals.records -= 1;
                gone += 1;
            }
            if topics.slots.is_empty() {
                self.brokers.remove(&grave.broker);
            }
        }
        gone
    }

    /// Forgets a broker.
    pub fn remove(&mut self, broker: BrokerId) -> bool {
        let Some(topics) = self.brokers.remove(&broker) else { return false };
        self.totals.messages -= topics.messages;
        self.totals.records -= topics.slots.len();
        self.totals.bytes -= topics.bytes;
        self.expiring.retain(|(_, of, _)| *of != broker);
        self.graves.retain(|grave| grave.broker != broker);
        true
    }

    /// The brokers that have records.
    pub fn brokers(&self) -> impl Iterator<Item = BrokerId> {
        self.brokers.keys().copied()
    }

    /// What all brokers hold.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What a broker holds.
    pub fn totals_of(&self, broker: BrokerId) -> Totals {
        self.brokers.get(&broker).map_or(Totals::default(), |topics| Totals {
            messages: topics.messages,
            records: topics.slots.len(),
            bytes: topics.bytes,
        })
    }

    /// The latest time of all records that ever came.
    pub fn latest(&self) -> Time {
        self.latest
    }

    /// The record of a topic.
    pub fn get(&self, broker: BrokerId, name: &str) -> Option<&Record> {
        Some(&self.brokers.get(&broker)?.slots.get(key(name).as_str())?.record)
    }

    /// The topic stands in the list of what is to be written from now on; false if it did already, or is not known.
    pub fn queue(&mut self, broker: BrokerId, name: &str) -> bool {
        let slot = self.brokers.get_mut(&broker).and_then(|topics| topics.slots.get_mut(key(name).as_str()));
        slot.is_some_and(|slot| !std::mem::replace(&mut slot.queued, true))
    }

    /// Takes the topic off that list: what is to be written of it.
    pub fn unqueue(&mut self, broker: BrokerId, name: &str) -> Option<Record> {
        let slot = self.brokers.get_mut(&broker)?.slots.get_mut(key(name).as_str())?;
        slot.queued = false;
        Some(slot.record.clone())
    }
}
