//! Subscriptions of this worker's clients, interest of the others, and the barrier between a SUBSCRIBE and its
//! SUBACK (P8).

use std::sync::Arc;

use rookery_cluster::handle::{Holder, InterestChange};
use rookery_cluster::ids::{BrokerId, Nonce};
use rookery_cluster::topics::{name_hash, validate_filter};

use super::conn::{Active, PENDING_SUBACKS, PendingSuback, Persisting, Phase};
use super::connect::{Fault, send};
use super::limits::count_subscriber;
use super::room::{Interest, Options, Room, is_shared};
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
    pub waiters: Vec<Waiter>,
}

/// Who waits for a barrier.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// One filter of a SUBSCRIBE, at this place in the packet.
    Suback { conn: ConnKey, packet_id: PacketId, slot: usize },
    /// A session that moves here.
    Import(ConnKey),
}

impl Core {
    /// The room of `broker`; made when the broker is first heard of.
    pub(super) fn room(&mut self, broker: BrokerId) -> usize {
        if let Some(&known) = self.room_of.get(&broker) {
            return known;
        }
        let counts = self.resume_counts(broker);
        let index = self.rooms.insert(Room::new(broker, self.seed));
        self.rooms[index].counts = counts;
        self.room_of.insert(broker, index);
        index
    }

    pub(super) fn drop_idle_room(&mut self, room: usize) {
        if self.rooms.get(room).is_some_and(Room::is_idle) {
            let gone = self.rooms.remove(room);
            self.left_behind.extend(gone.account.close(gone.id));
            self.room_of.remove(&gone.id);
            self.keep_counts(gone.id, gone.counts);
        }
    }

    pub(super) fn on_subscribe(
        &mut self,
        key: ConnKey,
        subscribe: &Subscribe,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let packet_id = subscribe.packet_id;
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(()) };
        if active.subacks.iter().any(|pending| pending.packet_id == packet_id) {
            return Err(Ending::with(ReasonCode::PACKET_ID_IN_USE, "subscribe with an identifier in use").into());
        }
        active.may_ask(subscribe)?;
        let (told, waiting) = (active.told(), 0);
        let (reasons, reads) = Default::default();
        let mut pending = PendingSuback { packet_id, unsubscribe: false, reasons, reads, told, waiting };
        for (slot, wanted) in subscribe.filters.iter().enumerate() {
            if self.wants_retained(key, wanted) {
                pending.reads.push((slot, wanted.filter.as_str().into()));
            }
            let (reason, barrier) = self.subscribe_one(key, wanted, subscribe.subscription_id, out);
            pending.reasons.push(reason);
            if let Some(barrier) = barrier.and_then(|token| self.barriers.get_mut(&token)) {
                barrier.waiters.push(Waiter::Suback { conn: key, packet_id, slot });
                pending.waiting += 1;
            }
        }
        let granted = subscribe.filters.iter().zip(&pending.reasons).filter(|(_, reason)| !reason.is_error());
        let filters: Vec<Arc<str>> = granted.map(|(wanted, _)| wanted.filter.as_str().into()).collect();
        pending.waiting += usize::from(self.persist(key, packet_id, filters, out));
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
            Ok(parsed) if parsed.share.is_some() && !active.admitted.settings.shared() => {
                return (ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, None);
            }
            Ok(_) => {}
        }
        if let Err(reason) = active.may_subscribe(wanted) {
            return (reason, None);
        }
        let known = active.filters.contains(wanted.filter.as_str());
        if !known && active.filters.len() >= active.admitted.settings.max_subscriptions {
            return (ReasonCode::QUOTA_EXCEEDED, None);
        }
        if !known && let Err(reason) = count_subscriber(self.quota.as_mut(), active, &wanted.filter) {
            return (reason, None);
        }
        let qos = wanted.qos.min(active.admitted.settings.qos());
        let options = Options { qos, no_local: wanted.no_local, retain_as_published: wanted.retain_as_published, id };
        let filter: Arc<str> = wanted.filter.as_str().into();
        (ReasonCode::granted(qos), self.hold(key, &filter, options, out))
    }

    /// Holds a subscription of a connection from here on: the barrier after which everybody knows, if not by now.
    pub(super) fn hold(
        &mut self,
        key: ConnKey,
        filter: &Arc<str>,
        options: Options,
        out: &mut Vec<Effect>,
    ) -> Option<u64> {
        let active = match &mut get(&mut self.conns, key)?.phase {
            Phase::Active(active) => active,
            Phase::Importing(importing) => &mut importing.active,
            _ => return None,
        };
        active.filters.insert(filter.clone());
        let room = &mut self.rooms[active.room];
        let interest = if is_shared(filter) {
            room.join(key, name_hash(&active.session.client), filter, options, self.next_token)
        } else {
            room.subscribe(key, filter, options, self.next_token)
        };
        match interest {
            Interest::Known => None,
            Interest::Pending(token) => Some(token),
            Interest::New(token) => {
                self.next_token += 1;
                let broker = room.id;
                self.barriers.insert(token, Barrier { broker, filter: filter.clone(), waiters: Vec::new() });
                out.push(Effect::Subscribe { broker, filter: filter.clone(), token });
                Some(token)
            }
        }
    }

    /// Has the shard store the subscriptions to `filters` as they are now, if the session outlives its connection:
    /// whether the reply to `packet_id` must wait for that.
    pub(super) fn persist(
        &mut self,
        key: ConnKey,
        packet_id: PacketId,
        filters: Vec<Arc<str>>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(conn) = get(&mut self.conns, key) else { return false };
        let Phase::Active(active) = &mut conn.phase else { return false };
        if active.durable.is_none() || filters.is_empty() {
            return false;
        }
        let token = self.next_token;
        self.next_token += 1;
        active.persisting = Some(Persisting { token, packet_id, filters: filters.clone() });
        let room = &self.rooms[active.room];
        let bits = |filter: &Arc<str>| room.options(key, filter).map(Options::to_bits);
        let changes = filters.into_iter().map(|filter| (filter.clone(), bits(&filter))).collect();
        let (broker, client) = (active.admitted.broker, active.admitted.client.clone());
        let (epoch, nonce) = (active.epoch, active.nonce);
        out.push(Effect::Persist { broker, client, epoch, nonce, token, changes });
        true
    }

    /// The shard has stored what [`Core::persist`] gave it, or has not: what SUBACK says then.
    pub(super) fn on_persisted(
        &mut self,
        nonce: Nonce,
        token: u64,
        stored: Result<(), ReasonCode>,
        out: &mut Vec<Effect>,
    ) {
        let Some(&key) = self.claims.get(&nonce) else { return };
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let Some(Persisting { packet_id, filters, .. }) = active.persisting.take_if(|p| p.token == token) else {
            return;
        };
        self.resumable.push(key);
        let Some(at) = active.subacks.iter().position(|pending| pending.packet_id == packet_id) else { return };
        let pending = &mut active.subacks[at];
        pending.waiting -= 1;
        let refused = stored.is_err() && !pending.unsubscribe;
        if let Err(why) = stored {
            let granted = pending.reasons.iter_mut().filter(|reason| !reason.is_error());
            granted.for_each(|reason| *reason = why);
        }
        let due = (pending.waiting == 0).then(|| active.subacks.swap_remove(at));
        // What SUBACK refuses is not held.
        for filter in filters.iter().filter(|_| refused) {
            self.unsubscribe_one(key, filter, out);
        }
        if refused {
            // A part of them may have been stored, or by an earlier SUBSCRIBE.
            self.unpersist(key, filters, out);
        }
        if let Some(due) = due {
            self.suback_if_due(key, due);
        }
    }

    /// Has the shard forget subscriptions that were refused after it was told of them. Nobody waits for that: if it fails,
    /// the session has it again should its home be lost.
    fn unpersist(&mut self, key: ConnKey, filters: Vec<Arc<str>>, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &conn.phase else { return };
        if active.durable.is_none() {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let (broker, client) = (active.admitted.broker, active.admitted.client.clone());
        let (epoch, nonce) = (active.epoch, active.nonce);
        let changes = filters.into_iter().map(|filter| (filter, None)).collect();
        out.push(Effect::Persist { broker, client, epoch, nonce, token, changes });
    }

    fn suback_if_due(&mut self, key: ConnKey, pending: PendingSuback) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        if pending.waiting > 0 {
            active.subacks.push(pending);
            return;
        }
        let version = active.session.version;
        active.read_after(&pending);
        let (packet_id, reasons, properties) =
            (pending.packet_id, pending.reasons.clone(), ReasonProperties::default());
        let reply = if pending.unsubscribe {
            Packet::Unsuback(Unsuback { packet_id, reasons, properties })
        } else {
            Packet::Suback(Suback { packet_id, reasons, properties })
        };
        send(conn, version, &reply);
        self.greet_with_figures(key, &pending);
        self.mark_dirty(key);
        self.reads_on(key);
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
            match waiter {
                Waiter::Suback { conn, packet_id, slot } => {
                    self.barrier_passed(conn, packet_id, slot, &barrier.filter, seen, out);
                }
                Waiter::Import(conn) => self.import_barrier(conn, seen, out),
            }
        }
    }

    fn barrier_passed(
        &mut self,
        key: ConnKey,
        packet_id: PacketId,
        slot: usize,
        filter: &str,
        seen: bool,
        out: &mut Vec<Effect>,
    ) {
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
            self.unpersist(key, vec![filter.into()], out);
        }
        if let Some(due) = due {
            self.suback_if_due(key, due);
            if full {
                self.resumable.push(key);
            }
        }
    }

    pub(super) fn on_unsubscribe(&mut self, key: ConnKey, unsubscribe: &Unsubscribe, out: &mut Vec<Effect>) {
        let packet_id = unsubscribe.packet_id;
        let reasons: Vec<ReasonCode> =
            unsubscribe.filters.iter().map(|filter| self.unsubscribe_one(key, filter, out)).collect();
        let gone = unsubscribe.filters.iter().zip(&reasons).filter(|(_, reason)| **reason == ReasonCode::SUCCESS);
        let filters = gone.map(|(filter, _)| filter.as_str().into()).collect();
        let waiting = usize::from(self.persist(key, packet_id, filters, out));
        self.suback_if_due(
            key,
            PendingSuback { packet_id, unsubscribe: true, reasons, reads: Vec::new(), told: 0, waiting },
        );
    }

    pub(super) fn unsubscribe_one(&mut self, key: ConnKey, filter: &str, out: &mut Vec<Effect>) -> ReasonCode {
        let Some(conn) = get(&mut self.conns, key) else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let Phase::Active(active) = &mut conn.phase else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let Some(filter) = active.filters.take(filter) else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let room = active.room;
        self.uncount_subscriber(key, &filter);
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
        self.uncount_all(active);
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
        self.confirm_interest(token, changes, out);
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
