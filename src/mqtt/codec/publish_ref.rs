//! PUBLISH (3.3) borrowed from the buffer that it arrived in, and written from borrowed parts: a broker's way through.
//! Nothing here allocates, but for the room that `out` may need.

use bytes::{BufMut, BytesMut};

use super::frame::check_first_byte;
use super::property::{NOT_ALLOWED, Property, check_subscription_id, each_property};
use super::topic::check_name;
use super::wire::{Reader, field_len, packet_len, put_varint, varint_len};
use super::{DecodeError, EncodeError, PacketId, PacketType, PayloadFormat, QoS, ReasonCode, Sender, Version};

/// A PUBLISH that borrows its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRef<'a> {
    /// Sent before; never with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retained, or to be retained.
    pub retain: bool,
    /// Without wildcards; empty only with a topic alias.
    pub topic: &'a str,
    /// With QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// None of them in 3.1.1.
    pub properties: PublishProperties<'a>,
    /// What it is about.
    pub payload: &'a [u8],
}

/// The properties of a PUBLISH, all checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// From 1; whether it exceeds the announced maximum is the session's to check.
    pub topic_alias: Option<u16>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// What the payload is said to be; not checked against it.
    pub payload_format: Option<PayloadFormat>,
    /// A MIME type, or whatever the two ends agree on.
    pub content_type: Option<&'a str>,
    /// A topic name without wildcards.
    pub response_topic: Option<&'a str>,
    /// Any bytes.
    pub correlation_data: Option<&'a [u8]>,
    /// What a broker passes on unchanged.
    pub forwardable: Forwardable<'a>,
    raw: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    fn read(raw: &'a [u8], sender: Sender) -> Result<Self, DecodeError> {
        let mut p = Self { raw, ..Self::default() };
        let mut cuts = Cuts::new(raw);
        each_property(raw, |property, from| {
            match property {
                Property::PayloadFormat(v) => p.payload_format = Some(v),
                Property::MessageExpiry(v) => {
                    p.message_expiry = Some(v);
                    cuts.cut(from, 5);
                }
                Property::ContentType(v) => p.content_type = Some(v),
                Property::ResponseTopic(v) => p.response_topic = Some(v),
                Property::CorrelationData(v) => p.correlation_data = Some(v),
                Property::TopicAlias(v) => {
                    p.topic_alias = Some(v);
                    cuts.cut(from, 3);
                }
                Property::User(..) => {}
                Property::SubscriptionId(_) if sender == Sender::Server => {}
                Property::SubscriptionId(_) => {
                    return Err(DecodeError::protocol("a client's publish has a subscription identifier"));
                }
                _ => return Err(NOT_ALLOWED),
            }
            Ok(())
        })?;
        p.forwardable = cuts.finish();
        Ok(p)
    }

    /// User properties in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.all().filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Subscription identifiers in order; only a server sends them.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> {
        self.all().filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        })
    }

    /// What a broker passes on unchanged, without the user properties, in the form of [`Forwardable::stored`]; `None` if
    /// there are no user properties.
    pub fn without_user_properties(&self) -> Option<Vec<u8>> {
        self.user_properties().next()?;
        let mut kept = Vec::new();
        let mut r = Reader::new(self.raw);
        while let (from, Ok((_, property))) = (r.rest(), Property::read(&mut r)) {
            use Property::{ContentType, CorrelationData, PayloadFormat, ResponseTopic};
            if matches!(property, PayloadFormat(_) | ContentType(_) | ResponseTopic(_) | CorrelationData(_)) {
                kept.extend_from_slice(&from[..from.len() - r.rest().len()]);
            }
        }
        Some(kept)
    }

    fn all(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut r = Reader::new(self.raw);
        std::iter::from_fn(move || Property::read(&mut r).ok().map(|(_, property)| property))
    }
}

/// The properties that a broker passes on unchanged, as they are on the wire: payload format, content type, response
/// topic, correlation data, user properties in their order. Topic alias and message expiry are cut out (they are fields
/// of `PublishProperties`), hence up to three parts. A server's subscription identifiers stay in: use it on what clients
/// sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwardable<'a> {
    parts: [&'a [u8]; 3],
}

impl<'a> Forwardable<'a> {
    /// No properties.
    pub const EMPTY: Forwardable<'static> = Forwardable { parts: [&[]; 3] };

    /// From bytes that `copy_to` or `MessageProperties::to_forwardable` once wrote; they are not checked again.
    pub const fn stored(bytes: &'a [u8]) -> Self {
        Self { parts: [bytes, &[], &[]] }
    }

    /// The parts in order; empty ones included.
    pub const fn parts(&self) -> &[&'a [u8]; 3] {
        &self.parts
    }

    /// Bytes of all parts.
    pub const fn len(&self) -> usize {
        self.parts[0].len() + self.parts[1].len() + self.parts[2].len()
    }

    /// Whether there are no properties.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all parts to `out`.
    pub fn copy_to(&self, out: &mut impl BufMut) {
        self.parts.iter().for_each(|part| out.put_slice(part));
    }
}

/// Cuts at most two properties out of a packet's properties.
struct Cuts<'a> {
    parts: [&'a [u8]; 3],
    used: usize,
}

impl<'a> Cuts<'a> {
    fn new(raw: &'a [u8]) -> Self {
        Self { parts: [raw, &[], &[]], used: 0 }
    }

    /// Takes out the first `len` bytes of `from`, a tail of the properties.
    fn cut(&mut self, from: &'a [u8], len: usize) {
        let last = self.parts[self.used];
        self.parts[self.used] = &last[..last.len() - from.len()];
        self.used += 1;
        self.parts[self.used] = &from[len..];
    }

    fn finish(self) -> Forwardable<'a> {
        Forwardable { parts: self.parts }
    }
}

/// Reads a PUBLISH from its first byte and body, as `split` found them.
///
/// # Errors
/// 0x81 malformed, 0x82 packet identifier 0, a property twice or with a bad value, a subscription identifier from a
/// client, or neither topic nor alias; 0x90 wildcards in the topic name; 0x94 alias 0.
pub fn decode_publish(
    version: Version,
    sender: Sender,
    first_byte: u8,
    body: &[u8],
) -> Result<PublishRef<'_>, DecodeError> {
    if check_first_byte(first_byte)? != PacketType::Publish {
        return Err(DecodeError::malformed("not a publish"));
    }
    let qos = QoS::from_u8((first_byte >> 1) & 0b11).ok_or(DecodeError::malformed("qos 3"))?;
    let mut r = Reader::new(body);
    let topic = r.text()?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(r.packet_id()?) };
    let properties = match version {
        Version::V311 => PublishProperties::default(),
        Version::V5 => {
            let len = r.varint()? as usize;
            PublishProperties::read(r.take(len)?, sender)?
        }
    };
    match check_name(topic) {
        Ok(()) => {}
        Err(_) if topic.is_empty() && properties.topic_alias.is_some() => {}
        Err(what) if topic.is_empty() => return Err(DecodeError::protocol(what)),
        Err(what) => return Err(DecodeError::with(ReasonCode::TOPIC_NAME_INVALID, what)),
    }
    let (dup, retain) = (first_byte & 0b1000 != 0, first_byte & 1 != 0);
    Ok(PublishRef { dup, qos, retain, topic, packet_id, properties, payload: r.rest() })
}

/// All of an outgoing PUBLISH but forwardable properties and payload. For 3.1.1 alias, identifiers and expiry are not
/// written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHead<'a> {
    /// Sent before; never with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retained.
    pub retain: bool,
    /// A checked topic name; empty only with an alias in version 5.
    pub topic: &'a str,
    /// With QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// From 1.
    pub topic_alias: Option<u16>,
    /// Those of all subscriptions that matched, 1 to 268,435,455 each.
    pub subscription_ids: &'a [u32],
    /// What is left of the message's life, seconds.
    pub message_expiry: Option<u32>,
}

impl PublishHead<'_> {
    /// Checks all, then tells how long properties (0 for 3.1.1) and remaining length are.
    fn lengths(&self, version: Version, forwardable: usize, payload: usize) -> Result<(usize, usize), EncodeError> {
        field_len(self.topic.as_bytes())?;
        if self.packet_id.is_some() != (self.qos != QoS::AtMostOnce) {
            return Err(EncodeError::Invalid("a packet identifier goes with qos 1 and 2, and only with them"));
        }
        if self.dup && self.qos == QoS::AtMostOnce {
            return Err(EncodeError::Invalid("dup with qos 0"));
        }
        if self.topic.is_empty() && (version == Version::V311 || self.topic_alias.is_none()) {
            return Err(EncodeError::Invalid("the topic name is empty"));
        }
        let mut remaining = 2 + self.topic.len() + if self.packet_id.is_some() { 2 } else { 0 };
        let mut properties = 0;
        if version == Version::V5 {
            if self.topic_alias == Some(0) {
                return Err(EncodeError::Invalid("topic alias 0"));
            }
            properties = forwardable;
            properties += if self.topic_alias.is_some() { 3 } else { 0 };
            properties += if self.message_expiry.is_some() { 5 } else { 0 };
            for &id in self.subscription_ids {
                check_subscription_id(id)?;
                properties += 1 + varint_len(id as usize);
            }
            remaining += varint_len(properties) + properties;
        }
        Ok((properties, remaining.saturating_add(payload)))
    }
}

/// Size of the packet that `encode_publish` would write: to be compared with the receiver's Maximum Packet Size.
///
/// # Errors
/// Those of `encode_publish`.
pub fn publish_len(
    version: Version,
    head: &PublishHead<'_>,
    forwardable: Forwardable<'_>,
    payload_len: usize,
) -> Result<usize, EncodeError> {
    let (_, remaining) = head.lengths(version, forwardable.len(), payload_len)?;
    packet_len(remaining)
}

/// Appends a whole PUBLISH to `out`, which need not be empty; returns the packet's size.
///
/// # Errors
/// A topic over 65,535 bytes, a packet over the encoding's limit, or fields that contradict each other; nothing was
/// written then.
pub fn encode_publish(
    out: &mut BytesMut,
    version: Version,
    head: &PublishHead<'_>,
    forwardable: Forwardable<'_>,
    payload: &[u8],
) -> Result<usize, EncodeError> {
    let size = put_header(out, version, head, forwardable, payload.len(), payload.len())?;
    out.put_slice(payload);
    Ok(size)
}

/// Appends all of a PUBLISH that comes before its payload, so that a large shared payload need not be copied: the caller
/// sends `payload_len` bytes after it. Returns the size of the whole packet, payload included.
///
/// # Errors
/// Those of `encode_publish`.
pub fn encode_publish_header(
    out: &mut BytesMut,
    version: Version,
    head: &PublishHead<'_>,
    forwardable: Forwardable<'_>,
    payload_len: usize,
) -> Result<usize, EncodeError> {
    put_header(out, version, head, forwardable, payload_len, 0)
}

fn put_header(
    out: &mut BytesMut,
    version: Version,
    head: &PublishHead<'_>,
    forwardable: Forwardable<'_>,
    payload_len: usize,
    room_after: usize,
) -> Result<usize, EncodeError> {
    let (properties, remaining) = head.lengths(version, forwardable.len(), payload_len)?;
    let size = packet_len(remaining)?;
    out.reserve(size - payload_len + room_after);
    let flags = u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain);
    out.put_u8((PacketType::Publish as u8) << 4 | flags);
    put_varint(out, remaining);
    out.put_u16(field_len(head.topic.as_bytes())?);
    out.put_slice(head.topic.as_bytes());
    if let Some(id) = head.packet_id {
        out.put_u16(id.get());
    }
    if version == Version::V5 {
        put_varint(out, properties);
        let own = [head.message_expiry.map(Property::MessageExpiry), head.topic_alias.map(Property::TopicAlias)];
        let ids = head.subscription_ids.iter().map(|&id| Property::SubscriptionId(id));
        own.into_iter().flatten().chain(ids).try_for_each(|property| property.write(out))?;
        forwardable.copy_to(out);
    }
    Ok(size)
}
