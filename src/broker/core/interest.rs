//! Subscriptions of this worker's clients, interest of the others, and the barrier between a SUBSCRIBE and its
//! SUBACK (P8).

use std::sync::Arc;

use rookery_cluster::handle::{Holder, InterestChange};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::topics::validate_filter;

use super::conn::{Active, PENDING_SUBACKS, PendingSuback, Phase};
use super::connect::{Fault, send};
use super::room::{Interest, Options, Room};
use super::{ConnKey, Core, Effect, get};
use crate::mqtt::codec::{
    Packet, PacketId, ReasonCode, ReasonProperties, Suback, Subscribe, SubscribeFilter, Unsuback, Unsubscribe,
};
use crate::mqtt::session::Ending;

/// A filter that others are being told of, and the SUBACKs that wait for it.
#[derive(Debug)]
pub(super) struct Barrier {
    broker: BrokerId,
    filter: Arc<str>,
    waiters: Vec<Waiter>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    conn: ConnKey,
    packet_id: PacketId,
    /// Its place in the packet.
    slot: usize,
}

impl Core {
    /// The room of `broker`; made when the broker is first heard of.
    pub(super) fn room(&mut self, broker: BrokerId) -> usize {
        if let Some(&known) = self.room_of.get(&broker) {
            return known;
        }
        let index = self.rooms.insert(Room::new(broker, self.seed));
        self.room_of.insert(broker, index);
        index
    }

    pub(super) fn drop_idle_room(&mut self, room: usize) {
        if self.rooms.get(room).is_some_and(Room::is_idle) {
            let gone = self.rooms.remove(room);
            self.room_of.remove(&gone.id);
        }
    }

    pub(super) fn on_subscribe(
        &mut self,
        key: ConnKey,
        subscribe: Subscribe,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let packet_id = subscribe.packet_id;
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(()) };
        if active.subacks.iter().any(|pending| pending.packet_id == packet_id) {
            return Err(Ending::with(ReasonCode::PACKET_ID_IN_USE, "subscribe with an identifier in use").into());
        }
        let mut pending = PendingSuback { packet_id, reasons: Vec::new(), waiting: 0 };
        for (slot, wanted) in subscribe.filters.iter().enumerate() {
            let (reason, barrier) = self.subscribe_one(key, wanted, subscribe.subscription_id, out);
            pending.reasons.push(reason);
            if let Some(barrier) = barrier.and_then(|token| self.barriers.get_mut(&token)) {
                barrier.waiters.push(Waiter { conn: key, packet_id, slot });
                pending.waiting += 1;
            }
        }
        self.suback_if_due(key, pending);
        Ok(())
    }

    /// Adds one subscription: its SUBACK reason, and the barrier that SUBACK waits for.
    fn subscribe_one(
        &mut self,
        key: ConnKey,
        wanted: &SubscribeFilter,
        id: Option<u32>,
        out: &mut Vec<Effect>,
    ) -> (ReasonCode, Option<u64>) {
        let Some(conn) = get(&mut self.conns, key) else { return (ReasonCode::UNSPECIFIED_ERROR, None) };
        let Phase::Active(active) = &mut conn.phase else { return (ReasonCode::UNSPECIFIED_ERROR, None) };
        match validate_filter(&wanted.filter) {
            Err(_) => return (ReasonCode::TOPIC_FILTER_INVALID, None),
            Ok(parsed) if parsed.share.is_some() => return (ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, None),
            Ok(_) => {}
        }
        let known = active.filters.contains(wanted.filter.as_str());
        if !known && active.filters.len() >= active.admitted.settings.max_subscriptions {
            return (ReasonCode::QUOTA_EXCEEDED, None);
        }
        let qos = wanted.qos.min(active.admitted.settings.qos());
        let options = Options { qos, no_local: wanted.no_local, retain_as_published: wanted.retain_as_published, id };
        let filter: Arc<str> = wanted.filter.as_str().into();
        active.filters.insert(filter.clone());
        let room = &mut self.rooms[active.room];
        let barrier = match room.subscribe(key, &filter, options, self.next_token) {
            Interest::Known => None,
            Interest::Pending(token) => Some(token),
            Interest::New(token) => {
                self.next_token += 1;
                let broker = room.id;
                self.barriers.insert(token, Barrier { broker, filter: filter.clone(), waiters: Vec::new() });
                out.push(Effect::Subscribe { broker, filter, token });
                Some(token)
            }
        };
        (ReasonCode::granted(qos), barrier)
    }

    fn suback_if_due(&mut self, key: ConnKey, pending: PendingSuback) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        if pending.waiting > 0 {
            active.subacks.push(pending);
            return;
        }
        let version = active.session.version;
        let suback =
            Suback { packet_id: pending.packet_id, reasons: pending.reasons, properties: ReasonProperties::default() };
        send(conn, version, &Packet::Suback(suback));
        self.mark_dirty(key);
    }

    pub(super) fn on_barrier(&mut self, token: u64, seen: bool, out: &mut Vec<Effect>) {
        let Some(barrier) = self.barriers.remove(&token) else { return };
        if let Some(&room) = self.room_of.get(&barrier.broker) {
            self.rooms[room].barrier_passed(&barrier.filter, token);
        }
        if !seen {
            self.stats.barrier_timeouts += 1;
            tracing::warn!(broker = %barrier.broker, "not every live node confirmed a subscription in time");
        }
        for waiter in barrier.waiters {
            self.barrier_passed(waiter, &barrier.filter, seen, out);
        }
    }

    fn barrier_passed(&mut self, waiter: Waiter, filter: &str, seen: bool, out: &mut Vec<Effect>) {
        let Waiter { conn: key, packet_id, slot } = waiter;
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let Some(at) = active.subacks.iter().position(|pending| pending.packet_id == packet_id) else { return };
        let full = active.subacks.len() >= PENDING_SUBACKS;
        let pending = &mut active.subacks[at];
        pending.waiting -= 1;
        if !seen {
            pending.reasons[slot] = ReasonCode::IMPLEMENTATION_SPECIFIC;
        }
        let due = (pending.waiting == 0).then(|| active.subacks.swap_remove(at));
        if !seen {
            self.unsubscribe_one(key, filter, out);
        }
        if let Some(due) = due {
            self.suback_if_due(key, due);
            if full {
                self.resumable.push(key);
            }
        }
    }

    pub(super) fn on_unsubscribe(&mut self, key: ConnKey, unsubscribe: &Unsubscribe, out: &mut Vec<Effect>) {
        let reasons = unsubscribe.filters.iter().map(|filter| self.unsubscribe_one(key, filter, out)).collect();
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &conn.phase else { return };
        let version = active.session.version;
        let unsuback = Unsuback { packet_id: unsubscribe.packet_id, reasons, properties: ReasonProperties::default() };
        send(conn, version, &Packet::Unsuback(unsuback));
        self.mark_dirty(key);
    }

    fn unsubscribe_one(&mut self, key: ConnKey, filter: &str, out: &mut Vec<Effect>) -> ReasonCode {
        let Some(conn) = get(&mut self.conns, key) else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let Phase::Active(active) = &mut conn.phase else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let Some(filter) = active.filters.take(filter) else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let room = active.room;
        self.withdraw(key, room, filter, out);
        ReasonCode::SUCCESS
    }

    fn withdraw(&mut self, key: ConnKey, room: usize, filter: Arc<str>, out: &mut Vec<Effect>) {
        let room = &mut self.rooms[room];
        if let (_, true) = room.unsubscribe(key, &filter) {
            out.push(Effect::Unsubscribe { broker: room.id, filter });
        }
    }

    /// A connection ends: its subscriptions go with it.
    pub(super) fn forget_subscriptions(&mut self, key: ConnKey, active: &Active, out: &mut Vec<Effect>) {
        for filter in &active.filters {
            self.withdraw(key, active.room, filter.clone(), out);
        }
    }

    pub(super) fn on_interest(&mut self, token: u64, changes: &[InterestChange], out: &mut Vec<Effect>) {
        for change in changes {
            match change {
                InterestChange::Add { holder, broker, filter } => {
                    let dest = self.dest(*holder);
                    let room = self.room(*broker);
                    self.rooms[room].add_remote(dest, filter);
                }
                InterestChange::Remove { holder, broker, filter } => {
                    let dest = self.dest(*holder);
                    if let Some(&room) = self.room_of.get(broker) {
                        self.rooms[room].remove_remote(dest, filter);
                        self.drop_idle_room(room);
                    }
                }
                InterestChange::Clear { holder } => self.clear_interest(*holder),
            }
        }
        out.push(Effect::InterestSeen { token });
    }

    fn clear_interest(&mut self, holder: Holder) {
        let dest = self.dest(holder);
        let rooms: Vec<usize> = self.rooms.iter().map(|(index, _)| index).collect();
        for room in rooms {
            self.rooms[room].clear_remote(dest);
            self.drop_idle_room(room);
        }
    }

    pub(super) fn on_interest_complete(&mut self) {
        self.interest_complete = true;
        let waiting: Vec<ConnKey> = self.conns.iter().map(|(_, conn)| conn.key).collect();
        self.resumable.extend(waiting);
    }
}
