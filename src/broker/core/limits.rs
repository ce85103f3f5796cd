//! A broker's limits where they meet a connection: rates, rights, and what a node has only so many of.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery_cluster::clock::Moment;
use rookery_cluster::topics::validate_filter;

use super::conn::{Active, Phase};
use super::connect::Fault;
use super::quota::{Quota, Share};
use super::{Admitted, ConnKey, Core, DropReason, Effect, get};
use crate::mqtt::codec::{PacketId, PublishRef, QoS, ReasonCode, Subscribe, SubscribeFilter, Version};
use crate::mqtt::session::{Ending, Rates, allow};

/// What is counted of one connection.
#[derive(Debug, Default)]
pub(super) struct Meter {
    rates: Rates,
    /// It has sent more bytes than its rate allows, and is not read from until that is made up for.
    pub waits: bool,
    /// Its filters that count among their subscribers: those subscribed to while that was limited.
    counted: BTreeSet<Arc<str>>,
}

impl Meter {
    /// What goes on with a session's next connection.
    pub fn afresh(self) -> Self {
        Self { counted: self.counted, ..Self::default() }
    }
}

impl Active {
    /// Whether its packets or bytes are counted.
    pub fn is_metered(&self) -> bool {
        self.admitted.settings.packets_per_second | self.admitted.settings.bytes_per_second != 0
    }

    /// Whether the client may publish to this valid topic name.
    pub fn may_publish(&self, topic: &str) -> Result<(), Ending> {
        allow::topic(topic, &self.admitted.settings, &self.admitted.acl)
    }

    /// Whether the client may publish one more message now; counts it, if so.
    pub fn may_publish_now(&mut self, now: Moment) -> Result<(), Ending> {
        let most = self.admitted.settings.publishes_per_second;
        if most == 0 || self.meter.rates.publishes.take(now, most) {
            return Ok(());
        }
        Err(Ending::with(ReasonCode::QUOTA_EXCEEDED, "more messages per second than allowed"))
    }

    /// Whether the client may ask for what is in this SUBSCRIBE; if not, its connection ends.
    pub fn may_ask(&self, subscribe: &Subscribe) -> Result<(), Ending> {
        allow::subscribe(subscribe, &self.admitted.settings)
    }

    /// Whether the client may hold this subscription; if not, what SUBACK says.
    pub fn may_subscribe(&self, wanted: &SubscribeFilter) -> Result<(), ReasonCode> {
        let parsed = validate_filter(&wanted.filter).map_err(|_| ReasonCode::TOPIC_FILTER_INVALID)?;
        allow::filter(&wanted.filter, &parsed, &self.admitted.settings, &self.admitted.acl)
    }
}

impl Core {
    /// Tells the client that its PUBLISH was refused before anything of it was done: by its acknowledgement where that
    /// can say so, else by the end of the connection (R9). Too many messages of QoS 0 are dropped and counted instead:
    /// the next ones may pass.
    pub(super) fn refuse_publish(
        &mut self,
        now: Moment,
        key: ConnKey,
        publish: &PublishRef<'_>,
        why: Ending,
    ) -> Result<(), Fault> {
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(()) };
        if publish.qos == QoS::AtMostOnce && why.reason == ReasonCode::QUOTA_EXCEEDED {
            let room = active.room;
            self.drop_in(room, DropReason::PublishRate, 1);
            return Ok(());
        }
        let Some(packet_id) = publish.packet_id.filter(|_| active.session.version == Version::V5) else {
            return Err(why.into());
        };
        *self.stats.publishes_refused.entry(why.reason.value()).or_default() += 1;
        active.session.acks.push(packet_id, publish.qos, why.reason, 0, now);
        self.send_due_acks(key);
        Ok(())
    }

    /// A packet of `bytes` bytes came: counts it.
    ///
    /// # Errors
    /// 0x96: more packets per second than the broker allows.
    pub(super) fn meter(&mut self, now: Moment, key: ConnKey, bytes: usize) -> Result<(), Ending> {
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        let Phase::Active(active) = &mut conn.phase else { return Ok(()) };
        let (settings, meter) = (&active.admitted.settings, &mut active.meter);
        let (packets, rate) = (settings.packets_per_second, settings.bytes_per_second);
        if packets != 0 && !meter.rates.packets.take(now, packets) {
            return Err(Ending::with(ReasonCode::MESSAGE_RATE_TOO_HIGH, "more packets per second than allowed"));
        }
        if rate != 0 {
            meter.rates.bytes.owe(now, rate, bytes as u64);
            let waited = std::mem::replace(&mut meter.waits, meter.rates.bytes.in_debt(now));
            if meter.waits && !waited {
                self.paced.push(key);
            }
        }
        Ok(())
    }

    /// The packet was put off: it is counted when it comes again.
    pub(super) fn unmeter(&mut self, now: Moment, key: ConnKey, bytes: usize) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let (settings, meter) = (&active.admitted.settings, &mut active.meter);
        if settings.packets_per_second != 0 {
            meter.rates.packets.put_back(settings.packets_per_second, 1);
        }
        if settings.bytes_per_second != 0 {
            meter.rates.bytes.put_back(settings.bytes_per_second, bytes as u64);
            meter.waits &= meter.rates.bytes.in_debt(now);
        }
    }

    /// Reads on where the bytes read too fast are made up for.
    pub(super) fn resume_paced(&mut self, now: Moment) {
        let mut still = Vec::new();
        for key in std::mem::take(&mut self.paced) {
            let Some(conn) = get(&mut self.conns, key) else { continue };
            let Phase::Active(active) = &mut conn.phase else { continue };
            // A rate that was taken away since ends the wait.
            active.meter.waits =
                active.admitted.settings.bytes_per_second != 0 && active.meter.rates.bytes.in_debt(now);
            if active.meter.waits {
                still.push(key);
            } else {
                self.resumable.push(key);
            }
        }
        self.paced = still;
    }

    /// The connection no longer has the filter.
    pub(super) fn uncount_subscriber(&mut self, key: ConnKey, filter: &str) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        if let Some(filter) = active.meter.counted.take(filter) {
            self.quota.give(&Share::Subscriber(active.admitted.broker, filter));
        }
    }

    /// A session that is kept goes with its filters: none of them is counted any more.
    pub(super) fn uncount_all(&mut self, active: &Active) {
        for filter in &active.meter.counted {
            self.quota.give(&Share::Subscriber(active.admitted.broker, filter.clone()));
        }
    }

    /// Counts a subscription that came with a session from elsewhere: it was granted, so it is not refused here.
    pub(super) fn count_moved(&mut self, key: ConnKey, filter: &Arc<str>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        let active = &mut importing.active;
        if active.admitted.settings.subscribers_per_filter != 0 && active.meter.counted.insert(filter.clone()) {
            self.quota.take(Share::Subscriber(active.admitted.broker, filter.clone()), 0);
        }
    }

    /// The connection is over: its place is another's.
    pub(super) fn leave_place(&mut self, active: &Active) {
        self.quota.give(&Share::Connection(active.admitted.broker));
    }

    /// A session goes on under another token: it loses the subscriptions that this one does not allow.
    pub(super) fn drop_forbidden(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Active(active) = &mut conn.phase else { return };
        let acl = &active.admitted.acl;
        let allowed = |filter: &str| validate_filter(filter).is_ok_and(|parsed| acl.may_subscribe(&parsed));
        let forbidden: Vec<Arc<str>> = active.filters.iter().filter(|filter| !allowed(filter)).cloned().collect();
        for filter in &forbidden {
            self.unsubscribe_one(key, filter, out);
        }
        // No packet waits for it, so any identifier will do.
        self.persist(key, PacketId::MIN, forbidden, out);
    }
}

/// Takes a place among the broker's connections; given back by `Core::leave_place`.
///
/// # Errors
/// 0x97: the node has as many as the broker allows.
pub(super) fn take_place(quota: &mut dyn Quota, admitted: &Admitted) -> Result<(), Ending> {
    if quota.take(Share::Connection(admitted.broker), admitted.settings.connections) {
        return Ok(());
    }
    Err(Ending::with(ReasonCode::QUOTA_EXCEEDED, "the broker has as many connections on this node as it allows"))
}

/// Counts the connection among the subscribers of a filter that it is about to have, if they are limited.
///
/// # Errors
/// 0x97: the filter has as many on this node as the broker allows.
pub(super) fn count_subscriber(quota: &mut dyn Quota, active: &mut Active, filter: &str) -> Result<(), ReasonCode> {
    let most = active.admitted.settings.subscribers_per_filter;
    if most == 0 {
        return Ok(());
    }
    let filter: Arc<str> = filter.into();
    if !quota.take(Share::Subscriber(active.admitted.broker, filter.clone()), most) {
        return Err(ReasonCode::QUOTA_EXCEEDED);
    }
    active.meter.counted.insert(filter);
    Ok(())
}
