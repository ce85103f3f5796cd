//! PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): one shape.

use bytes::{BufMut, BytesMut};

use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_reason;
use super::wire::{Reader, put_packet};
use super::{DecodeError, EncodeError, PacketId, PacketType, ReasonCode, UserProperties, Version};

/// The properties of every acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties {
    /// For a human's eyes; left out when the packet would exceed the receiver's Maximum Packet Size.
    pub reason_string: Option<String>,
    /// Left out likewise.
    pub user_properties: UserProperties,
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP. 3.1.1 has neither reason nor properties: they are not written, and read as
/// success and nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// That of the PUBLISH.
    pub packet_id: PacketId,
    /// Success, or why not.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: ReasonProperties,
}

impl Ack {
    /// An acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: ReasonProperties::default() }
    }
}

impl ReasonProperties {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        read_properties(r, |property| {
            match property {
                Property::ReasonString(v) => p.reason_string = Some(v.into()),
                Property::User(name, value) => p.user_properties.push((name.into(), value.into())),
                _ => return Err(NOT_ALLOWED),
            }
            Ok(())
        })?;
        Ok(p)
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let reason = self.reason_string.as_deref().map(Property::ReasonString);
        put_properties(out, reason.into_iter().chain(users(&self.user_properties)))
    }

    fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

impl Ack {
    pub(super) fn read(r: &mut Reader<'_>, kind: PacketType, version: Version) -> Result<Self, DecodeError> {
        let mut ack = Self::new(r.packet_id()?, ReasonCode::SUCCESS);
        if version == Version::V5 && !r.is_empty() {
            ack.reason = read_reason(r, kind)?;
            if !r.is_empty() {
                ack.properties = ReasonProperties::read(r)?;
            }
        }
        Ok(ack)
    }

    /// Writes the shortest form (3.4.2.1, 3.4.2.2.1), without a detour unless there are properties.
    pub(super) fn write(&self, kind: PacketType, version: Version, out: &mut BytesMut) -> Result<usize, EncodeError> {
        let first_byte = (kind as u8) << 4 | kind.fixed_flags().unwrap_or(0);
        let [high, low] = self.packet_id.get().to_be_bytes();
        let body = [high, low, self.reason.value()];
        if version == Version::V311 || (self.properties.is_empty() && self.reason == ReasonCode::SUCCESS) {
            return put_packet(out, first_byte, &body[..2]);
        }
        if self.properties.is_empty() {
            return put_packet(out, first_byte, &body);
        }
        let mut long = BytesMut::new();
        long.put_slice(&body);
        self.properties.write(&mut long)?;
        put_packet(out, first_byte, &long)
    }
}
