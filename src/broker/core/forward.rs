//! Between this worker and the others: batches in, batches out, acceptance, credit.

use std::rc::Rc;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Holder, Run};
use rookery_cluster::ids::{NodeLife, WorkerId};

use super::conn::Phase;
use super::dest::{Awaiting, Destination};
use super::direct::Directions;
use super::once;
use super::room::{DestIndex, LocalMatch, Matches};
use super::transfer::{self, Group, Item, Payloads};
use super::{Batch, ConnKey, Core, DropReason, Dropped, Effect, Via, get};
use crate::mqtt::codec::{QoS, Sender, Version, decode_publish};
use crate::mqtt::session::{Mark, Message};

impl Core {
    /// Sends what the turn gathered to each destination that has credit, then lets publishers go on that waited
    /// for that: there may be something to flush again.
    pub fn flush(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.place_orphans(now);
        for dest in std::mem::take(&mut self.touched) {
            self.dests[usize::from(dest)].touched = false;
            if self.dests[usize::from(dest)].holder == Holder::Store {
                continue;
            }
            self.send_batches(now, dest, out);
            let destination = &self.dests[usize::from(dest)];
            if destination.paused && !destination.congested() {
                self.unblock(dest);
            }
        }
        self.flush_retained(now, out);
        self.resume_all(now, out);
    }

    /// Sends what was refused before, and then one batch more: if there is credit for it, the next flush sends the next
    /// one. What is in a batch has had its turn (R19), so none is made that may have to wait.
    pub(super) fn send_batches(&mut self, now: Moment, dest: DestIndex, out: &mut Vec<Effect>) {
        let destination = &mut self.dests[usize::from(dest)];
        let made = destination.made();
        while destination.made() == made
            && let Some(batch) = destination.next(now)
        {
            out.push(Effect::Send { to: destination.holder, batch });
        }
        if destination.has_more() && !destination.congested() {
            self.touch(dest);
        }
    }

    /// The destination's place in the table; made when it is first heard of. There are as many as there are
    /// workers and nodes.
    pub(super) fn dest(&mut self, holder: Holder) -> DestIndex {
        if let Some(&known) = self.dest_of.get(&holder) {
            return known;
        }
        let index = self.dests.len() as DestIndex;
        self.dests.push(Destination::new(holder));
        self.dest_of.insert(holder, index);
        index
    }

    pub(super) fn on_forwarded(&mut self, now: Moment, origin: u64, via: Via<'_>, runs: &[Run]) {
        for run in runs {
            // Made if need be: what is directed to members who are gone is directed on, or counted.
            let room = self.room(run.broker);
            self.stats.publishes_from_others += u64::from(run.count);
            if !self.deliver_run(now, room, origin, via, &run.body) {
                self.stats.drop(DropReason::Corrupt, 1);
            }
            self.drop_idle_room(room);
        }
    }

    /// Delivers the publishes of one broker; `false` at bytes that are none.
    fn deliver_run(&mut self, now: Moment, room: usize, origin: u64, via: Via<'_>, mut rest: &[u8]) -> bool {
        // A batch holds what one read of a publisher brought, so a topic mostly repeats.
        let mut recent: Option<(&str, Rc<Matches>)> = None;
        while !rest.is_empty() {
            let mut first = true;
            if once::ahead(rest) {
                let Some((name, after)) = once::decode(rest) else { return false };
                first = self.had.first(now, name);
                rest = after;
            }
            let mut directions = None;
            if Directions::ahead(rest) {
                let Some((read, after)) = Directions::decode(rest) else { return false };
                directions = Some(read);
                rest = after;
            }
            let Some(item) = transfer::take(&mut rest) else { return false };
            let Some(bytes) = item.topic() else { return false };
            let (topic, matches) = match &recent {
                Some((topic, matches)) if topic.as_bytes() == bytes => (*topic, matches.clone()),
                _ => {
                    let Ok(topic) = std::str::from_utf8(bytes) else { return false };
                    let found = self.rooms[room].matches(topic);
                    recent = Some((topic, found.clone()));
                    (topic, found)
                }
            };
            if let Some(directions) = directions {
                let Item::Publish(head, body) = item else { return false };
                let locals = if first { &matches.locals[..] } else { &[] };
                if !self.deliver_directed(now, room, locals, origin, via, directions, (head, body)) {
                    return false;
                }
                continue;
            }
            // Every worker of the node gets the batch, so most of it is mostly for another.
            if matches.locals.is_empty() || !first {
                continue;
            }
            let done = match item {
                Item::Group(group) => self.deliver_group(now, room, &matches.locals, origin, topic, group),
                Item::Publish(first, body) => self.deliver_packet(now, room, &matches.locals, origin, first, body),
            };
            if !done {
                return false;
            }
        }
        true
    }

    /// Delivers a publish that comes with directions: to ordinary subscribers, if they say so, and to a member of each
    /// group that this worker is to serve.
    #[expect(clippy::too_many_arguments, reason = "all of it is one publish and where it goes")]
    fn deliver_directed(
        &mut self,
        now: Moment,
        room: usize,
        to: &[LocalMatch],
        origin: u64,
        via: Via<'_>,
        directions: Directions<'_>,
        (first, body): (u8, &[u8]),
    ) -> bool {
        let serves = directions.filters().any(|filter| self.dispatches(via, filter));
        let ordinary = directions.ordinary && !to.is_empty();
        if !serves && !ordinary {
            return true;
        }
        let Ok(publish) = decode_publish(Version::V5, Sender::Client, first, body) else { return false };
        let mut message = Message::new(publish.topic, &publish);
        message.mark = Mark { origin, number: publish.packet_id };
        if ordinary {
            self.deliver(now, room, to, None, &mut message);
        }
        if serves {
            self.dispatch(now, room, &directions, via, &mut message);
        }
        true
    }

    fn deliver_packet(
        &mut self,
        now: Moment,
        room: usize,
        to: &[LocalMatch],
        origin: u64,
        first: u8,
        body: &[u8],
    ) -> bool {
        let Ok(publish) = decode_publish(Version::V5, Sender::Client, first, body) else { return false };
        let mut message = Message::new(publish.topic, &publish);
        message.mark = Mark { origin, number: publish.packet_id };
        self.deliver(now, room, to, None, &mut message);
        true
    }

    fn deliver_group(
        &mut self,
        now: Moment,
        room: usize,
        to: &[LocalMatch],
        origin: u64,
        topic: &str,
        group: Group<'_>,
    ) -> bool {
        let Some(payloads) = group.payloads() else { return false };
        for matched in to {
            let at_once = group.qos.min(matched.qos) == QoS::AtMostOnce && matched.ids.is_empty();
            let full = self.rooms[room].account.full.is_some();
            if at_once && !full && self.deliver_at_once(matched.conn, topic, &payloads) {
                continue;
            }
            for (number, payload) in payloads.clone() {
                let publish = transfer::publish(topic, group.qos, payload);
                let mut message = Message::new(topic, &publish);
                message.mark = Mark { origin, number };
                self.deliver(now, room, std::slice::from_ref(matched), None, &mut message);
            }
        }
        true
    }

    /// Delivers publishes of one topic at QoS 0, if the session has a connection.
    fn deliver_at_once(&mut self, key: ConnKey, topic: &str, payloads: &Payloads<'_>) -> bool {
        let Some(conn) = get(&mut self.conns, key) else { return false };
        let Phase::Active(active) = &mut conn.phase else { return false };
        let payloads = payloads.clone().map(|(_, payload)| payload);
        let (room, delivered) = (active.room, active.session.deliver_group(&mut conn.out, topic, payloads));
        self.stats.publishes_delivered += delivered.written;
        self.rooms[room].counts.sent += delivered.written;
        self.drop_in(room, DropReason::Subscriber(Dropped::TooLarge), delivered.too_large);
        self.drop_in(room, DropReason::Subscriber(Dropped::SlowSubscriber), delivered.slow);
        if delivered.written > 0 {
            self.mark_dirty(key);
        }
        true
    }

    pub(super) fn on_accepted(&mut self, from: Holder, through: u64) {
        let Some(&dest) = self.dest_of.get(&from) else { return };
        let was_congested = self.dests[usize::from(dest)].congested();
        let mut done = Vec::new();
        self.dests[usize::from(dest)].accepted(through, |awaiting| done.push(awaiting));
        self.accepted(&done, matches!(from, Holder::Peer(_)));
        if was_congested && !self.dests[usize::from(dest)].congested() {
            self.unblock(dest);
        }
    }

    /// Lowers what those publishes wait for, and writes the acknowledgements that came due. `confirmed`: another node has
    /// them, which counts for P9's majority.
    fn accepted(&mut self, done: &[Awaiting], confirmed: bool) {
        let mut last: Option<ConnKey> = None;
        for awaiting in done {
            if self.will_accepted(awaiting.conn, confirmed) || self.drain_accepted(awaiting.conn) {
                continue;
            }
            let key = if self.moved.is_empty() { awaiting.conn } else { self.successor(awaiting.conn) };
            let Some(conn) = get(&mut self.conns, key) else { continue };
            let (Phase::Active(active) | Phase::Parked(active)) = &mut conn.phase else { continue };
            active.session.acks.accepted(awaiting.ack, confirmed);
            // A publisher's entries mostly stand together: its acknowledgements leave in one go.
            if let Some(before) = last.replace(key)
                && before != key
            {
                self.send_due_acks(before);
            }
        }
        if let Some(last) = last {
            self.send_due_acks(last);
        }
    }

    /// Whether batches towards `holder` may be offered. Not once one was refused: a later, smaller one that was
    /// taken would overtake it.
    pub fn has_credit(&self, holder: Holder) -> bool {
        self.dest_of.get(&holder).is_none_or(|&dest| !self.dests[usize::from(dest)].congested())
    }

    pub(super) fn on_no_credit(&mut self, now: Moment, to: Holder, batch: Batch) {
        let dest = self.dest(to);
        self.dests[usize::from(dest)].refused(batch, now);
    }

    pub(super) fn on_room(&mut self, now: Moment, to: Holder, out: &mut Vec<Effect>) {
        let Some(&dest) = self.dest_of.get(&to) else { return };
        self.dests[usize::from(dest)].room();
        self.send_batches(now, dest, out);
        if !self.dests[usize::from(dest)].congested() {
            self.unblock(dest);
        }
    }

    /// Publishers that filled `dest` are read from again, from the next flush on.
    pub(super) fn unblock(&mut self, dest: DestIndex) {
        self.dests[usize::from(dest)].paused = false;
        let blocked: Vec<ConnKey> =
            self.conns.iter().filter(|(_, c)| c.blocked_on == Some(dest)).map(|(_, c)| c.key).collect();
        for key in blocked {
            if let Some(conn) = get(&mut self.conns, key) {
                conn.blocked_on = None;
            }
            self.resumable.push(key);
        }
        self.touch(dest);
    }

    pub(super) fn touch(&mut self, dest: DestIndex) {
        let destination = &mut self.dests[usize::from(dest)];
        if !destination.touched {
            destination.touched = true;
            self.touched.push(dest);
        }
    }

    pub(super) fn on_expired(&mut self, holder: Holder) {
        let Some(&dest) = self.dest_of.get(&holder) else { return };
        let mut done = Vec::new();
        let (dropped, directed) = self.dests[usize::from(dest)].expired(|awaiting| done.push(awaiting));
        self.stats.drop(DropReason::DestinationExpired, dropped);
        self.give_on(dest, &directed);
        self.accepted(&done, false);
        self.unblock(dest);
    }
}

/// A number for who takes publishes from their publishers, a worker of a life of a node: part of what tells messages
/// apart. 48 bits of it count.
pub fn origin(life: NodeLife, worker: WorkerId) -> u64 {
    let parts = [life.node.0, life.incarnation.0, u64::from(worker.0)];
    // FNV-1a by words: the few origins that a session hears of at one time shall differ.
    parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, part| (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3))
}
