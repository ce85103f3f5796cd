//! P9: an acknowledged retained message of QoS 1 or 2 is, when its acknowledgement is written, held by every live node
//! and on disk at a majority of all; whoever subscribes later on a live node gets it or a newer one; what a disk has is
//! there after a crash; and once publishing stops, every node gives the same.
//!
//! Which message is newer is judged from outside: one was certainly written before another if the same connection sent
//! it first, or if its acknowledgement had come before the other was sent. All else may be in any order. A deletion
//! cannot be told from another one, so where nothing is retained, some deletion (or a message that expires) must be
//! there that was not certainly written before. A message that was sent again counts from its last try; a will was sent
//! when its time was first asked for, and acknowledged when it was accepted.
//!
//! Not wider: a node holds everything once it says so to its workers; before, it answers nobody. What is shown is what
//! the core writes, so subscribers whose window makes messages wait are not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery::mqtt::codec::{MAX_PACKET, Publish, QoS, ReasonCode, Sender, Version, decode_publish, split};
use rookery_cluster::ids::{NodeId, NodeLife};
use rookery_cluster::limits::RETAINED_CLOCK_AHEAD;
use rookery_cluster::retained::Record;
use rookery_cluster::retained::store::Write;
use rookery_cluster::topics;

use crate::client::{SockId, msg_of};
use crate::oracle::{Msg, MsgId, Oracle, Retain};
use crate::world::World;

/// What a topic retains: a message, or nothing.
type Value = Option<MsgId>;

/// What subscribers were shown.
#[derive(Default)]
pub struct Reading {
    /// Since when a subscription's retained messages are due; nothing if that is not clear.
    due: BTreeMap<(SockId, String), Option<Duration>>,
    /// What was last written for (connection, topic), and when.
    shown: BTreeMap<(SockId, String), (Duration, Value)>,
    /// Subscriptions that got all that was due.
    pub done: BTreeSet<(SockId, String)>,
}

impl Oracle {
    fn refused(&self, msg: MsgId) -> bool {
        let it = self.msg(msg);
        it.tries <= 1 && it.answered.is_some_and(|(_, reason)| reason.is_error())
    }

    /// Whether `one` was certainly written before `other`.
    fn before(&self, one: MsgId, other: MsgId) -> bool {
        let (a, b) = (self.msg(one), self.msg(other));
        let once = a.tries <= 1 && a.by == b.by && one < other;
        once || a.answered.is_some_and(|(at, reason)| !reason.is_error() && at < b.sent)
    }

    /// The same when `other` was acknowledged. What is sent again at QoS 1 is a new message, and at QoS 2 it is not.
    fn before_acknowledged(&self, one: MsgId, other: MsgId) -> bool {
        let (a, b) = (self.msg(one), self.msg(other));
        let ordered = a.qos == b.qos || a.qos == QoS::ExactlyOnce;
        (ordered && a.last == b.last && one < other) || self.before(one, other)
    }

    /// Whether a topic may retain `value` when `msg` was acknowledged.
    fn stands(&self, value: Value, msg: MsgId) -> bool {
        let topic = &self.msg(msg).topic;
        let goes = |id: &MsgId| {
            let it = self.msg(*id);
            it.topic == *topic && matches!(it.retain, Retain::Deletes | Retain::Expires)
        };
        let may = |id: MsgId| !self.before_acknowledged(id, msg) && !self.refused(id);
        match value {
            Some(id) => may(id),
            None => (0..self.msgs.len() as MsgId).filter(goes).any(may),
        }
    }

    /// Retained messages that were acknowledged before `when`.
    fn acknowledged(&self, when: Duration) -> Vec<MsgId> {
        let good = |it: &Msg| {
            let answered = it.answered.is_some_and(|(at, reason)| at < when && !reason.is_error());
            it.retain != Retain::No && answered
        };
        self.all().filter(|(_, it)| good(it)).map(|(id, _)| id).collect()
    }
}

/// The PUBLISH that is kept: a frame before it may name its publisher.
fn behind_publisher(kept: &[u8]) -> Option<&[u8]> {
    match kept {
        [9, length, rest @ ..] => rest.get(usize::from(*length)..),
        _ => Some(kept),
    }
}

impl World {
    // ---- what nodes hold ----

    /// The core of `life` wrote an acknowledgement for `msg`.
    pub fn p09_acknowledged(&mut self, life: NodeLife, msg: MsgId, reason: ReasonCode) {
        let it = self.oracle.msg(msg);
        if reason.is_error() || it.retain == Retain::No || it.qos == QoS::AtMostOnce {
            return;
        }
        let topic = it.topic.clone();
        let mut on_disk = 0;
        for node in self.all_nodes() {
            let durable = self.node(node).shelf.durable.get(&topic).cloned();
            let durable = self.value(node, durable.as_ref());
            on_disk += usize::from(self.oracle.stands(durable, msg));
            let live = self.has_all_retained(node) && self.lease_holds(node) && self.node(node).up;
            let held = self.records(node).get(&topic).cloned();
            let held = self.value(node, held.as_ref());
            if live && !self.oracle.stands(held, msg) {
                self.broken(format!("P9: message {msg} is acknowledged by {life}, and node {node} has {held:?}"));
            }
        }
        if on_disk * 2 <= self.all_nodes().len() {
            self.broken(format!("P9: message {msg} is acknowledged by {life}, and {on_disk} disks have it"));
        }
    }

    fn value(&mut self, node: NodeId, record: Option<&Record>) -> Value {
        let wall = self.wall(node);
        let bytes = record.filter(|record| !record.gone(wall))?.message.as_ref()?;
        let bytes = behind_publisher(bytes)?;
        let frame = split(bytes, MAX_PACKET).ok()??;
        let publish = decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(bytes)).ok()?;
        msg_of(publish.payload)
    }

    /// Records of a peer were taken (R15).
    pub fn p09_taken(&mut self, node: NodeId, writes: &[Write]) {
        let wall = self.wall(node);
        if let Some(ahead) = writes.iter().map(|w| w.record.stamp.time.ahead_of(wall)).max()
            && ahead > RETAINED_CLOCK_AHEAD
        {
            self.broken(format!("R15: node {node} took a record that is {ahead:?} ahead"));
        }
    }

    /// A process has read what its disk kept.
    pub fn p09_reopened(&mut self, node: NodeId) {
        let records = self.records(node);
        let lost = |(topic, was): &(&String, &Record)| records.get(*topic).is_none_or(|now| now.stamp < was.stamp);
        let lost: Vec<String> = self.node(node).shelf.durable.iter().filter(lost).map(|(t, _)| t.clone()).collect();
        if !lost.is_empty() {
            self.broken(format!("P9: node {node} has lost what its disk had of {lost:?}"));
        }
    }

    /// Tombstones that every member has may have been forgotten.
    pub fn p09_ticked(&mut self, node: NodeId) {
        let (records, wall) = (self.records(node), self.wall(node));
        self.node(node).shelf.durable.retain(|topic, record| !record.gone(wall) || records.contains_key(topic));
    }

    // ---- what subscribers get ----

    /// A client asks for what is retained.
    pub fn p09_asked(&mut self, sock: SockId, filter: &str) {
        let now = self.now;
        let due = &mut self.oracle.reading.due;
        // Of two that are under way nobody can tell which one is answered.
        due.entry((sock, filter.into())).and_modify(|due| *due = None).or_insert(Some(now));
    }

    /// A client wants no more of it.
    pub fn p09_unasked(&mut self, sock: SockId, filter: &str) {
        self.oracle.reading.due.insert((sock, filter.into()), None);
    }

    /// The core wrote a publish for a connection.
    pub fn p09_written(&mut self, sock: SockId, publish: &Publish) {
        let (now, value) = (self.now, msg_of(&publish.payload));
        if value.is_some_and(|msg| self.oracle.msg(msg).retain == Retain::No) {
            return;
        }
        let last = self.oracle.reading.shown.insert((sock, publish.topic.clone()), (now, value));
        if publish.retain
            && let (Some((_, Some(last))), Some(msg)) = (last, value)
            && self.oracle.msg(last).qos != QoS::AtMostOnce
            && self.oracle.before(msg, last)
        {
            self.broken(format!("P9: connection {sock} is shown message {msg} after {last}, which replaced it"));
        }
    }

    /// A subscription has got all that was retained when it was read.
    pub fn p09_read(&mut self, sock: SockId, filter: &str) {
        let Some(asked) = self.oracle.reading.due.remove(&(sock, filter.to_owned())).flatten() else { return };
        if self.socks.get(sock).narrow || !self.serving(sock) {
            return;
        }
        self.oracle.reading.done.insert((sock, filter.to_owned()));
        for msg in self.oracle.acknowledged(asked) {
            let topic = &self.oracle.msg(msg).topic;
            let shown = self.oracle.reading.shown.get(&(sock, topic.clone())).filter(|(at, _)| *at >= asked);
            let value = shown.and_then(|(_, value)| *value);
            if topics::matches(filter, topic) && !self.oracle.stands(value, msg) {
                let topic = topic.clone();
                self.broken(format!("P9: {msg} was acknowledged, and connection {sock} reads {value:?} of {topic}"));
            }
        }
    }

    // ---- the end ----

    /// Whether all nodes give the same.
    pub fn p09_converged(&mut self) -> bool {
        let all: Vec<_> = self.all_nodes().into_iter().map(|node| self.shown(node)).collect();
        all.iter().all(|one| *one == all[0])
    }

    /// What all nodes give now is what was acknowledged last, and what subscribers get that come now.
    pub fn p09_settled(&mut self, readers: &[SockId]) {
        let shown = self.shown(NodeId(1));
        let values: Vec<(String, Value)> =
            shown.into_iter().map(|(topic, record)| (topic, self.value(NodeId(1), Some(&record)))).collect();
        let values: BTreeMap<String, Value> = values.into_iter().collect();
        for msg in self.oracle.acknowledged(Duration::MAX) {
            let topic = self.oracle.msg(msg).topic.clone();
            let value = values.get(&topic).copied().flatten();
            if !self.oracle.stands(value, msg) {
                self.broken(format!("P9: {msg} was acknowledged, and {topic} retains {value:?} in the end"));
            }
        }
        for sock in readers {
            let of = |((_, topic), (_, value)): (&(SockId, String), &(Duration, Value))| (topic.clone(), *value);
            let range = self.oracle.reading.shown.range((*sock, String::new())..(*sock + 1, String::new()));
            let mut got: BTreeMap<String, Value> = range.map(of).filter(|(_, value)| value.is_some()).collect();
            // What has expired since it was shown.
            got.retain(|topic, value| {
                let expires = value.is_some_and(|msg| self.oracle.msg(msg).retain == Retain::Expires);
                !expires || values.contains_key(topic)
            });
            if got != values {
                self.broken(format!("P9: connection {sock} gets {got:?} in the end, and nodes have {values:?}"));
            }
        }
    }
}
