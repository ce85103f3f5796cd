//! A message on its way to one client: QoS 0 straight into the outbound buffer, QoS 1 through the client's
//! receive window (MQTT 5 §3.1.2.11.3, §4.9) and a bounded queue behind it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Ending, Outbound, SHARE_FROM, Session, Settings};
use crate::mqtt::codec::{
    Connect, EncodeError, Forwardable, PacketId, PublishHead, PublishRef, QoS, ReasonCode, Version, encode_publish,
    encode_publish_header,
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

#[derive(Debug)]
struct Queued {
    message: Arc<Stored>,
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

    /// The next identifier that is not in use. They are given out in a ring, so one that is in use is met only
    /// when the ring has gone round; the window is smaller than the ring, so the search ends.
    fn take_id(&mut self) -> PacketId {
        let lapped = self.inflight.front().is_some_and(|oldest| *oldest >= self.next);
        while lapped && self.inflight.contains(&self.next) {
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
        out: &mut Outbound,
        message: &mut Message<'_>,
        granted: QoS,
        retain: bool,
        ids: &[u32],
    ) -> Delivery {
        let qos = message.qos.min(granted);
        let rough = message.topic.len() + message.payload.len() + message.properties.len() + 5 * ids.len() + 16;
        if rough > self.window.max_packet {
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
        self.enqueue(message, retain, ids)
    }

    fn enqueue(&mut self, message: &mut Message<'_>, retain: bool, ids: &[u32]) -> Delivery {
        let bytes = message.topic.len() + message.payload.len();
        let window = &mut self.window;
        if window.queue.len() >= window.queue_messages || window.queued_bytes + bytes > window.queue_bytes {
            return Delivery::Dropped(Dropped::QueueFull);
        }
        window.queued_bytes += bytes;
        window.queue.push_back(Queued { message: message.stored(), ids: ids.into(), retain });
        Delivery::Queued
    }

    /// PUBACK for `packet_id`: what waits in the queue moves up.
    pub fn on_puback(&mut self, out: &mut Outbound, packet_id: PacketId) -> Result<(), Ending> {
        let inflight = &mut self.window.inflight;
        if inflight.front() == Some(&packet_id) {
            inflight.pop_front();
        } else {
            let at = inflight.iter().position(|id| *id == packet_id);
            // An acknowledgement of nothing is ignored: the standard names no error for PUBACK.
            let Some(at) = at else { return Ok(()) };
            inflight.remove(at);
        }
        self.pump(out)
    }

    /// Sends from the queue what the window has room for. Also to be called when the socket took bytes.
    pub fn pump(&mut self, out: &mut Outbound) -> Result<(), Ending> {
        while !self.window.queue.is_empty() && self.window.open(out) {
            let Some(queued) = self.window.queue.pop_front() else { break };
            let stored = queued.message;
            self.window.queued_bytes -= stored.topic.len() + stored.payload.len();
            let id = self.window.take_id();
            let mut message = Message {
                topic: &stored.topic,
                qos: QoS::AtLeastOnce,
                retain: stored.retain,
                expiry: stored.expiry,
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
        Ok(())
    }

    /// Bytes that wait in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.window.queued_bytes
    }
}

fn written(done: bool) -> Delivery {
    if done { Delivery::Written } else { Delivery::Dropped(Dropped::TooLarge) }
}
