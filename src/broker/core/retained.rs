//! Retained messages: the stage of the pipeline that has a publish kept by every node (P9), and what a subscriber gets of
//! those that are kept (MQTT 5 §3.3.1.3, §3.8.3.1).
//!
//! This node's store is a destination like others: it takes batches, has credit, and accepts them (once they are on disk,
//! if any publish of them asks for that). Its batches leave after those to the other workers, so that whoever reads a
//! message in the store has its publish in its mailbox already; reads leave after its batches, so that they find what
//! this worker took itself.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::BytesMut;
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::handle::{Holder, InterestChange, Replicas, Retained};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::{PUBLISH_TIMEOUT, RETAINED_CHUNK_BYTES};
use rookery_cluster::retained::{Cursor, Found, Full, Page, Pages, Time};

use super::conn::{Active, PendingSuback, Phase};
use super::publisher::Publisher;
use super::room::DestIndex;
use super::{ConnKey, Core, DropReason, Effect, get};
use crate::mqtt::codec::{MAX_PACKET, QoS, ReasonCode, RetainHandling, Sender, SubscribeFilter, Version};
use crate::mqtt::codec::{PublishRef, decode_publish, split};
use crate::mqtt::session::{Delivery, Ending, Message, Settings};

/// Retained messages that one page brings: more are read when the client has taken them.
const PAGE_MESSAGES: usize = 256;
/// Topics that are looked at for one page.
const PAGE_STEPS: usize = 4096;
/// Pages that are read before others get their turn (R19).
const READS_PER_FLUSH: usize = 16;
/// Retained publishes of which a connection remembers that it had them while it waits for what its subscriptions bring.
const TOLD: usize = 256;
/// No page is read for a client with more bytes than this before it.
const READ_BELOW: usize = 256 << 10;

/// Where this worker's retained publishes are kept, as far as the core must know at once.
pub trait Retaining: fmt::Debug {
    /// Who must take one that begins now.
    fn replicas(&self) -> Arc<Replicas>;
    /// The time of a write that begins now.
    fn time(&self) -> Time;
    /// The time of a new write, and the wall clock. `bytes`: of the message; `None` if it deletes.
    ///
    /// # Errors
    /// [`Full`] if the broker may not have it.
    fn admit(&self, broker: BrokerId, topic: &str, bytes: Option<usize>) -> Result<(Time, UnixMillis), Full>;
}

/// What a worker knows of its node's store.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// Where retained publishes are kept, if they are.
    pub by: Option<Arc<dyn Retaining>>,
    /// What is kept from now on is later than what was acknowledged anywhere.
    pub in_step: bool,
    /// The store has everything that was acknowledged.
    pub complete: bool,
    /// Interest that was applied, and since when it waits for the store to have what was gathered before.
    unconfirmed: Option<(u64, Moment)>,
    /// Connections that may have room for retained messages.
    readers: BTreeSet<ConnKey>,
}

/// What a subscriber has yet to get.
#[derive(Debug)]
pub(super) struct Read {
    filter: Arc<str>,
    after: Option<Cursor>,
    /// Whether a page is on its way.
    asked: bool,
    /// What of [`Reads::told`] was there before it was asked for.
    told: usize,
}

/// Who is to keep a retained publish.
#[derive(Debug)]
pub(super) struct Keeping {
    pub dests: Vec<DestIndex>,
    replicas: Arc<Replicas>,
}

impl Keeping {
    /// How many other nodes must confirm it.
    pub fn needed(&self) -> u16 {
        self.replicas.needed
    }
}

impl Core {
    /// From now on retained publishes are kept, by `by`.
    pub fn retain(&mut self, by: Arc<dyn Retaining>) {
        self.retention.by = Some(by);
        self.dest(Holder::Store);
    }

    /// Who must keep a retained publish, whoever wants it; `None` if it is not kept.
    pub(super) fn keeping(&mut self, retain: bool) -> Option<Keeping> {
        let replicas = self.retention.by.as_ref().filter(|_| retain)?.replicas();
        let mut dests: Vec<DestIndex> = replicas.peers.iter().map(|&peer| self.dest(Holder::Peer(peer))).collect();
        dests.push(self.dest(Holder::Store));
        Some(Keeping { dests, replicas })
    }

    /// Whether a retained publish has to wait: written now, it might be older than one that was acknowledged (R15).
    pub(super) fn retains_too_early(&mut self, key: ConnKey, keeping: Option<&Keeping>) -> bool {
        let early = keeping.is_some() && !self.retention.in_step;
        if early {
            let store = self.dest(Holder::Store);
            if let Some(conn) = get(&mut self.conns, key) {
                conn.blocked_on = Some(store);
            }
        }
        early
    }

    /// Publishers of retained messages go on.
    pub(super) fn on_retained_in_step(&mut self) {
        self.retention.in_step = true;
        let store = self.dest(Holder::Store);
        if self.conns.iter().any(|(_, conn)| conn.blocked_on == Some(store)) {
            self.unblock(store);
        }
    }

    /// Others' interest is applied here. Who begins to want something copies what is in the store once it hears of that,
    /// and was no replica of what was gathered before: so that is handed to the store first.
    pub(super) fn confirm_interest(&mut self, token: u64, changes: &[InterestChange], out: &mut Vec<Effect>) {
        let begins = changes.iter().any(|change| matches!(change, InterestChange::Clear { .. }));
        match self.retention.unconfirmed {
            Some((_, since)) if !begins => self.retention.unconfirmed = Some((token, since)),
            None if !(begins && self.store_is_owed()) => out.push(Effect::InterestSeen { token }),
            _ => self.retention.unconfirmed = Some((token, self.clock)),
        }
    }

    /// Confirms what waits for the store, unless that is still owed something that may yet be acknowledged.
    pub(super) fn confirm_kept(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Some((token, since)) = self.retention.unconfirmed else { return };
        if !self.store_is_owed() || now.since(since) >= PUBLISH_TIMEOUT {
            self.retention.unconfirmed = None;
            out.push(Effect::InterestSeen { token });
        }
    }

    fn store_is_owed(&self) -> bool {
        let store = self.dest_of.get(&Holder::Store);
        store.is_some_and(|&store| self.dests[usize::from(store)].holds_back())
    }

    /// Gives a retained publish its time, `at` if that is decided: what is to be kept of it, `None` if it is only delivered.
    /// `by`: the client that publishes it, if it is one.
    ///
    /// # Errors
    /// Why it is refused. Nothing was done.
    pub(super) fn keep(
        &mut self,
        room: usize,
        keeping: &Keeping,
        by: Option<Publisher>,
        message: &Message<'_>,
        at: Option<Time>,
    ) -> Result<Option<Arc<Retained>>, Ending> {
        let Some(retaining) = &self.retention.by else { return Ok(None) };
        let durable = message.qos != QoS::AtMostOnce;
        if durable && keeping.replicas.peers.len() < usize::from(keeping.replicas.needed) {
            let why = "fewer nodes are live than must keep the message";
            return Err(Ending::with(ReasonCode::IMPLEMENTATION_SPECIFIC, why));
        }
        let mut body = BytesMut::new();
        if !message.payload.is_empty() {
            by.into_iter().for_each(|by| by.encode(&mut body));
            message.encode_transfer(&mut body).map_err(|_| {
                Ending::with(ReasonCode::IMPLEMENTATION_SPECIFIC, "a retained message cannot be encoded")
            })?;
        }
        let bytes = (!body.is_empty()).then_some(body.len());
        let (time, wall) = match retaining.admit(self.rooms[room].id, message.topic, bytes) {
            Ok(admitted) => at.map_or(admitted, |at| (at, at.wall())),
            Err(Full) => {
                self.drop_in(room, DropReason::RetainedFull, 1);
                let why = Ending::with(ReasonCode::QUOTA_EXCEEDED, "the broker has no room for the retained message");
                return if durable { Err(why) } else { Ok(None) };
            }
        };
        let expires = message.expiry.map(|seconds| UnixMillis(wall.0.saturating_add(u64::from(seconds) * 1000)));
        let kept = bytes.map(|_| body.freeze());
        Ok(Some(Arc::new(Retained { time, topic: message.topic.into(), expires, message: kept, durable })))
    }

    /// Hands what is to be kept to all who must; returns how many acceptances the acknowledgement waits for beside those
    /// of `delivered`, who get the publish as well.
    pub(super) fn keep_everywhere(
        &mut self,
        now: Moment,
        key: ConnKey,
        room: usize,
        keeping: &Keeping,
        delivered: &[DestIndex],
        kept: Arc<Retained>,
    ) -> u16 {
        let broker = self.rooms[room].id;
        let number = match get(&mut self.conns, key).map(|conn| &conn.phase) {
            Some(Phase::Active(active)) => active.session.acks.next_number(),
            _ => 0,
        };
        let mut waiting = 0;
        for &dest in &keeping.dests {
            let destination = &mut self.dests[usize::from(dest)];
            if destination.stuck(now) {
                self.drop_in(room, DropReason::DestinationStuck, 1);
                continue;
            }
            let place = destination.keep(broker, kept.clone());
            if kept.durable && !delivered.contains(&dest) {
                destination.await_acceptance(place, key, number);
                waiting += 1;
            }
            self.touch(dest);
        }
        waiting
    }

    /// The last publish is not acknowledged before so many other nodes have confirmed it (P9).
    pub(super) fn need_confirmations(&mut self, key: ConnKey, needed: u16) {
        if let Some(conn) = get(&mut self.conns, key)
            && let Phase::Active(active) = &mut conn.phase
        {
            active.session.acks.need(needed);
        }
    }

    /// Sends what waits for the store, and asks for what subscribers wait for: not before the other workers have been
    /// sent the same.
    pub(super) fn flush_retained(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Some(&store) = self.dest_of.get(&Holder::Store) else { return };
        if self.siblings_behind() {
            return;
        }
        self.send_batches(now, store, out);
        self.confirm_kept(now, out);
        let destination = &self.dests[usize::from(store)];
        if destination.paused && !destination.congested() {
            self.unblock(store);
        }
        for _ in 0..READS_PER_FLUSH {
            if !self.reads_due() {
                return;
            }
            if let Some(key) = self.retention.readers.pop_first() {
                self.read_next(key, out);
            }
        }
    }

    /// Whether some other worker has not been sent all that it is owed.
    fn siblings_behind(&self) -> bool {
        self.dests.iter().any(|dest| matches!(dest.holder, Holder::Worker(_)) && dest.congested())
    }

    /// Whether a flush would read for somebody.
    pub(super) fn reads_due(&self) -> bool {
        self.retention.complete
            && !self.retention.readers.is_empty()
            && self.has_credit(Holder::Store)
            && !self.siblings_behind()
    }

    fn read_next(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let most = page_bounds(&active.admitted.settings);
        // What waits in its queue comes first; whoever takes it calls `reads_on`.
        let room = conn.out.len() < READ_BELOW.min(active.admitted.settings.outbound_bytes)
            && active.session.queued_bytes() == 0;
        let Some(read) = active.reads.next.front_mut().filter(|read| room && !read.asked) else { return };
        read.asked = true;
        let (broker, filter, after) = (active.admitted.broker, read.filter.clone(), read.after.clone());
        out.push(Effect::ReadRetained { conn: key, broker, filter, after, most });
    }

    /// The connection may have room again for what it waits for.
    pub(super) fn reads_on(&mut self, key: ConnKey) {
        if let Some(conn) = get(&mut self.conns, key)
            && let Phase::Active(active) = &conn.phase
            && active.reads.next.front().is_some_and(|read| !read.asked)
        {
            self.retention.readers.insert(key);
        }
    }

    /// This node has every retained message that was acknowledged: subscribers get theirs.
    pub(super) fn on_retained_complete(&mut self) {
        self.on_retained_in_step();
        self.retention.complete = true;
        let all: Vec<ConnKey> = self.conns.iter().map(|(_, conn)| conn.key).collect();
        all.into_iter().for_each(|key| self.reads_on(key));
    }

    /// Whether a subscription that is asked for brings retained messages. Before it is held.
    pub(super) fn wants_retained(&mut self, key: ConnKey, wanted: &SubscribeFilter) -> bool {
        let Some(conn) = get(&mut self.conns, key) else { return false };
        let Phase::Active(active) = &conn.phase else { return false };
        let known = active.filters.contains(wanted.filter.as_str());
        self.retention.by.is_some() && wants_retained(wanted, known, &active.admitted.settings)
    }

    /// A page of what a subscription matches.
    pub(super) fn on_retained(&mut self, now: Moment, wall: UnixMillis, key: ConnKey, filter: &str, page: Page) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let current = active.reads.next.front().is_some_and(|read| read.asked && *read.filter == *filter);
        if !current {
            return;
        }
        let (room, told) = (active.room, active.reads.next.front().map_or(0, |read| read.told));
        for found in &page.found {
            self.deliver_retained(now, wall, key, room, filter, told, found);
        }
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        match (page.next, active.reads.next.front_mut()) {
            (Some(next), Some(read)) => (read.after, read.asked) = (Some(next), false),
            _ => drop(active.reads.next.pop_front()),
        }
        if active.reads.next.is_empty() && active.subacks.iter().all(|pending| pending.reads.is_empty()) {
            active.reads.told = Vec::new();
        }
        self.mark_dirty(key);
        self.reads_on(key);
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is one message and whom it is for")]
    fn deliver_retained(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        key: ConnKey,
        room: usize,
        filter: &str,
        told: usize,
        found: &Found,
    ) {
        // Not subscribed any more.
        let Some(options) = self.rooms[room].options(key, filter) else { return };
        let left = found.expires.map(|at| at.0.saturating_sub(wall.0).div_ceil(1000));
        if left == Some(0) {
            return;
        }
        let Some((by, publish)) = decoded(&found.message) else { return self.drop_in(room, DropReason::Corrupt, 1) };
        let mut message = Message::new(publish.topic, &publish);
        message.expiry = left.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
        message.mark = self.next_mark(publish.qos);
        let ids: Vec<u32> = options.id.into_iter().collect();
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let told = active.reads.told.get(told..).unwrap_or_default();
        if told.contains(&hash_of(&message)) || options.no_local && by == Some(Publisher::of(&active.session.client)) {
            return;
        }
        match active.session.deliver(now, &mut conn.out, &mut message, options.qos, true, &ids) {
            Delivery::Written | Delivery::Queued => {
                self.stats.publishes_delivered += 1;
                self.rooms[room].counts.sent += 1;
            }
            Delivery::Dropped(why) => self.drop_in(room, DropReason::Subscriber(why), 1),
        }
    }
}

impl Active {
    /// A publish was delivered: if it is retained, what its subscriptions have yet to bring may have it too.
    pub(super) fn tell(&mut self, message: &Message<'_>) {
        let waits = message.retain
            && (!self.reads.next.is_empty() || self.subacks.iter().any(|pending| !pending.reads.is_empty()));
        if waits && self.reads.told.len() < TOLD {
            self.reads.told.push(hash_of(message));
        }
    }

    /// How much of what its subscriptions bring it was told already: what is asked for from now on comes again.
    pub(super) fn told(&self) -> usize {
        self.reads.told.len()
    }

    /// SUBACK is sent: the messages that are kept for the filters that it grants come next.
    pub(super) fn read_after(&mut self, pending: &PendingSuback) {
        for (slot, filter) in &pending.reads {
            if pending.reasons.get(*slot).is_some_and(|reason| !reason.is_error()) {
                // Subscribed again while it was read: from the start.
                self.reads.next.retain(|read| read.filter != *filter);
                self.reads.next.push_back(Read {
                    filter: filter.clone(),
                    after: None,
                    asked: false,
                    told: pending.told,
                });
            }
        }
    }
}

/// Whether a subscription gets what is kept (MQTT-3.3.1-9 to -11). A shared one never does (MQTT 5 §4.8.2).
fn wants_retained(wanted: &SubscribeFilter, known: bool, settings: &Settings) -> bool {
    let asked = match wanted.retain_handling {
        RetainHandling::Always => true,
        RetainHandling::IfNew => !known,
        RetainHandling::Never => false,
    };
    asked && settings.retain() && !wanted.filter.starts_with("$share/")
}

/// What a client's queue takes without loss.
fn page_bounds(settings: &Settings) -> Pages {
    let messages = PAGE_MESSAGES.min(settings.queue_messages / 2).max(1);
    let bytes = RETAINED_CHUNK_BYTES.min(settings.queue_bytes / 2).max(1);
    Pages { messages, bytes, steps: PAGE_STEPS }
}

fn decoded(message: &[u8]) -> Option<(Option<Publisher>, PublishRef<'_>)> {
    let (by, message) = Publisher::decode(message)?;
    let frame = split(message, MAX_PACKET).ok()??;
    Some((by, decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(message)).ok()?))
}

/// Reads of one connection.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The next one first; one for each filter at most.
    next: VecDeque<Read>,
    /// What was published with RETAIN and delivered before they were done: they bring it as well. Hashes, at most
    /// [`TOLD`]; what comes after that may come twice.
    told: Vec<u64>,
}

/// What is told from other publishes by its topic and payload.
fn hash_of(message: &Message<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (message.topic, message.payload).hash(&mut hasher);
    hasher.finish()
}
