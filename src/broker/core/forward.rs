//! Between this worker and the others: batches in, batches out, acceptance, credit.

use std::rc::Rc;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Holder, Run};

use super::conn::Phase;
use super::dest::{Awaiting, Destination};
use super::direct::Directions;
use super::room::{DestIndex, Matches};
use super::{Batch, ConnKey, Core, DropReason, Effect, Via, get};
use crate::mqtt::codec::{
    MAX_PACKET, PacketId, PublishProperties, PublishRef, QoS, Sender, Version, decode_publish, split,
};
use crate::mqtt::session::{Mark, Message};

impl Core {
    /// Sends what the turn gathered to each destination that has credit, then lets publishers go on that waited
    /// for that: there may be something to flush again.
    pub fn flush(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.place_orphans(now);
        for dest in std::mem::take(&mut self.touched) {
            self.dests[usize::from(dest)].touched = false;
            self.send_batches(now, dest, out);
            let destination = &self.dests[usize::from(dest)];
            if destination.paused && !destination.congested() {
                self.unblock(dest);
            }
        }
        self.resume_all(now, out);
    }

    fn send_batches(&mut self, now: Moment, dest: DestIndex, out: &mut Vec<Effect>) {
        let destination = &mut self.dests[usize::from(dest)];
        while let Some(batch) = destination.next(now) {
            out.push(Effect::Send { to: destination.holder, batch });
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
        // A batch holds what one read of a publisher brought, so a topic mostly repeats; and every worker of the
        // node gets the batch, so most of it is mostly for another: those cost no more than a comparison.
        let mut recent: Option<(&str, Rc<Matches>)> = None;
        loop {
            let mut directions = None;
            if Directions::ahead(rest) {
                let Some((read, after)) = Directions::decode(rest) else { return false };
                directions = Some(read);
                rest = after;
            }
            let Ok(Some(frame)) = split(rest, MAX_PACKET) else { break };
            let body = frame.body(rest);
            rest = &rest[frame.total..];
            let Some(bytes) = topic_of(body) else { return false };
            let (topic, matches) = match &recent {
                Some((topic, matches)) if topic.as_bytes() == bytes => (*topic, matches.clone()),
                _ => {
                    let Ok(topic) = std::str::from_utf8(bytes) else { return false };
                    let found = self.rooms[room].matches(topic);
                    recent = Some((topic, found.clone()));
                    (topic, found)
                }
            };
            let ordinary = directions.is_none_or(|directions| directions.ordinary) && !matches.locals.is_empty();
            directions = directions.filter(|d| d.filters().any(|filter| self.dispatches(via, filter)));
            if !ordinary && directions.is_none() {
                continue;
            }
            let publish = match plain(frame.first_byte, topic, body) {
                Some(plain) => plain,
                None => match decode_publish(Version::V5, Sender::Client, frame.first_byte, body) {
                    Ok(publish) => publish,
                    Err(_) => return false,
                },
            };
            let mut message = Message::new(publish.topic, &publish);
            message.mark = Mark { origin, number: publish.packet_id };
            if ordinary {
                self.deliver(now, room, &matches.locals, None, &mut message);
            }
            if let Some(directions) = directions {
                self.dispatch(now, room, &directions, via, &mut message);
            }
        }
        rest.is_empty()
    }

    pub(super) fn on_accepted(&mut self, from: Holder, through: u64) {
        let Some(&dest) = self.dest_of.get(&from) else { return };
        let was_congested = self.dests[usize::from(dest)].congested();
        let mut done = Vec::new();
        self.dests[usize::from(dest)].accepted(through, |awaiting| done.push(awaiting));
        self.accepted(&done);
        if was_congested && !self.dests[usize::from(dest)].congested() {
            self.unblock(dest);
        }
    }

    /// Lowers what those publishes wait for, and writes the acknowledgements that came due.
    fn accepted(&mut self, done: &[Awaiting]) {
        let mut last: Option<ConnKey> = None;
        for awaiting in done {
            if self.will_accepted(awaiting.conn) {
                continue;
            }
            let key = if self.moved.is_empty() { awaiting.conn } else { self.successor(awaiting.conn) };
            let Some(conn) = get(&mut self.conns, key) else { continue };
            let (Phase::Active(active) | Phase::Parked(active)) = &mut conn.phase else { continue };
            active.session.acks.accepted(awaiting.ack);
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
        let dropped = self.dests[usize::from(dest)].expired(|awaiting| done.push(awaiting));
        self.stats.drop(DropReason::DestinationExpired, dropped);
        self.accepted(&done);
        self.unblock(dest);
    }
}

/// The topic name's bytes, at the front of a PUBLISH (MQTT 5 §3.3.2.1).
fn topic_of(body: &[u8]) -> Option<&[u8]> {
    let (len, rest) = body.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

/// A PUBLISH without properties, which most are: nothing of it is left to check but its topic, and that was matched.
fn plain<'a>(first_byte: u8, topic: &'a str, body: &'a [u8]) -> Option<PublishRef<'a>> {
    let qos = QoS::from_u8((first_byte >> 1) & 0b11)?;
    let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
    let rest = body.get(2 + topic.len()..)?;
    let packet_id = match rest {
        [high, low, ..] if id > 0 => PacketId::new(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    let (no_properties, payload) = rest.get(id..)?.split_first()?;
    (*no_properties == 0).then(|| PublishRef {
        dup: false,
        qos,
        retain: first_byte & 1 != 0,
        topic,
        packet_id,
        properties: PublishProperties::default(),
        payload,
    })
}
