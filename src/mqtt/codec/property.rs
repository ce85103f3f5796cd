//! Properties (2.2.2): one at a time, value checked; which ones a packet allows is the packet's own `match`.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};

use super::topic::check_name;
use super::wire::{Reader, put_binary, put_text, put_varint};
use super::{DecodeError, EncodeError, MAX_REMAINING, PayloadFormat, QoS, ReasonCode, UserProperties};

/// A property with its value, borrowed from the packet.
#[derive(Clone, Copy)]
pub(super) enum Property<'a> {
    PayloadFormat(PayloadFormat),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

const SUBSCRIPTION_ID: u8 = 0x0b;
const USER: u8 = 0x26;

/// The answer to a property that its packet does not allow (2.2.2.2).
pub(super) const NOT_ALLOWED: DecodeError = DecodeError::malformed("a property that this packet does not allow");

impl<'a> Property<'a> {
    /// Reads one property, identifier and value.
    pub fn read(r: &mut Reader<'a>) -> Result<(u8, Self), DecodeError> {
        let id = r.u8()?;
        let property = match id {
            0x01 => Self::PayloadFormat(if flag(r)? { PayloadFormat::Utf8 } else { PayloadFormat::Bytes }),
            0x02 => Self::MessageExpiry(r.u32()?),
            0x03 => Self::ContentType(r.text()?),
            0x08 => Self::ResponseTopic(response_topic(r)?),
            0x09 => Self::CorrelationData(r.binary()?),
            SUBSCRIPTION_ID => Self::SubscriptionId(subscription_id(r)?),
            0x11 => Self::SessionExpiry(r.u32()?),
            0x12 => Self::AssignedClientId(r.text()?),
            0x13 => Self::ServerKeepAlive(r.u16()?),
            0x15 => Self::AuthenticationMethod(r.text()?),
            0x16 => Self::AuthenticationData(r.binary()?),
            0x17 => Self::RequestProblemInformation(flag(r)?),
            0x18 => Self::WillDelay(r.u32()?),
            0x19 => Self::RequestResponseInformation(flag(r)?),
            0x1a => Self::ResponseInformation(r.text()?),
            0x1c => Self::ServerReference(r.text()?),
            0x1f => Self::ReasonString(r.text()?),
            0x21 => Self::ReceiveMaximum(
                NonZeroU16::new(r.u16()?).ok_or(const { DecodeError::protocol("receive maximum 0") })?,
            ),
            0x22 => Self::TopicAliasMaximum(r.u16()?),
            0x23 => Self::TopicAlias(topic_alias(r)?),
            0x24 => Self::MaximumQos(if flag(r)? { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            0x25 => Self::RetainAvailable(flag(r)?),
            USER => Self::User(r.text()?, r.text()?),
            0x27 => Self::MaximumPacketSize(
                NonZeroU32::new(r.u32()?).ok_or(const { DecodeError::protocol("maximum packet size 0") })?,
            ),
            0x28 => Self::WildcardSubscriptionAvailable(flag(r)?),
            0x29 => Self::SubscriptionIdsAvailable(flag(r)?),
            0x2a => Self::SharedSubscriptionAvailable(flag(r)?),
            _ => return Err(DecodeError::malformed("unknown property")),
        };
        Ok((id, property))
    }

    /// Appends the property, identifier and value.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match *self {
            Self::PayloadFormat(v) => put_byte(out, 0x01, v as u8),
            Self::MessageExpiry(v) => put_four(out, 0x02, v),
            Self::ContentType(v) => put_string(out, 0x03, v)?,
            Self::ResponseTopic(v) => {
                check_name(v).map_err(EncodeError::Invalid)?;
                put_string(out, 0x08, v)?;
            }
            Self::CorrelationData(v) => put_data(out, 0x09, v)?,
            Self::SubscriptionId(v) => {
                check_subscription_id(v)?;
                out.put_u8(SUBSCRIPTION_ID);
                put_varint(out, v as usize);
            }
            Self::SessionExpiry(v) => put_four(out, 0x11, v),
            Self::AssignedClientId(v) => put_string(out, 0x12, v)?,
            Self::ServerKeepAlive(v) => put_two(out, 0x13, v),
            Self::AuthenticationMethod(v) => put_string(out, 0x15, v)?,
            Self::AuthenticationData(v) => put_data(out, 0x16, v)?,
            Self::RequestProblemInformation(v) => put_byte(out, 0x17, v.into()),
            Self::WillDelay(v) => put_four(out, 0x18, v),
            Self::RequestResponseInformation(v) => put_byte(out, 0x19, v.into()),
            Self::ResponseInformation(v) => put_string(out, 0x1a, v)?,
            Self::ServerReference(v) => put_string(out, 0x1c, v)?,
            Self::ReasonString(v) => put_string(out, 0x1f, v)?,
            Self::ReceiveMaximum(v) => put_two(out, 0x21, v.get()),
            Self::TopicAliasMaximum(v) => put_two(out, 0x22, v),
            Self::TopicAlias(v) => put_two(out, 0x23, v),
            Self::MaximumQos(v) => put_byte(out, 0x24, v as u8),
            Self::RetainAvailable(v) => put_byte(out, 0x25, v.into()),
            Self::User(name, value) => {
                put_string(out, USER, name)?;
                put_text(out, value)?;
            }
            Self::MaximumPacketSize(v) => put_four(out, 0x27, v.get()),
            Self::WildcardSubscriptionAvailable(v) => put_byte(out, 0x28, v.into()),
            Self::SubscriptionIdsAvailable(v) => put_byte(out, 0x29, v.into()),
            Self::SharedSubscriptionAvailable(v) => put_byte(out, 0x2a, v.into()),
        }
        Ok(())
    }
}

fn flag(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("a property that is neither 0 nor 1")),
    }
}

fn response_topic<'a>(r: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = r.text()?;
    check_name(topic).map_err(|_| DecodeError::protocol("the response topic is empty or has wildcards"))?;
    Ok(topic)
}

fn subscription_id(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match r.varint()? {
        0 => Err(DecodeError::protocol("subscription identifier 0")),
        id => Ok(id),
    }
}

fn topic_alias(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match r.u16()? {
        0 => Err(DecodeError::with(ReasonCode::TOPIC_ALIAS_INVALID, "topic alias 0")),
        alias => Ok(alias),
    }
}

/// A subscription identifier is 1 to 268,435,455 (3.8.2.1.2).
pub(super) fn check_subscription_id(id: u32) -> Result<(), EncodeError> {
    if id == 0 || id as usize > MAX_REMAINING {
        return Err(EncodeError::Invalid("a subscription identifier out of range"));
    }
    Ok(())
}

fn put_byte(out: &mut BytesMut, id: u8, value: u8) {
    out.put_slice(&[id, value]);
}

fn put_two(out: &mut BytesMut, id: u8, value: u16) {
    out.put_u8(id);
    out.put_u16(value);
}

fn put_four(out: &mut BytesMut, id: u8, value: u32) {
    out.put_u8(id);
    out.put_u32(value);
}

fn put_string(out: &mut BytesMut, id: u8, value: &str) -> Result<(), EncodeError> {
    out.put_u8(id);
    put_text(out, value)
}

fn put_data(out: &mut BytesMut, id: u8, value: &[u8]) -> Result<(), EncodeError> {
    out.put_u8(id);
    put_binary(out, value)
}

/// Reads the properties in `bytes` (without their length), each at most once but for user properties and subscription
/// identifiers. `each` gets the property and the bytes from it on.
pub(super) fn each_property<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(Property<'a>, &'a [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut r = Reader::new(bytes);
    let mut seen = 0u64;
    while !r.is_empty() {
        let from = r.rest();
        let (id, property) = Property::read(&mut r)?;
        let bit = 1 << id;
        if seen & bit != 0 && id != USER && id != SUBSCRIPTION_ID {
            return Err(DecodeError::protocol("a property is there twice"));
        }
        seen |= bit;
        each(property, from)?;
    }
    Ok(())
}

/// Reads a packet's properties: their length, which is a bound, and each of them.
pub(super) fn read_properties<'a>(
    r: &mut Reader<'a>,
    mut each: impl FnMut(Property<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let len = r.varint()? as usize;
    each_property(r.take(len)?, |property, _| each(property))
}

/// Appends properties with their length in front.
pub(super) fn put_properties<'a>(
    out: &mut BytesMut,
    properties: impl Iterator<Item = Property<'a>>,
) -> Result<(), EncodeError> {
    let mut bytes = BytesMut::new();
    for property in properties {
        property.write(&mut bytes)?;
    }
    if bytes.len() > MAX_REMAINING {
        return Err(EncodeError::PacketTooLarge { size: bytes.len(), limit: super::MAX_PACKET });
    }
    put_varint(out, bytes.len());
    out.put_slice(&bytes);
    Ok(())
}

/// User properties as properties, in order.
pub(super) fn users(properties: &UserProperties) -> impl Iterator<Item = Property<'_>> {
    properties.iter().map(|(name, value)| Property::User(name, value))
}
