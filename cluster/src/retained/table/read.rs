//! What is read of a table: pages of messages for subscribers, records and digests for other nodes.

use std::ops::Bound;

use bytes::Bytes;

use super::{Came, Key, Slot, Table, Topics};
use crate::clock::UnixMillis;
use crate::ids::BrokerId;
use crate::retained::digest::{BUCKETS, Digests, bucket};
use crate::retained::scan::{Filter, Verdict, key, topic};
use crate::retained::{Record, Stamp};

/// Where a page ended, and whether what stands there was looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    key: String,
    seen: bool,
}

/// How much a page may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Messages.
    pub messages: usize,
    /// Bytes of them; the last one may exceed it.
    pub bytes: usize,
    /// Topics looked at, so that no page takes long.
    pub steps: usize,
}

/// A message that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    key: Key,
    /// When it was written.
    pub stamp: Stamp,
    /// When it expires.
    pub expires: Option<UnixMillis>,
    /// The message, as the broker wrote it.
    pub message: Bytes,
}

/// Some of the messages that match a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their topics.
    pub found: Vec<Found>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

impl Topics {
    fn from(&self, cursor: &Cursor) -> impl Iterator<Item = (&Key, &Slot)> + use<'_> {
        let from = cursor.key.as_str();
        let from = if cursor.seen { Bound::Excluded(from) } else { Bound::Included(from) };
        self.slots.range::<str, _>((from, Bound::Unbounded))
    }
}

impl Table {
    /// The messages that match a valid filter (without a `$share` prefix), a page of them.
    pub fn page(&self, broker: BrokerId, filter: &str, after: Option<Cursor>, wall: UnixMillis, most: Pages) -> Page {
        let Some(topics) = self.brokers.get(&broker) else { return Page::default() };
        let filter = Filter::new(filter);
        let mut at = after.unwrap_or_else(|| Cursor { key: filter.start(), seen: false });
        let mut page = Page::default();
        let (mut steps, mut bytes) = (0, 0);
        let mut ahead = topics.from(&at);
        loop {
            let Some((key, slot)) = ahead.next() else { return page };
            if steps >= most.steps || page.found.len() >= most.messages || bytes >= most.bytes {
                page.next = Some(Cursor { key: key.to_string(), seen: false });
                return page;
            }
            steps += 1;
            match filter.judge(key) {
                Verdict::End => return page,
                Verdict::Seek(next) => {
                    at = Cursor { key: next, seen: false };
                    ahead = topics.from(&at);
                }
                Verdict::Match if slot.record.gone(wall) => {}
                Verdict::Match => {
                    bytes += slot.record.bytes();
                    page.found.extend(found(key, &slot.record));
                }
            }
        }
    }

    /// Brings a page up to date as of now: a message that was replaced since the page was read goes if live
    /// subscribers got its successor with the publish, and gives way to it if they did not.
    pub fn renew(&self, broker: BrokerId, page: &mut Page) {
        let topics = self.brokers.get(&broker);
        page.found.retain_mut(|found| {
            let Some(slot) = topics.and_then(|topics| topics.slots.get(&found.key)) else { return false };
            if slot.record.stamp == found.stamp {
                return slot.record.message.is_some();
            }
            match (slot.came, super::read::found(&found.key, &slot.record)) {
                (Came::Copied, Some(successor)) => {
                    *found = successor;
                    true
                }
                _ => false,
            }
        });
    }

    /// The digests of the brokers after `after`, `most` of them.
    pub fn digests(&self, after: Option<BrokerId>, most: usize) -> Vec<(BrokerId, Digests)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.brokers.range((from, Bound::Unbounded)).take(most).map(|(id, topics)| (*id, *topics.digests)).collect()
    }

    /// The digests of one broker.
    pub fn digests_of(&self, broker: BrokerId) -> Digests {
        self.brokers.get(&broker).map_or([0; BUCKETS], |topics| *topics.digests)
    }

    /// The records of the broker's buckets in `mask`, tombstones included, after the topic `after`: as many as `most`
    /// says, and the topic where to go on.
    pub fn records(
        &self,
        broker: BrokerId,
        mask: u64,
        after: Option<&str>,
        most: Pages,
    ) -> (Vec<(String, Record)>, Option<String>) {
        let mut records = Vec::new();
        let Some(topics) = self.brokers.get(&broker) else { return (records, None) };
        let at = Cursor { key: after.map(key).unwrap_or_default(), seen: after.is_some() };
        let (mut bytes, mut last) = (0, None);
        for (steps, (key, slot)) in topics.from(&at).enumerate() {
            if steps >= most.steps || records.len() >= most.messages || bytes >= most.bytes {
                return (records, last);
            }
            let name = topic(key);
            if mask >> bucket(&name) & 1 == 1 {
                bytes += name.len() + slot.record.bytes();
                records.push((name.clone(), slot.record.clone()));
            }
            last = Some(name);
        }
        (records, None)
    }

    /// Every record, in order.
    pub fn all(&self) -> impl Iterator<Item = (BrokerId, String, &Record)> {
        self.brokers
            .iter()
            .flat_map(|(broker, topics)| topics.slots.iter().map(|(key, slot)| (*broker, topic(key), &slot.record)))
    }
}

fn found(key: &Key, record: &Record) -> Option<Found> {
    let message = record.message.clone()?;
    Some(Found { key: key.clone(), stamp: record.stamp, expires: record.expires, message })
}
