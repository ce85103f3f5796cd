//! `$SYS`: what a broker's clients are told of the broker at this node, and of the cluster. Each broker is told its own
//! figures alone. Only brokers with a subscriber here cost anything: they are watched, and all workers report what they
//! have of those.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{BrokerId, NodeId, WorkerId};
use rookery_cluster::topics::matches;

use super::conn::{PendingSuback, Phase};
use super::room::{LocalMatch, Room};
use super::{ConnKey, Core, DropReason, get};
use crate::mqtt::codec::{PublishProperties, PublishRef, QoS};
use crate::mqtt::session::{Delivery, Message};

/// What filters begin with that are for these topics. (`#` and `+` do not match them.)
const PREFIX: &str = "$SYS/";
/// A broker is watched for this long after a worker asked for it last: some ticks.
const WATCHED_FOR: Duration = Duration::from_secs(2);
/// By then all workers have reported, if they stand still nowhere.
const REPORTED_WITHIN: Duration = Duration::from_millis(500);
/// Brokers without clients here whose counters are kept; more are forgotten.
const PAST: usize = 4096;

/// What is counted of a broker on one worker, from the node's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBLISH packets taken from clients.
    pub received: u64,
    /// PUBLISH packets written or queued for clients.
    pub sent: u64,
    /// Bytes of packets from clients, once they are admitted.
    pub bytes_received: u64,
    /// Bytes of packets that the clients' sockets took.
    pub bytes_sent: u64,
    /// Publishes not delivered, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// What a worker has of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Since the start.
    pub counts: Counts,
    /// Connections.
    pub connected: u64,
    /// Sessions that are kept here without one.
    pub kept: u64,
    /// Subscriptions of both.
    pub subscriptions: u64,
}

/// What a node knows besides its workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Since the node started to serve.
    pub uptime: Duration,
    /// Retained messages of the broker.
    pub retained: usize,
    /// This node.
    pub node: NodeId,
    /// Nodes whose lease is live.
    pub live: usize,
    /// All nodes.
    pub members: usize,
}

/// Where the workers of a node meet. Its calls are short and never wait for others' work.
pub trait Bulletin: Send + std::fmt::Debug {
    /// How often figures are published.
    fn interval(&self) -> Duration;
    /// How many workers report.
    fn workers(&self) -> usize;
    /// What the node knows besides.
    fn facts(&self, broker: BrokerId) -> Facts;
    /// Figures of the broker are wanted until then.
    fn watch(&mut self, broker: BrokerId, until: Moment);
    /// The brokers whose figures are wanted.
    fn watched(&mut self, now: Moment) -> Vec<BrokerId>;
    /// A worker's figures of a broker that is watched.
    fn report(&mut self, broker: BrokerId, worker: WorkerId, figures: Figures);
    /// What all workers together reported.
    fn figures(&self, broker: BrokerId) -> Figures;
}

/// What is watched, and what was reported of that.
#[derive(Debug, Default)]
pub struct Watched(BTreeMap<BrokerId, (Moment, BTreeMap<WorkerId, Figures>)>);

/// What the core keeps for it.
#[derive(Debug, Default)]
pub(super) struct System {
    bulletin: Option<Box<dyn Bulletin>>,
    /// Subscriptions that were granted and have not got the current figures yet. Bounded by subscriptions.
    fresh: BTreeSet<(ConnKey, Arc<str>)>,
    /// Counters of brokers that have no room here now.
    past: BTreeMap<BrokerId, Counts>,
}

/// When a room's subscribers get figures.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// From then on all workers have reported.
    ready: Moment,
    next: Moment,
}

impl Watched {
    /// See [`Bulletin::watch`].
    pub fn watch(&mut self, broker: BrokerId, until: Moment) {
        self.0.entry(broker).or_default().0 = until;
    }

    /// See [`Bulletin::watched`].
    pub fn watched(&mut self, now: Moment) -> Vec<BrokerId> {
        self.0.retain(|_, (until, _)| *until >= now);
        self.0.keys().copied().collect()
    }

    /// See [`Bulletin::report`].
    pub fn report(&mut self, broker: BrokerId, worker: WorkerId, figures: Figures) {
        if let Some((_, reports)) = self.0.get_mut(&broker) {
            reports.insert(worker, figures);
        }
    }

    /// See [`Bulletin::figures`].
    pub fn figures(&self, broker: BrokerId) -> Figures {
        let reports = self.0.get(&broker).into_iter().flat_map(|(_, reports)| reports.values());
        reports.fold(Figures::default(), Figures::and)
    }
}

impl Figures {
    fn and(mut self, other: &Self) -> Self {
        let (counts, more) = (&mut self.counts, &other.counts);
        counts.received += more.received;
        counts.sent += more.sent;
        counts.bytes_received += more.bytes_received;
        counts.bytes_sent += more.bytes_sent;
        for (reason, n) in &more.dropped {
            *counts.dropped.entry(*reason).or_default() += n;
        }
        self.connected += other.connected;
        self.kept += other.kept;
        self.subscriptions += other.subscriptions;
        self
    }
}

impl Counts {
    /// Counts publishes that were not delivered.
    pub(super) fn drop(&mut self, reason: DropReason, n: u64) {
        if n > 0 {
            *self.dropped.entry(reason).or_default() += n;
        }
    }
}

impl Core {
    /// Publishes figures from now on. To be called before the first connection.
    pub fn publish_figures(&mut self, bulletin: Box<dyn Bulletin>) {
        self.system.bulletin = Some(bulletin);
    }

    /// Counts publishes of a room's broker that were not delivered.
    pub(super) fn drop_in(&mut self, room: usize, reason: DropReason, n: u64) {
        self.stats.drop(reason, n);
        self.rooms[room].counts.drop(reason, n);
    }

    /// A room was made: its broker's counters go on.
    pub(super) fn resume_counts(&mut self, broker: BrokerId) -> Counts {
        self.system.past.remove(&broker).unwrap_or_default()
    }

    /// A room is gone.
    pub(super) fn keep_counts(&mut self, broker: BrokerId, counts: Counts) {
        if counts == Counts::default() {
            return;
        }
        if self.system.past.len() >= PAST {
            self.system.past.pop_first();
        }
        self.system.past.insert(broker, counts);
    }

    /// SUBACK was sent: the current figures come next, as retained messages do.
    pub(super) fn greet_with_figures(&mut self, key: ConnKey, pending: &PendingSuback) {
        let now = self.clock;
        let granted = |slot: &usize| pending.reasons.get(*slot).is_some_and(|reason| !reason.is_error());
        let filters = pending.reads.iter().filter(|(slot, filter)| granted(slot) && filter.starts_with(PREFIX));
        let fresh: Vec<_> = filters.map(|(_, filter)| (key, filter.clone())).collect();
        let Some(room) = get(&mut self.conns, key).and_then(|conn| conn.room()) else { return };
        if fresh.is_empty() {
            return;
        }
        let Some(mut bulletin) = self.system.bulletin.take() else { return };
        let room = &mut self.rooms[room];
        let (broker, wait) = (room.id, if bulletin.workers() > 1 { REPORTED_WITHIN } else { Duration::ZERO });
        room.schedule.get_or_insert(Schedule { ready: now + wait, next: now + bulletin.interval() });
        bulletin.watch(broker, now + WATCHED_FOR);
        bulletin.report(broker, self.worker, self.figures(broker));
        self.system.fresh.extend(fresh);
        self.publish_to_fresh(now, bulletin.as_ref());
        self.system.bulletin = Some(bulletin);
    }

    /// Time passed: reports what is watched, and publishes what is due.
    pub(super) fn tick_system(&mut self, now: Moment) {
        let Some(mut bulletin) = self.system.bulletin.take() else { return };
        for broker in bulletin.watched(now) {
            bulletin.report(broker, self.worker, self.figures(broker));
        }
        let mut due = Vec::new();
        for (index, room) in &mut self.rooms {
            if !room.wants_figures() {
                room.schedule = None;
                continue;
            }
            let every = bulletin.interval();
            let schedule = room.schedule.get_or_insert(Schedule { ready: now, next: now + every });
            bulletin.watch(room.id, now + WATCHED_FOR);
            if now >= schedule.next {
                schedule.next = now + every;
                due.push(index);
            }
        }
        for room in due {
            self.publish_to_all(now, room, bulletin.as_ref());
        }
        self.publish_to_fresh(now, bulletin.as_ref());
        self.system.bulletin = Some(bulletin);
    }

    fn figures(&self, broker: BrokerId) -> Figures {
        let Some(room) = self.room_of.get(&broker).and_then(|&room| self.rooms.get(room)) else {
            let counts = self.system.past.get(&broker).cloned().unwrap_or_default();
            return Figures { counts, ..Figures::default() };
        };
        let (counts, connected, kept) = (room.counts.clone(), room.conns.into(), room.parked.into());
        Figures { counts, connected, kept, subscriptions: room.subscriptions() }
    }

    fn publish_to_all(&mut self, now: Moment, room: usize, bulletin: &dyn Bulletin) {
        for (topic, value) in values(self.rooms[room].id, bulletin) {
            let found = self.rooms[room].matches(&topic);
            for matched in &found.locals {
                self.publish_figure(now, matched, &topic, &value, matched.retain_as_published);
            }
        }
    }

    fn publish_to_fresh(&mut self, now: Moment, bulletin: &dyn Bulletin) {
        let mut waiting = BTreeSet::new();
        for (key, filter) in std::mem::take(&mut self.system.fresh) {
            let Some(room) = get(&mut self.conns, key).and_then(|conn| conn.room()) else { continue };
            let room = &self.rooms[room];
            // Not subscribed any more.
            let Some(options) = room.options(key, &filter) else { continue };
            if room.schedule.is_some_and(|schedule| now < schedule.ready) {
                waiting.insert((key, filter));
                continue;
            }
            let (qos, ids) = (options.qos, options.id.into_iter().collect());
            let matched = LocalMatch { conn: key, qos, no_local: false, retain_as_published: true, ids };
            for (topic, value) in values(room.id, bulletin) {
                if matches(&filter, &topic) {
                    self.publish_figure(now, &matched, &topic, &value, true);
                }
            }
        }
        self.system.fresh = waiting;
    }

    /// To a client that is connected: others miss nothing that is still true when they come back.
    fn publish_figure(&mut self, now: Moment, to: &LocalMatch, topic: &str, value: &str, retain: bool) {
        let Some(conn) = get(&mut self.conns, to.conn) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let publish = PublishRef {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload: value.as_bytes(),
        };
        let mut message = Message::new(topic, &publish);
        let room = active.room;
        match active.session.deliver(now, &mut conn.out, &mut message, to.qos, retain, &to.ids) {
            Delivery::Written | Delivery::Queued => {
                self.stats.publishes_delivered += 1;
                self.rooms[room].counts.sent += 1;
            }
            Delivery::Dropped(why) => self.drop_in(room, DropReason::Subscriber(why), 1),
        }
        self.mark_dirty(to.conn);
    }
}

impl Room {
    /// Whether a client here subscribes to figures. In a shared subscription nobody gets any.
    fn wants_figures(&self) -> bool {
        self.holds_below(PREFIX)
    }
}

/// All topics, with what they say now.
fn values(broker: BrokerId, bulletin: &dyn Bulletin) -> Vec<(String, String)> {
    let (facts, figures) = (bulletin.facts(broker), bulletin.figures(broker));
    let Figures { counts, connected, kept, subscriptions } = figures;
    let own = [
        ("version", concat!("rookery version ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("uptime", format!("{} seconds", facts.uptime.as_secs())),
        ("clients/connected", connected.to_string()),
        ("clients/disconnected", kept.to_string()),
        ("clients/total", (connected + kept).to_string()),
        ("subscriptions/count", subscriptions.to_string()),
        ("retained messages/count", facts.retained.to_string()),
        ("messages/received", counts.received.to_string()),
        ("messages/sent", counts.sent.to_string()),
        ("bytes/received", counts.bytes_received.to_string()),
        ("bytes/sent", counts.bytes_sent.to_string()),
        ("publish/messages/dropped", counts.dropped.values().sum::<u64>().to_string()),
    ];
    let cluster = [
        ("node", facts.node.0.to_string()),
        ("nodes/live", facts.live.to_string()),
        ("nodes/total", facts.members.to_string()),
    ];
    let named = |below: &str, name: &str| format!("{PREFIX}{below}/{name}");
    let mut all: Vec<_> = own.into_iter().map(|(name, value)| (named("broker", name), value)).collect();
    for (reason, n) in counts.dropped {
        all.push((named("broker/publish/messages/dropped", reason.label()), n.to_string()));
    }
    all.extend(cluster.into_iter().map(|(name, value)| (named("cluster", name), value)));
    all
}
