//! A message on its way to one client: QoS 0 straight into the outbound buffer, QoS 1 through the client's
//! receive window (MQTT 5 §3.1.2.11.3, §4.9) and a bounded queue behind it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rookery_cluster::clock::Moment;

use super::{Ending, Outbound, SHARE_FROM, Session, Settings};
use crate::mqtt::codec::{
    Connect, EncodeError, Forwardable, PacketId, PublishHead, PublishRef, QoS, ReasonCode, Version, encode_publish,
    encode_publish_header, publish_len,
};

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

/// A message to be delivered to any number of clients: encoded once per version where that can be shared.
#[derive(Debug)]
pub struct Message<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// QoS at which it was published.
    pub qos: QoS,
    /// RETAIN, for subscribers that asked for it as published.
    pub retain: bool,
    /// Message Expiry Interval, seconds.
    pub expiry: Option<u32>,
    /// What is passed on unchanged.
    pub properties: Forwardable<'a>,
    /// Application message.
    pub payload: &'a [u8],
    /// QoS 0 packets by version, as soon as a second client of that version needs one.
    encoded: [Encoded; 2],
    shared: Option<Bytes>,
    stored: Option<Arc<Stored>>,
}

#[derive(Debug, Default)]
enum Encoded {
    #[default]
    Never,
    Once,
    Kept(BytesMut),
}

/// A message that waits in queues, stored once however many they are.
#[derive(Debug)]
struct Stored {
    topic: Box<str>,
    retain: bool,
    expiry: Option<u32>,
    properties: Bytes,
    payload: Bytes,
}

impl Stored {
    /// What it counts for in each queue, bytes.
    fn size(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }
}

#[derive(Debug)]
struct Queued {
    message: Arc<Stored>,
    since: Moment,
    ids: Box<[u32]>,
    retain: bool,
}

impl<'a> Message<'a> {
    /// A message with nothing encoded yet.
    pub fn new(topic: &'a str, publish: &PublishRef<'a>) -> Self {
        Self {
            topic,
            qos: publish.qos,
            retain: publish.retain,
            expiry: publish.properties.message_expiry,
            properties: publish.properties.forwardable,
            payload: publish.payload,
            encoded: Default::default(),
            shared: None,
            stored: None,
        }
    }

    /// The publish as it travels between workers and nodes: an MQTT 5 PUBLISH, so that there is one format to
    /// check. Its packet identifier means nothing.
    pub fn encode_transfer(&self, to: &mut BytesMut) -> Result<usize, EncodeError> {
        let id = (self.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        encode_publish(to, Version::V5, &self.head(self.qos, self.retain, id, &[]), self.properties, self.payload)
    }

    fn head<'h>(&self, qos: QoS, retain: bool, packet_id: Option<PacketId>, ids: &'h [u32]) -> PublishHead<'h>
    where
        'a: 'h,
    {
        PublishHead {
            dup: false,
            qos,
            retain,
            topic: self.topic,
            packet_id,
            topic_alias: None,
            subscription_ids: ids,
            message_expiry: self.expiry,
        }
    }

    fn shared_payload(&mut self) -> Bytes {
        self.shared.get_or_insert_with(|| Bytes::copy_from_slice(self.payload)).clone()
    }

    fn stored(&mut self) -> Arc<Stored> {
        if let Some(stored) = &self.stored {
            return stored.clone();
        }
        let mut properties = BytesMut::with_capacity(self.properties.len());
        self.properties.copy_to(&mut properties);
        let stored = Arc::new(Stored {
            topic: self.topic.into(),
            retain: self.retain,
            expiry: self.expiry,
            properties: properties.freeze(),
            payload: self.shared_payload(),
        });
        self.stored.insert(stored).clone()
    }

    /// Writes the packet; `false` if it cannot be encoded (too long a field, which decoding excluded).
    fn write(&mut self, out: &mut Outbound, version: Version, head: &PublishHead<'_>) -> bool {
        if self.payload.len() >= SHARE_FROM {
            let payload_len = self.payload.len();
            let header = out.write(|to| encode_publish_header(to, version, head, self.properties, payload_len));
            if header.is_ok() {
                out.share(self.shared_payload());
            }
            return header.is_ok();
        }
        if head.qos != QoS::AtMostOnce || head.retain || !head.subscription_ids.is_empty() {
            return out.write(|to| encode_publish(to, version, head, self.properties, self.payload)).is_ok();
        }
        let slot = usize::from(version == Version::V5);
        match &self.encoded[slot] {
            Encoded::Kept(packet) => {
                out.copy(packet);
                true
            }
            Encoded::Never => {
                self.encoded[slot] = Encoded::Once;
                out.write(|to| encode_publish(to, version, head, self.properties, self.payload)).is_ok()
            }
            Encoded::Once => {
                let mut packet = BytesMut::new();
                let done = encode_publish(&mut packet, version, head, self.properties, self.payload).is_ok();
                out.copy(&packet);
                self.encoded[slot] = Encoded::Kept(packet);
                done
            }
        }
    }
}

/// Packet identifiers in use towards the client, and what waits for one.
#[derive(Debug)]
pub(super) struct SendWindow {
    /// QoS 1 publishes that may be unacknowledged.
    size: usize,
    /// Largest packet the client takes.
    max_packet: usize,
    /// In the order in which they were sent.
    inflight: VecDeque<PacketId>,
    next: PacketId,
    /// Whether the client has acknowledged out of order since nothing was unacknowledged: then an identifier ahead may
    /// be in use.
    holes: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    queue_messages: usize,
    queue_bytes: usize,
    outbound_bytes: usize,
}

impl SendWindow {
    pub fn new(connect: &Connect, settings: &Settings) -> Self {
        let theirs = connect.properties.receive_maximum.map_or(u16::MAX, |most| most.get());
        let largest = connect.properties.maximum_packet_size.map_or(usize::MAX, |most| most.get() as usize);
        Self {
            size: usize::from(theirs.min(settings.send_maximum).max(1)),
            max_packet: largest,
            inflight: VecDeque::new(),
            next: PacketId::MIN,
            holes: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_messages: settings.queue_messages,
            queue_bytes: settings.queue_bytes,
            outbound_bytes: settings.outbound_bytes,
        }
    }

    fn open(&self, out: &Outbound) -> bool {
        self.inflight.len() < self.size && out.len() < self.outbound_bytes
    }

    /// The next identifier that is not in use. They are given out in a ring; the window is smaller than the ring, so
    /// the search ends.
    fn take_id(&mut self) -> PacketId {
        self.holes &= !self.inflight.is_empty();
        while self.holes && self.inflight.contains(&self.next) {
            self.next = self.next.checked_add(1).unwrap_or(PacketId::MIN);
        }
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(PacketId::MIN);
        self.inflight.push_back(id);
        id
    }
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
        let rough = message.topic.len() + message.payload.len() + message.properties.len() + 5 * ids.len() + 16;
        if rough > self.window.max_packet && self.too_large(message, qos, retain, ids) {
            return Delivery::Dropped(Dropped::TooLarge);
        }
        if qos == QoS::AtMostOnce {
            if out.len() >= self.window.outbound_bytes {
                return Delivery::Dropped(Dropped::SlowSubscriber);
            }
            let head = message.head(qos, retain, None, ids);
            return written(message.write(out, self.version, &head));
        }
        if self.window.queue.is_empty() && self.window.open(out) {
            let head = message.head(QoS::AtLeastOnce, retain, Some(self.window.take_id()), ids);
            return written(message.write(out, self.version, &head));
        }
        self.enqueue(now, message, retain, ids)
    }

    /// Whether the packet exceeds what the client takes.
    fn too_large(&self, message: &Message<'_>, qos: QoS, retain: bool, ids: &[u32]) -> bool {
        let head = message.head(qos, retain, (qos != QoS::AtMostOnce).then_some(PacketId::MIN), ids);
        let size = publish_len(self.version, &head, message.properties, message.payload.len());
        size.is_ok_and(|size| size > self.window.max_packet)
    }

    fn enqueue(&mut self, now: Moment, message: &mut Message<'_>, retain: bool, ids: &[u32]) -> Delivery {
        let bytes = message.topic.len() + message.properties.len() + message.payload.len();
        let window = &mut self.window;
        if window.queue.len() >= window.queue_messages || window.queued_bytes + bytes > window.queue_bytes {
            return Delivery::Dropped(Dropped::QueueFull);
        }
        window.queued_bytes += bytes;
        window.queue.push_back(Queued { message: message.stored(), since: now, ids: ids.into(), retain });
        Delivery::Queued
    }

    /// PUBACK for `packet_id`: what waits in the queue moves up, see [`Session::pump`].
    pub fn on_puback(&mut self, now: Moment, out: &mut Outbound, packet_id: PacketId) -> Result<u64, Ending> {
        let inflight = &mut self.window.inflight;
        if inflight.front() == Some(&packet_id) {
            inflight.pop_front();
        } else {
            let at = inflight.iter().position(|id| *id == packet_id);
            // An acknowledgement of nothing is ignored: the standard names no error for PUBACK.
            let Some(at) = at else { return Ok(0) };
            inflight.remove(at);
            self.window.holes = true;
        }
        self.pump(now, out)
    }

    /// Sends from the queue what the window has room for. Also to be called when the socket took bytes. Returns how
    /// many messages had expired instead (MQTT-3.3.2-5).
    pub fn pump(&mut self, now: Moment, out: &mut Outbound) -> Result<u64, Ending> {
        let mut expired = 0;
        while !self.window.queue.is_empty() && self.window.open(out) {
            let Some(queued) = self.window.queue.pop_front() else { break };
            let stored = queued.message;
            self.window.queued_bytes -= stored.size();
            // What is sent is the time that is left (MQTT-3.3.2-6).
            let waited = now.since(queued.since).as_secs();
            let left = stored.expiry.map(|expiry| u64::from(expiry).saturating_sub(waited) as u32);
            if left == Some(0) && waited > 0 {
                expired += 1;
                continue;
            }
            let id = self.window.take_id();
            let mut message = Message {
                topic: &stored.topic,
                qos: QoS::AtLeastOnce,
                retain: stored.retain,
                expiry: left,
                properties: Forwardable::stored(&stored.properties),
                payload: &stored.payload,
                encoded: Default::default(),
                shared: Some(stored.payload.clone()),
                stored: None,
            };
            let head = message.head(QoS::AtLeastOnce, queued.retain, Some(id), &queued.ids);
            if !message.write(out, self.version, &head) {
                return Err(Ending::with(ReasonCode::UNSPECIFIED_ERROR, "a queued message could not be encoded"));
            }
        }
        Ok(expired)
    }

    /// Bytes that wait in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.window.queued_bytes
    }
}

fn written(done: bool) -> Delivery {
    if done { Delivery::Written } else { Delivery::Dropped(Dropped::TooLarge) }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::mqtt::codec::{Packet, Publish, Sender, decode, decode_publish, encode, split};

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

    #[test]
    fn an_identifier_that_is_in_use_is_not_given_out_again() {
        let mut s = session(|_, settings| settings.send_maximum = 3);
        let id = |n| PacketId::new(n).expect("not zero");
        let w = &mut s.window;
        (w.next, w.holes) = (id(9), true);
        w.inflight = [id(1), id(9)].into();
        assert_eq!(w.take_id(), id(10));
    }
}
