//! A message on its way to any number of clients: encoded once per version, and stored once, where that can be shared.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rookery_cluster::clock::Moment;
use rookery_cluster::ids::WillName;

use super::{Outbound, SHARE_FROM};
use crate::mqtt::codec::{
    EncodeError, Forwardable, PacketId, PublishHead, PublishRef, QoS, Version, encode_publish, encode_publish_header,
};

/// Who published a message, and its number there: so that a session which collects at two nodes while it moves has each
/// once (R14). The number repeats after 65,535, which is more than come in the moment of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The worker that took it from its publisher, on whatever node; see `broker::core::origin`.
    pub origin: u64,
    /// Its number there, which travels in place of a packet identifier; none at QoS 0, of which nothing is kept.
    pub number: Option<PacketId>,
}

impl Mark {
    /// As one number; 0 for none.
    fn value(self) -> u64 {
        self.number.map_or(0, |number| self.origin << 16 | u64::from(number.get()))
    }
}

/// A message to be delivered.
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
    /// The shared subscription that it is delivered for, if it is: what is not acknowledged goes to another member.
    pub share: Option<Arc<str>>,
    /// Tells it from all other messages of the last while, wherever it arrives: see [`Mark`].
    pub mark: Mark,
    /// What it is known by wherever it arrives, if it is a will: who has had it does not get it again (R16).
    pub will: Option<WillName>,
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

/// A message that waits in queues or for acknowledgements, stored once however many they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub topic: Box<str>,
    /// QoS at which it was published.
    pub qos: QoS,
    pub retain: bool,
    pub expiry: Option<u32>,
    pub properties: Bytes,
    pub payload: Bytes,
    /// See [`Mark`].
    pub mark: u64,
}

impl Stored {
    /// What it counts for in each queue, bytes.
    pub fn size(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }
}

/// One client's copy of a stored message.
#[derive(Debug)]
pub(super) struct Kept {
    pub message: Arc<Stored>,
    /// When it came: time that it waited counts for its expiry.
    pub since: Moment,
    pub qos: QoS,
    pub ids: Box<[u32]>,
    pub retain: bool,
    /// See [`Message::share`].
    pub share: Option<Arc<str>>,
}

impl Kept {
    /// Seconds that are left of its Message Expiry Interval, which is what is sent (MQTT-3.3.2-6). `Err` once they
    /// have passed (MQTT-3.3.2-5).
    pub fn expiry_left(&self, now: Moment) -> Result<Option<u32>, ()> {
        let Some(expiry) = self.message.expiry else { return Ok(None) };
        let waited = now.since(self.since).as_secs();
        match u64::from(expiry).saturating_sub(waited) {
            0 if waited > 0 => Err(()),
            left => Ok(Some(u32::try_from(left).unwrap_or(u32::MAX))),
        }
    }
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
            share: None,
            will: None,
            mark: Mark::default(),
            encoded: Default::default(),
            shared: None,
            stored: None,
        }
    }

    /// A stored message, to be written again.
    pub(super) fn of_kept(kept: &'a Kept, expiry: Option<u32>) -> Self {
        let stored = &*kept.message;
        Self {
            topic: &stored.topic,
            qos: kept.qos,
            retain: stored.retain,
            expiry,
            properties: Forwardable::stored(&stored.properties),
            payload: &stored.payload,
            will: None,
            share: kept.share.clone(),
            mark: Mark::default(),
            encoded: Default::default(),
            shared: Some(stored.payload.clone()),
            stored: Some(kept.message.clone()),
        }
    }

    /// A stored message as it was published, for another client.
    pub(super) fn again(kept: &'a Kept, expiry: Option<u32>) -> Self {
        // Stored again if its time runs: that is counted from the day it is stored.
        let stored = expiry.is_none().then(|| kept.message.clone());
        Self { qos: kept.message.qos, share: None, stored, ..Self::of_kept(kept, expiry) }
    }

    /// The publish as it travels between workers and nodes: an MQTT 5 PUBLISH, so that there is one format to
    /// check. Its packet identifier is the number of its [`Mark`].
    pub fn encode_transfer(&self, to: &mut BytesMut) -> Result<usize, EncodeError> {
        let id = (self.qos != QoS::AtMostOnce).then_some(self.mark.number.unwrap_or(PacketId::MIN));
        encode_publish(to, Version::V5, &self.head(self.qos, self.retain, id, &[]), self.properties, self.payload)
    }

    pub(super) fn head<'h>(
        &self,
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        ids: &'h [u32],
    ) -> PublishHead<'h>
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

    /// What it counts for in a queue, bytes.
    pub fn size(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }

    fn shared_payload(&mut self) -> Bytes {
        self.shared.get_or_insert_with(|| Bytes::copy_from_slice(self.payload)).clone()
    }

    /// One client's copy of it, to be kept.
    pub(super) fn keep(&mut self, now: Moment, qos: QoS, retain: bool, ids: &[u32]) -> Kept {
        let share = self.share.clone();
        Kept { message: self.stored(), since: now, qos, ids: ids.into(), retain, share }
    }

    fn stored(&mut self) -> Arc<Stored> {
        if let Some(stored) = &self.stored {
            return stored.clone();
        }
        let mut properties = BytesMut::with_capacity(self.properties.len());
        self.properties.copy_to(&mut properties);
        let stored = Arc::new(Stored {
            topic: self.topic.into(),
            qos: self.qos,
            retain: self.retain,
            expiry: self.expiry,
            properties: properties.freeze(),
            payload: self.shared_payload(),
            mark: self.mark.value(),
        });
        self.stored.insert(stored).clone()
    }

    /// Writes the packet; `false` if it cannot be encoded (too long a field, which decoding excluded).
    pub(super) fn write(&mut self, out: &mut Outbound, version: Version, head: &PublishHead<'_>) -> bool {
        if self.payload.len() >= SHARE_FROM {
            let payload_len = self.payload.len();
            let header = out.write(|to| encode_publish_header(to, version, head, self.properties, payload_len));
            if header.is_ok() {
                out.share(self.shared_payload());
            }
            return header.is_ok();
        }
        let common = head.qos == QoS::AtMostOnce
            && !head.retain
            && head.subscription_ids.is_empty()
            && head.topic_alias.is_none();
        if !common {
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
