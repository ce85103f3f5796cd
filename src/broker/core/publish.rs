//! A client's packets once it is served: publishes through the pipeline, and everything else.

use std::rc::Rc;

use bytes::BytesMut;
use rookery_cluster::clock::Moment;

use super::conn::{Active, Phase, Recent};
use super::connect::{Fault, Taken, send};
use super::park::Farewell;
use super::publisher::Publisher;
use super::room::{DestIndex, LocalMatch, Matches, Room};
use super::share::{Chosen, Errand};
use super::{ConnKey, Core, DropReason, Dropped, Effect, get, origin};
use crate::mqtt::codec::{Disconnect, Forwardable, Packet, PacketId, QoS, ReasonCode, Sender, Version, decode_publish};
use crate::mqtt::session::{Delivery, Ending, Incoming, Mark, Message, allow};

/// A connection remembers no larger match than this: it keeps it alive, and there may be as many as connections.
const RECENT_LOCALS: usize = 16;

impl Core {
    /// The pipeline: decode, limits, match, deliver here, hand to others, acknowledge.
    pub(super) fn on_publish(
        &mut self,
        now: Moment,
        key: ConnKey,
        first_byte: u8,
        body: &[u8],
    ) -> Result<Taken, Fault> {
        let Some(conn) = get(&mut self.conns, key) else { return Ok(Taken::Yes) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(Taken::Yes) };
        let publish = decode_publish(active.session.version, Sender::Client, first_byte, body)?;
        allow::publish(&publish, &active.admitted.settings)?;
        let aliased = match active.session.on_publish(&publish)? {
            Incoming::New(aliased) => aliased,
            Incoming::Again { answer } => {
                self.receive_again(key, publish.packet_id.filter(|_| answer));
                return Ok(Taken::Yes);
            }
        };
        let topic = aliased.as_deref().unwrap_or(publish.topic);
        if let Err(why) = active.may_publish(topic) {
            self.refuse_publish(now, key, &publish, why)?;
            return Ok(Taken::Yes);
        }
        let matches = recent_matches(active, &mut self.rooms[active.room], topic);
        let room = active.room;
        let settings = &active.admitted.settings;
        let (metered, forwards_users) = (settings.publishes_per_second > 0, settings.forward_user_properties);
        let by = publish.retain.then(|| Publisher::of(&active.session.client));
        let errand = Errand::of(active.admitted.settings.shared_strategy, &active.session.client, topic, &publish);
        let shares = self.choose_shares(now, room, &matches.shares, errand);
        let dests = shares.destinations(&matches.remotes);
        let keeping = self.keeping(publish.retain);
        if self.retains_too_early(key, keeping.as_ref()) {
            return Ok(Taken::NotYet);
        }
        let keepers = keeping.as_ref().map_or(&[][..], |keeping| &keeping.dests);
        // Nothing has changed by now that the packet's next coming would not change alike.
        let broker = self.rooms[room].id;
        if let Some(&dest) =
            dests.iter().chain(keepers).find(|&&dest| self.dests[usize::from(dest)].crowded(broker, now))
        {
            self.dests[usize::from(dest)].paused = true;
            self.stats.publishers_paused += 1;
            if let Some(conn) = get(&mut self.conns, key) {
                conn.blocked_on = Some(dest);
            }
            return Ok(Taken::NotYet);
        }
        // A refusal must come before anything is done: what is sent again would else be delivered twice.
        if publish.qos != QoS::AtMostOnce
            && dests.iter().chain(keepers).any(|&to| self.dests[usize::from(to)].stuck(now))
        {
            return Err(Ending::with(ReasonCode::SERVER_BUSY, "a node that must get the message takes none").into());
        }
        if metered
            && let Some(conn) = get(&mut self.conns, key)
            && let Phase::Active(active) = &mut conn.phase
            && let Err(why) = active.may_publish_now(now)
        {
            self.refuse_publish(now, key, &publish, why)?;
            return Ok(Taken::Yes);
        }
        let passed_on = (!forwards_users).then(|| publish.properties.without_user_properties()).flatten();
        self.stats.publishes_received += 1;
        self.rooms[room].counts.received += 1;
        self.stats.payload_bytes_received += publish.payload.len() as u64;

        let mut message = Message::new(topic, &publish);
        message.mark = self.next_mark(publish.qos);
        if let Some(passed_on) = &passed_on {
            message.properties = Forwardable::stored(passed_on);
        }
        let kept = match keeping.as_ref().map(|keeping| self.keep(room, keeping, by, &message, None)).transpose() {
            Ok(kept) => kept.flatten(),
            Err(why) => {
                self.refuse_publish(now, key, &publish, why)?;
                return Ok(Taken::Yes);
            }
        };
        self.deliver(now, room, &matches.locals, Some(key), &mut message);
        self.serve_members(now, room, &shares, &mut message);
        let to = Destinations { ordinary: matches.remotes.len(), all: &dests };
        let mut waiting = self.hand_on(now, key, room, to, &shares, &message);
        if let (Some(keeping), Some(kept)) = (&keeping, kept) {
            waiting += self.keep_everywhere(now, key, room, keeping, &dests, kept);
        }
        let Some(packet_id) = publish.packet_id else { return Ok(Taken::Yes) };
        let nobody = matches.locals.is_empty() && dests.is_empty() && shares.is_empty();
        self.acknowledge(now, key, packet_id, publish.qos, nobody, waiting);
        if let Some(keeping) = keeping.filter(|_| waiting > 0) {
            self.need_confirmations(key, keeping.needed());
        }
        Ok(Taken::Yes)
    }

    /// Delivers to connections of this worker. Refusals are counted, never waited for (R8).
    pub(super) fn deliver(
        &mut self,
        now: Moment,
        room: usize,
        to: &[LocalMatch],
        publisher: Option<ConnKey>,
        message: &mut Message<'_>,
    ) {
        let full = self.rooms[room].account.full;
        let mut delivered = 0;
        for matched in to {
            if matched.no_local && publisher == Some(matched.conn) {
                continue;
            }
            let Some(conn) = get(&mut self.conns, matched.conn) else { continue };
            let (session, connected) = match &mut conn.phase {
                Phase::Active(active) => (&mut active.session, true),
                Phase::Parked(active) => (&mut active.session, false),
                Phase::Importing(importing) => (&mut importing.active.session, false),
                _ => continue,
            };
            if let Some(full) = full.filter(|_| !(connected && conn.out.is_empty())) {
                self.drop_in(room, full.reason(), 1);
                continue;
            }
            let retain = message.retain && matched.retain_as_published;
            let outcome = if connected {
                session.deliver(now, &mut conn.out, message, matched.qos, retain, &matched.ids)
            } else {
                session.deliver_parked(now, message, matched.qos, retain, &matched.ids)
            };
            if message.retain
                && matches!(outcome, Delivery::Written | Delivery::Queued)
                && let Phase::Active(active) = &mut conn.phase
            {
                active.tell(message);
            }
            match outcome {
                Delivery::Written => {
                    delivered += 1;
                    if !conn.dirty {
                        conn.dirty = true;
                        self.dirty.push(matched.conn);
                    }
                }
                Delivery::Queued => delivered += 1,
                Delivery::Dropped(why) => self.drop_in(room, DropReason::Subscriber(why), 1),
            }
        }
        self.stats.publishes_delivered += delivered;
        self.rooms[room].counts.sent += delivered;
    }

    /// What tells a new publish from all others, if it may be kept.
    pub(super) fn next_mark(&mut self, qos: QoS) -> Mark {
        if qos == QoS::AtMostOnce {
            return Mark::default();
        }
        self.marked = self.marked.checked_add(1).unwrap_or(1);
        Mark { origin: origin(self.life, self.worker), number: PacketId::new(self.marked) }
    }

    /// Hands the message to every other worker and node that wants it; returns how many acceptances the
    /// acknowledgement waits for.
    pub(super) fn hand_on(
        &mut self,
        now: Moment,
        key: ConnKey,
        room: usize,
        to: Destinations<'_>,
        shares: &Chosen,
        message: &Message<'_>,
    ) -> u16 {
        let mut waiting = 0;
        for (at, &dest) in to.all.iter().enumerate() {
            let destination = &mut self.dests[usize::from(dest)];
            if destination.stuck(now) {
                self.drop_in(room, DropReason::DestinationStuck, 1);
                continue;
            }
            let place = self.append_directed(room, dest, at < to.ordinary, shares, message);
            self.stats.publishes_forwarded += 1;
            self.touch(dest);
            let mut number = 0;
            if let Some(conn) = get(&mut self.conns, key)
                && let Phase::Active(active) = &conn.phase
            {
                number = active.session.acks.next_number();
            }
            if message.qos != QoS::AtMostOnce {
                self.dests[usize::from(dest)].await_acceptance(place, key, number);
                waiting += 1;
            }
        }
        waiting
    }

    /// A PUBLISH of QoS 2 that was delivered already: PUBREC once more, if the first is not still owed.
    fn receive_again(&mut self, key: ConnKey, packet_id: Option<PacketId>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        if let Some(packet_id) = packet_id {
            let version = active.session.version;
            conn.out.write(|to| acknowledgement(to, version, PUBREC, packet_id, ReasonCode::SUCCESS));
            self.mark_dirty(key);
        }
    }

    fn acknowledge(&mut self, now: Moment, key: ConnKey, packet_id: PacketId, qos: QoS, nobody: bool, waiting: u16) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let reason = if nobody { ReasonCode::NO_MATCHING_SUBSCRIBERS } else { ReasonCode::SUCCESS };
        active.session.acks.push(packet_id, qos, reason, waiting, now);
        if qos == QoS::ExactlyOnce {
            active.session.received(packet_id);
        }
        self.send_due_acks(key);
    }

    /// Writes the acknowledgements that are due, in order.
    pub(super) fn send_due_acks(&mut self, key: ConnKey) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let active = match &mut conn.phase {
            Phase::Active(active) => active,
            // Nobody waits for them now; a publish of QoS 2 that comes again is answered then.
            Phase::Parked(active) => {
                while active.session.acks.pop_due().is_some() {}
                return;
            }
            _ => return,
        };
        let version = active.session.version;
        let paused = active.session.paused();
        let mut any = false;
        while let Some((packet_id, qos, reason)) = active.session.acks.pop_due() {
            let kind = match qos {
                QoS::ExactlyOnce => PUBREC,
                QoS::AtLeastOnce => PUBACK,
                QoS::AtMostOnce => continue,
            };
            conn.out.write(|to| acknowledgement(to, version, kind, packet_id, reason));
            any = true;
        }
        if any {
            self.mark_dirty(key);
            if paused {
                self.resumable.push(key);
            }
        }
    }

    pub(super) fn on_packet(
        &mut self,
        now: Moment,
        key: ConnKey,
        packet: Packet,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(()) };
        let version = active.session.version;
        match packet {
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubcomp(_) => {
                let (session, to) = (&mut active.session, &mut conn.out);
                let expired = match packet {
                    Packet::Puback(ack) => session.on_puback(now, to, ack.packet_id)?,
                    Packet::Pubrec(ack) => session.on_pubrec(now, to, &ack)?,
                    Packet::Pubcomp(ack) => session.on_pubcomp(now, to, ack.packet_id)?,
                    _ => 0,
                };
                self.stats.drop(DropReason::Subscriber(Dropped::Expired), expired);
                if !conn.out.is_empty() {
                    self.mark_dirty(key);
                }
                self.reads_on(key);
            }
            Packet::Pubrel(ack) => {
                let reason = active.session.on_pubrel(ack.packet_id);
                conn.out.write(|to| acknowledgement(to, version, PUBCOMP, ack.packet_id, reason));
                self.mark_dirty(key);
            }
            Packet::Subscribe(subscribe) => {
                active.session.check_answer(subscribe.filters.len())?;
                self.on_subscribe(key, &subscribe, out)?;
            }
            Packet::Unsubscribe(unsubscribe) => {
                active.session.check_answer(unsubscribe.filters.len())?;
                self.on_unsubscribe(key, &unsubscribe, out);
            }
            Packet::Pingreq => {
                send(conn, version, &Packet::Pingresp);
                self.mark_dirty(key);
            }
            Packet::Disconnect(disconnect) => {
                let farewell = farewell(active, &disconnect)?;
                conn.left = true;
                self.retire(key, false, farewell, out);
                self.mark_dirty(key);
                out.push(Effect::Close { conn: key });
            }
            Packet::Auth(_) => {
                return Err(Ending::with(ReasonCode::PROTOCOL_ERROR, "auth without an authentication method").into());
            }
            Packet::Connect(_) => {
                return Err(Ending::with(ReasonCode::PROTOCOL_ERROR, "second connect").into());
            }
            Packet::Publish(_) | Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(Ending::with(ReasonCode::PROTOCOL_ERROR, "packet that only a server sends").into());
            }
        }
        Ok(())
    }
}

/// What a client's DISCONNECT says of its will and its session (MQTT 5 §3.14.2).
fn farewell(active: &Active, disconnect: &Disconnect) -> Result<Farewell, Ending> {
    let expiry = disconnect.properties.session_expiry;
    if active.durable.is_none_or(|durable| durable.expiry == 0) && expiry.is_some_and(|expiry| expiry > 0) {
        return Err(Ending::with(ReasonCode::PROTOCOL_ERROR, "a session expiry for a session that had none"));
    }
    let expiry = expiry.map(|wanted| active.admitted.settings.session_expiry(wanted));
    Ok(Farewell { fire_will: disconnect.reason != ReasonCode::NORMAL_DISCONNECTION, expiry })
}

/// Who else gets a message.
#[derive(Clone, Copy)]
pub(super) struct Destinations<'a> {
    pub all: &'a [DestIndex],
    /// How many of them, from the first, want it for their ordinary subscriptions.
    pub ordinary: usize,
}

fn recent_matches(active: &mut Active, room: &mut Room, topic: &str) -> Rc<Matches> {
    if let Some(recent) = &active.recent
        && recent.generation == room.generation()
        && *recent.topic == *topic
    {
        return recent.matches.clone();
    }
    let matches = room.matches(topic);
    if matches.locals.len() > RECENT_LOCALS {
        active.recent = None;
        return matches;
    }
    active.recent = Some(Recent { topic: topic.into(), generation: room.generation(), matches: matches.clone() });
    matches
}

/// First bytes of the acknowledgements that the server sends (MQTT 5 §2.1.2).
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

/// An acknowledgement in its short form, where the version has one (MQTT 5 §3.4.2.1).
fn acknowledgement(to: &mut BytesMut, version: Version, first_byte: u8, packet_id: PacketId, reason: ReasonCode) {
    let id = packet_id.get().to_be_bytes();
    if version == Version::V311 || reason == ReasonCode::SUCCESS {
        to.extend_from_slice(&[first_byte, 2, id[0], id[1]]);
    } else {
        to.extend_from_slice(&[first_byte, 3, id[0], id[1], reason.value()]);
    }
}
