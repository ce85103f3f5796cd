//! A message on its way to one client: QoS 0 straight into the outbound buffer, QoS 1 and 2 through the client's
//! receive window (MQTT 5 §3.1.2.11.3, §4.9) and a bounded queue behind it.

use rookery_cluster::clock::Moment;

use super::message::Kept;
use super::{Ending, Message, Outbound, Session};
use crate::mqtt::codec::{PacketId, PublishHead, QoS, ReasonCode, publish_len};

/// More than what a PUBLISH has besides topic, properties that are passed on, identifiers and payload, bytes: its fixed
/// header (5), two lengths (2 and 4), a packet identifier (2), an expiry (5) and a topic alias (3).
pub(super) const PUBLISH_OVERHEAD: usize = 24;

/// Why a message was not delivered. Each is a counter's label (P12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// The packet would exceed the client's Maximum Packet Size (MQTT-3.1.2-25).
    TooLarge,
    /// The client does not read: its bytes waiting are at the bound.
    SlowSubscriber,
    /// The client does not acknowledge: its queue is full.
    QueueFull,
    /// Its Message Expiry Interval passed in the queue (MQTT-3.3.2-5).
    Expired,
    /// QoS 0 for a session that has no connection.
    Offline,
}

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the outbound buffer.
    Written,
    /// In the queue behind the client's window.
    Queued,
    /// Neither; count it.
    Dropped(Dropped),
}

/// Whether a client could get a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// It would be written.
    Now,
    /// It would be queued behind others.
    Queue,
    /// It would be dropped.
    None,
}

impl Session {
    /// Delivers `message` at QoS `granted` at most, with the identifiers of the matching subscriptions.
    pub fn deliver(
        &mut self,
        now: Moment,
        out: &mut Outbound,
        message: &mut Message<'_>,
        granted: QoS,
        retain: bool,
        ids: &[u32],
    ) -> Delivery {
        let qos = message.qos.min(granted);
        let rough = message.size() + 5 * ids.len() + PUBLISH_OVERHEAD;
        let tight = rough > self.window.max_packet;
        if tight && self.too_large(message, &head(message, qos, retain, ids)) {
            return Delivery::Dropped(Dropped::TooLarge);
        }
        if qos == QoS::AtMostOnce {
            if out.len() >= self.window.outbound_bytes {
                return Delivery::Dropped(Dropped::SlowSubscriber);
            }
            let head = message.head(qos, retain, None, ids);
            return self.write(out, message, head, tight);
        }
        if self.window.idle() && self.window.open(out) {
            let keep = self.window.keeps || message.share.is_some();
            let kept = keep.then(|| Box::new(message.keep(now, qos, retain, ids)));
            let head = message.head(qos, retain, Some(self.window.begin(qos, kept)), ids);
            return self.write(out, message, head, tight);
        }
        self.enqueue(now, message, qos, retain, ids)
    }

    pub(super) fn enqueue(
        &mut self,
        now: Moment,
        message: &mut Message<'_>,
        qos: QoS,
        retain: bool,
        ids: &[u32],
    ) -> Delivery {
        if !self.window.has_room(message.size()) {
            return Delivery::Dropped(Dropped::QueueFull);
        }
        self.window.queued_bytes += message.size();
        self.window.queue.push_back(message.keep(now, qos, retain, ids));
        Delivery::Queued
    }

    /// Whether a message of `qos` and this size could be delivered now.
    pub fn capacity(&self, out: &Outbound, qos: QoS, bytes: usize) -> Capacity {
        let window = &self.window;
        match qos {
            QoS::AtMostOnce if out.len() < window.outbound_bytes => Capacity::Now,
            QoS::AtMostOnce => Capacity::None,
            _ if window.idle() && window.open(out) => Capacity::Now,
            _ if window.has_room(bytes) => Capacity::Queue,
            _ => Capacity::None,
        }
    }

    /// As [`Session::capacity`], for a session without a connection.
    pub fn capacity_parked(&self, qos: QoS, bytes: usize) -> Capacity {
        let kept = qos != QoS::AtMostOnce && self.window.has_room(bytes);
        if kept { Capacity::Queue } else { Capacity::None }
    }

    /// Writes a PUBLISH, by a topic alias where the client takes them and there is room for it.
    fn write(&mut self, out: &mut Outbound, message: &mut Message<'_>, head: PublishHead<'_>, tight: bool) -> Delivery {
        let head = if tight { head } else { self.aliases_out.shorten(head) };
        if message.write(out, self.version, &head) { Delivery::Written } else { Delivery::Dropped(Dropped::TooLarge) }
    }

    /// Whether the packet exceeds what the client takes.
    fn too_large(&self, message: &Message<'_>, head: &PublishHead<'_>) -> bool {
        let size = publish_len(self.version, head, message.properties, message.payload.len());
        size.is_ok_and(|size| size > self.window.max_packet)
    }

    /// Sends again what went over an earlier connection (MQTT-4.4.0-1), then from the queue, as the window has room. Also
    /// to be called when the socket took bytes. Returns how many messages had expired instead (MQTT-3.3.2-5).
    ///
    /// # Errors
    /// When a message that waited cannot be encoded any more.
    pub fn pump(&mut self, now: Moment, out: &mut Outbound) -> Result<u64, Ending> {
        self.send_again(now, out)?;
        let mut expired = 0;
        while self.window.idle_but_for_queue() && self.window.open(out) {
            let Some(kept) = self.window.queue.pop_front() else { break };
            self.window.queued_bytes -= kept.message.size();
            let Ok(left) = kept.expiry_left(now) else {
                expired += 1;
                continue;
            };
            let kept = Box::new(kept);
            if self.outgrown(&kept) {
                continue;
            }
            let id = self.window.begin(kept.qos, None);
            self.write_kept(out, &kept, id, left, false)?;
            if (self.window.keeps || kept.share.is_some())
                && let Some(entry) = self.window.inflight.back_mut()
            {
                entry.kept = Some(kept);
            }
        }
        Ok(expired)
    }

    fn send_again(&mut self, now: Moment, out: &mut Outbound) -> Result<(), Ending> {
        while self.window.sent < self.window.inflight.len() && self.window.open(out) {
            let at = self.window.sent;
            let entry = &mut self.window.inflight[at];
            let id = entry.id;
            let Some(kept) = entry.kept.take() else {
                self.window.skip();
                continue;
            };
            if self.outgrown(&kept) {
                self.window.skip();
                continue;
            }
            // Its delivery has begun, so it is not dropped any more: the client may have it already.
            let left = kept.expiry_left(now).unwrap_or(Some(1));
            self.write_kept(out, &kept, id, left, true)?;
            self.window.inflight[at].kept = Some(kept);
            self.window.sent += 1;
        }
        Ok(())
    }

    /// Whether the client of the present connection does not take so large a packet: dropped as if it had been
    /// delivered (MQTT-3.1.2-25).
    fn outgrown(&self, kept: &Kept) -> bool {
        let rough = kept.message.size() + 5 * kept.ids.len() + PUBLISH_OVERHEAD;
        let message = Message::of_kept(kept, kept.message.expiry);
        rough > self.window.max_packet && self.too_large(&message, &head(&message, kept.qos, kept.retain, &kept.ids))
    }

    fn write_kept(
        &mut self,
        out: &mut Outbound,
        kept: &Kept,
        id: PacketId,
        left: Option<u32>,
        dup: bool,
    ) -> Result<(), Ending> {
        let mut message = Message::of_kept(kept, left);
        let head = PublishHead { dup, ..message.head(kept.qos, kept.retain, Some(id), &kept.ids) };
        match self.write(out, &mut message, head, self.window.max_packet != usize::MAX) {
            Delivery::Dropped(_) => {
                Err(Ending::with(ReasonCode::UNSPECIFIED_ERROR, "a queued message could not be encoded"))
            }
            _ => Ok(()),
        }
    }

    /// A further connection of the session begins: PUBRELs that were not answered go first, then what was not
    /// acknowledged, with DUP, in the order in which it was first sent (MQTT-4.4.0-1, MQTT-4.6.0-1).
    ///
    /// # Errors
    /// As [`Session::pump`].
    pub fn resume(&mut self, now: Moment, out: &mut Outbound) -> Result<u64, Ending> {
        for at in 0..self.window.releasing.len() {
            self.write_pubrel(out, self.window.releasing[at], ReasonCode::SUCCESS);
        }
        self.pump(now, out)
    }

    /// Bytes that wait in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.window.queued_bytes
    }
}

fn head<'h>(message: &Message<'h>, qos: QoS, retain: bool, ids: &'h [u32]) -> PublishHead<'h> {
    message.head(qos, retain, (qos != QoS::AtMostOnce).then_some(PacketId::MIN), ids)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use bytes::BytesMut;

    use super::*;
    use crate::mqtt::codec::{Ack, Connect, Packet, Publish, Sender, Version, decode, decode_publish, encode, split};
    use crate::mqtt::session::Settings;

    fn session(change: impl FnOnce(&mut Connect, &mut Settings)) -> Session {
        let (mut connect, mut settings) = (Connect::new(Version::V5, "c"), Settings::default());
        settings.send_maximum = 1;
        change(&mut connect, &mut settings);
        Session::new("c".into(), &connect, &settings, Moment::default())
    }

    fn publish(change: impl FnOnce(&mut Publish)) -> BytesMut {
        let mut publish = Publish { topic: "t".into(), qos: QoS::AtLeastOnce, ..Publish::default() };
        publish.packet_id = Some(PacketId::MIN);
        change(&mut publish);
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut bytes).expect("encodes");
        bytes
    }

    fn deliver(s: &mut Session, out: &mut Outbound, bytes: &[u8]) -> Delivery {
        let frame = split(bytes, usize::MAX).expect("a frame").expect("whole");
        let publish =
            decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(bytes)).expect("decodes");
        let mut message = Message::new(publish.topic, &publish);
        s.deliver(Moment::default(), out, &mut message, QoS::AtLeastOnce, false, &[])
    }

    fn sent(out: &mut Outbound) -> Vec<Publish> {
        let bytes = out.take();
        let mut rest = &bytes[..];
        let mut all = Vec::new();
        while let Some(frame) = split(rest, usize::MAX).expect("well formed") {
            match decode(Some(Version::V5), Sender::Server, frame.first_byte, frame.body(rest)).expect("decodes") {
                Packet::Publish(publish) => all.push(*publish),
                other => panic!("{other:?}"),
            }
            rest = &rest[frame.total..];
        }
        all
    }

    #[test]
    fn properties_count_for_the_queue() {
        let mut s = session(|_, settings| settings.queue_bytes = 5000);
        let mut out = Outbound::default();
        let large = publish(|p| p.properties.user_properties = vec![("k".into(), "v".repeat(4000))]);
        assert_eq!(deliver(&mut s, &mut out, &large), Delivery::Written);
        assert_eq!(deliver(&mut s, &mut out, &large), Delivery::Queued);
        assert_eq!(deliver(&mut s, &mut out, &large), Delivery::Dropped(Dropped::QueueFull));
    }

    #[test]
    fn time_in_the_queue_counts_for_the_expiry() {
        let mut s = session(|_, _| {});
        let mut out = Outbound::default();
        for expiry in [100, 5, 30] {
            deliver(&mut s, &mut out, &publish(|p| p.properties.message_expiry = Some(expiry)));
        }
        let first = sent(&mut out)[0].packet_id.expect("qos 1");
        let later = Moment(Duration::from_secs(10));
        assert_eq!(s.on_puback(later, &mut out, first).expect("goes on"), 1);
        let rest: Vec<Option<u32>> = sent(&mut out).into_iter().map(|p| p.properties.message_expiry).collect();
        assert_eq!(rest, [Some(20)]);
        assert_eq!(s.queued_bytes(), 0);
    }

    #[test]
    fn the_largest_packet_that_the_client_takes_is_sent() {
        let bytes = publish(|p| p.payload = "x".repeat(50).into());
        for (most, outcome) in
            [(bytes.len(), Delivery::Written), (bytes.len() - 1, Delivery::Dropped(Dropped::TooLarge))]
        {
            let mut s = session(|c, _| c.properties.maximum_packet_size = NonZeroU32::new(most as u32));
            assert_eq!(deliver(&mut s, &mut Outbound::default(), &bytes), outcome);
        }
    }

    /// Everything that was sent: identifier, DUP and payload of a PUBLISH, or the identifier of a PUBREL.
    fn sent_any(out: &mut Outbound) -> Vec<(u16, bool, String)> {
        let bytes = out.take();
        let mut rest = &bytes[..];
        let mut all = Vec::new();
        while let Some(frame) = split(rest, usize::MAX).expect("well formed") {
            let packet = decode(Some(Version::V5), Sender::Server, frame.first_byte, frame.body(rest));
            all.push(match packet.expect("decodes") {
                Packet::Publish(p) => {
                    let payload = String::from_utf8(p.payload.to_vec()).expect("text");
                    (p.packet_id.map_or(0, |id| id.get()), p.dup, payload)
                }
                Packet::Pubrel(ack) => (ack.packet_id.get(), false, format!("pubrel {}", ack.reason.value())),
                other => panic!("{other:?}"),
            });
            rest = &rest[frame.total..];
        }
        all
    }

    fn numbered(n: u32) -> BytesMut {
        publish(|p| {
            p.payload = n.to_string().into();
            p.qos = if n.is_multiple_of(2) { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        })
    }

    fn deliver_twice(s: &mut Session, out: &mut Outbound, bytes: &[u8]) -> Delivery {
        let frame = split(bytes, usize::MAX).expect("a frame").expect("whole");
        let publish =
            decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(bytes)).expect("decodes");
        let mut message = Message::new(publish.topic, &publish);
        s.deliver(Moment::default(), out, &mut message, QoS::ExactlyOnce, false, &[])
    }

    #[test]
    fn a_handshake_at_qos_2_occupies_the_window_until_pubcomp() {
        let mut s = session(|_, _| {});
        let (mut out, now) = (Outbound::default(), Moment::default());
        assert_eq!(deliver_twice(&mut s, &mut out, &numbered(2)), Delivery::Written);
        assert_eq!(deliver_twice(&mut s, &mut out, &numbered(4)), Delivery::Queued);
        assert_eq!(sent_any(&mut out), [(1, false, "2".into())]);
        let ack = |id| Ack::new(PacketId::new(id).expect("not zero"), ReasonCode::SUCCESS);
        assert_eq!(s.on_puback(now, &mut out, ack(1).packet_id).expect_err("wrong").reason, ReasonCode::PROTOCOL_ERROR);
        let mut s = session(|_, _| {});
        deliver_twice(&mut s, &mut out, &numbered(2));
        deliver_twice(&mut s, &mut out, &numbered(4));
        sent_any(&mut out);
        assert!(s.on_pubcomp(now, &mut out, ack(1).packet_id).is_err(), "before pubrec");
        for _ in 0..2 {
            assert_eq!(s.on_pubrec(now, &mut out, &ack(1)), Ok(0));
            assert_eq!(sent_any(&mut out), [(1, false, "pubrel 0".into())], "also when it is asked for again");
        }
        assert_eq!(s.on_pubrec(now, &mut out, &ack(9)), Ok(0));
        assert_eq!(sent_any(&mut out), [(9, false, "pubrel 146".into())]);
        assert_eq!(s.on_pubcomp(now, &mut out, ack(1).packet_id), Ok(0));
        assert_eq!(sent_any(&mut out), [(2, false, "4".into())]);
        let refused = Ack { reason: ReasonCode::QUOTA_EXCEEDED, ..ack(2) };
        assert_eq!(s.on_pubrec(now, &mut out, &refused), Ok(0));
        assert!(out.is_empty(), "a refused message is not released");
        assert_eq!(deliver_twice(&mut s, &mut out, &numbered(6)), Delivery::Written);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_in_its_order_before_what_waits() {
        let mut s = session(|_, settings| settings.send_maximum = 4);
        s.window.keeps = true;
        let (mut out, now) = (Outbound::default(), Moment::default());
        for n in 1..=6 {
            deliver_twice(&mut s, &mut out, &numbered(n));
        }
        assert_eq!(sent_any(&mut out).len(), 4);
        let ack = |id| Ack::new(PacketId::new(id).expect("not zero"), ReasonCode::SUCCESS);
        s.on_pubrec(now, &mut out, &ack(2)).expect("goes on");
        sent_any(&mut out);
        // A further connection, with room for two.
        let mut connect = Connect::new(Version::V5, "c");
        connect.properties.receive_maximum = std::num::NonZeroU16::new(2);
        s.window.reconnect(&connect, &Settings::default());
        s.resume(now, &mut out).expect("goes on");
        assert_eq!(sent_any(&mut out), [(2, false, "pubrel 0".into()), (1, true, "1".into())]);
        s.on_pubcomp(now, &mut out, ack(2).packet_id).expect("goes on");
        s.on_puback(now, &mut out, ack(1).packet_id).expect("goes on");
        assert_eq!(sent_any(&mut out), [(3, true, "3".into()), (4, true, "4".into())]);
        s.on_pubrec(now, &mut out, &ack(4)).expect("goes on");
        s.on_puback(now, &mut out, ack(3).packet_id).expect("goes on");
        assert_eq!(sent_any(&mut out), [(4, false, "pubrel 0".into()), (5, false, "5".into())]);
        assert_eq!(s.queued_bytes(), 2, "topic and payload of the sixth");
    }

    #[test]
    fn topic_aliases_are_used_where_the_client_takes_them() {
        let mut s = session(|connect, _| connect.properties.topic_alias_maximum = Some(1));
        let mut out = Outbound::default();
        let bytes = publish(|p| (p.qos, p.packet_id) = (QoS::AtMostOnce, None));
        deliver(&mut s, &mut out, &bytes);
        deliver(&mut s, &mut out, &bytes);
        let heads: Vec<_> = sent(&mut out).into_iter().map(|p| (p.topic, p.topic_alias)).collect();
        assert_eq!(heads, [("t".into(), Some(1)), (String::new(), Some(1))]);
    }
}
