//! Publishes on their way to other workers and nodes, back to back: an MQTT 5 PUBLISH each, or, for those that say nothing
//! but topic and payload, groups of one topic. A group names its topic once and its length first, so that who wants
//! nothing of the topic steps over all of it. PURE.
//!
//! A group: its kind (1 byte, which is no PUBLISH's first), how many bytes follow the length (4), the topic's length (2)
//! and text, then for each publish its payload's length (2), above QoS 0 the number of its mark (2), and its payload.
//! Numbers are big-endian.

use bytes::{BufMut, BytesMut};

use super::once;
use crate::mqtt::codec::{MAX_PACKET, PacketId, PublishProperties, PublishRef, QoS, split};
use crate::mqtt::session::{Message, SHARE_FROM};

const _: () = assert!(SHARE_FROM <= u16::MAX as usize);

/// First byte of a group of QoS 0 publishes; of those of QoS 1 and 2, the next ones.
const GROUP: u8 = 1;
/// Kind, length, length of the topic.
const GROUP_HEADER: usize = 7;

/// A buffer that publishes are written to.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    body: BytesMut,
    /// Where the last group begins, if nothing follows it.
    group: Option<usize>,
}

/// What stands at the front of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A PUBLISH: first byte and body.
    Publish(u8, &'a [u8]),
    /// Publishes of one topic.
    Group(Group<'a>),
}

/// Publishes without properties and RETAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub qos: QoS,
    /// Its bytes; UTF-8, if the sender is right.
    pub topic: &'a [u8],
    payloads: &'a [u8],
}

impl Transfer {
    /// An empty buffer.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { body: BytesMut::with_capacity(bytes), group: None }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// What was written.
    pub fn into_body(self) -> BytesMut {
        self.body
    }

    /// What was written so far.
    #[cfg(test)]
    pub fn as_slice(&self) -> &[u8] {
        &self.body
    }

    /// Appends bytes as they are.
    #[cfg(test)]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.group = None;
        self.body.extend_from_slice(bytes);
    }

    /// Appends a publish.
    pub fn put(&mut self, message: &Message<'_>) {
        match kind(message) {
            Some(kind) => self.put_in_group(kind, message),
            None => {
                self.group = None;
                self.put_name(message);
                if let Err(error) = message.encode_transfer(&mut self.body) {
                    tracing::error!(%error, "a publish that decoded does not encode");
                }
            }
        }
    }

    /// Appends a publish by itself, behind what `before` writes.
    pub fn put_directed<R>(&mut self, message: &Message<'_>, before: impl FnOnce(&mut BytesMut) -> R) -> R {
        self.group = None;
        self.put_name(message);
        let result = before(&mut self.body);
        if let Err(error) = message.encode_transfer(&mut self.body) {
            tracing::error!(%error, "a publish that decoded does not encode");
        }
        result
    }

    fn put_name(&mut self, message: &Message<'_>) {
        if let Some(name) = message.will {
            once::encode(&mut self.body, name);
        }
    }

    fn put_in_group(&mut self, kind: u8, message: &Message<'_>) {
        let topic = message.topic.as_bytes();
        let at = match self.group {
            Some(at) if self.body[at] == kind && self.topic_at(at) == topic => at,
            _ => self.begin(kind, topic),
        };
        self.body.put_u16(message.payload.len() as u16);
        if kind != GROUP {
            self.body.put_u16(message.mark.number.map_or(0, PacketId::get));
        }
        self.body.extend_from_slice(message.payload);
        // A chunk is closed long before its length needs more than four bytes.
        let len = (self.body.len() - at - 5) as u32;
        self.body[at + 1..at + 5].copy_from_slice(&len.to_be_bytes());
    }

    fn topic_at(&self, at: usize) -> &[u8] {
        let len = usize::from(u16::from_be_bytes([self.body[at + 5], self.body[at + 6]]));
        &self.body[at + GROUP_HEADER..at + GROUP_HEADER + len]
    }

    fn begin(&mut self, kind: u8, topic: &[u8]) -> usize {
        let at = self.body.len();
        self.body.put_u8(kind);
        self.body.put_u32(0);
        // A topic that was decoded is no longer than that.
        self.body.put_u16(topic.len() as u16);
        self.body.extend_from_slice(topic);
        self.group = Some(at);
        at
    }
}

/// The kind of the group that the message may be in. Large payloads are shared between subscribers, which groups are not
/// made for.
fn kind(message: &Message<'_>) -> Option<u8> {
    let plain = !message.retain && message.expiry.is_none() && message.properties.is_empty() && message.will.is_none();
    (plain && message.payload.len() < SHARE_FROM).then_some(GROUP + message.qos as u8)
}

/// Takes the first item off `body`; `None` at bytes that are none.
pub(super) fn take<'a>(body: &mut &'a [u8]) -> Option<Item<'a>> {
    let Some(qos) = body.first()?.checked_sub(GROUP).and_then(QoS::from_u8) else {
        let frame = split(body, MAX_PACKET).ok()??;
        let packet = frame.body(body);
        *body = &body[frame.total..];
        return Some(Item::Publish(frame.first_byte, packet));
    };
    let (len, rest) = body[1..].split_first_chunk()?;
    let (group, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    let (topic_len, group) = group.split_first_chunk()?;
    let (topic, payloads) = group.split_at_checked(usize::from(u16::from_be_bytes(*topic_len)))?;
    *body = rest;
    Some(Item::Group(Group { qos, topic, payloads }))
}

impl<'a> Item<'a> {
    /// The topic name's bytes (MQTT 5 §3.3.2.1); `None` at bytes that are none.
    pub fn topic(&self) -> Option<&'a [u8]> {
        match self {
            Item::Group(group) => Some(group.topic),
            Item::Publish(_, packet) => {
                let (len, rest) = packet.split_first_chunk()?;
                rest.get(..usize::from(u16::from_be_bytes(*len)))
            }
        }
    }
}

/// One publish of a group.
pub(super) fn publish<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> PublishRef<'a> {
    PublishRef {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    }
}

impl<'a> Group<'a> {
    /// The payloads in order, with the numbers of their marks; `None` at bytes that are none.
    pub fn payloads(self) -> Option<Payloads<'a>> {
        let mut all = Payloads { rest: self.payloads, numbered: self.qos != QoS::AtMostOnce };
        let payloads = all.clone();
        while all.next().is_some() {}
        all.rest.is_empty().then_some(payloads)
    }
}

/// The payloads of a group, up to the end or the first bytes that are none.
#[derive(Clone, Debug)]
pub(super) struct Payloads<'a> {
    rest: &'a [u8],
    numbered: bool,
}

impl<'a> Iterator for Payloads<'a> {
    type Item = (Option<PacketId>, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (len, mut rest) = self.rest.split_first_chunk()?;
        let mut number = None;
        if self.numbered {
            let (bytes, after) = rest.split_first_chunk()?;
            (number, rest) = (PacketId::new(u16::from_be_bytes(*bytes)), after);
        }
        let (payload, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        self.rest = rest;
        Some((number, payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::codec::{Sender, Version, decode_publish};

    type Told = (String, QoS, bool, Option<PacketId>, Vec<u8>);

    fn read(mut body: &[u8]) -> Option<Vec<Told>> {
        let mut all = Vec::new();
        while !body.is_empty() {
            match take(&mut body)? {
                Item::Publish(first, packet) => {
                    let p = decode_publish(Version::V5, Sender::Client, first, packet).ok()?;
                    all.push((p.topic.to_owned(), p.qos, p.retain, p.packet_id, p.payload.to_vec()));
                }
                Item::Group(group) => {
                    let topic = std::str::from_utf8(group.topic).ok()?.to_owned();
                    for (number, payload) in group.payloads()? {
                        all.push((topic.clone(), group.qos, false, number, payload.to_vec()));
                    }
                }
            }
        }
        Some(all)
    }

    #[test]
    fn a_topic_is_named_once_however_often_it_is_published_to() {
        let mut to = Transfer::default();
        for n in 0..100_u8 {
            to.put(&Message::new("a/b", &publish("a/b", QoS::AtMostOnce, &[n; 10])));
        }
        assert_eq!(to.len(), GROUP_HEADER + 3 + 100 * 12);
        let body = to.into_body();
        assert!(matches!(take(&mut &body[..]), Some(Item::Group(group)) if group.topic == b"a/b"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sent in prop::collection::vec(
            ("[a-c]{1,2}", 0_u8..3, prop::bool::weighted(0.2), prop::collection::vec(any::<u8>(), 0..300)), 0..40)) {
            let mut to = Transfer::default();
            let mut told = Vec::new();
            for (topic, qos, retain, payload) in &sent {
                let qos = QoS::from_u8(*qos).expect("a qos");
                let publish = PublishRef { retain: *retain, ..publish(topic, qos, payload) };
                let mut message = Message::new(topic, &publish);
                let number = PacketId::new(told.len() as u16 + 1).filter(|_| qos != QoS::AtMostOnce);
                message.mark.number = number;
                to.put(&message);
                told.push((topic.clone(), qos, *retain, number, payload.clone()));
            }
            prop_assert_eq!(read(&to.into_body()), Some(told));
        }

        #[test]
        fn bytes_that_are_nothing_are_refused(body in prop::collection::vec(any::<u8>(), 0..100)) {
            read(&body);
        }
    }
}
