//! UNSUBSCRIBE and UNSUBACK (3.10, 3.11).

use bytes::{BufMut, BytesMut};

use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_reason;
use super::wire::{Reader, put_text};
use super::{DecodeError, EncodeError, PacketId, PacketType, ReasonCode, ReasonProperties, UserProperties, Version};

/// A request to end subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// UNSUBACK repeats it.
    pub packet_id: PacketId,
    /// At least one; UTF-8 without U+0000, their grammar is not checked here.
    pub filters: Vec<String>,
    /// In order. Version 5 only.
    pub user_properties: UserProperties,
}

/// The answer to an UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback {
    /// That of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order; 3.1.1 has none on the wire.
    pub reasons: Vec<ReasonCode>,
    /// Version 5 only.
    pub properties: ReasonProperties,
}

impl Unsubscribe {
    pub(super) fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = r.packet_id()?;
        let mut user_properties = UserProperties::new();
        if version == Version::V5 {
            read_properties(r, |property| match property {
                Property::User(name, value) => {
                    user_properties.push((name.into(), value.into()));
                    Ok(())
                }
                _ => Err(NOT_ALLOWED),
            })?;
        }
        let mut filters = Vec::new();
        while !r.is_empty() {
            filters.push(r.text()?.into());
        }
        if filters.is_empty() {
            return Err(DecodeError::protocol("an unsubscribe without filters"));
        }
        Ok(Self { packet_id, filters, user_properties })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Invalid("an unsubscribe without filters"));
        }
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            put_properties(out, users(&self.user_properties))?;
        }
        self.filters.iter().try_for_each(|filter| put_text(out, filter))
    }
}

impl Unsuback {
    pub(super) fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = r.packet_id()?;
        let mut unsuback = Self { packet_id, reasons: Vec::new(), properties: ReasonProperties::default() };
        if version == Version::V311 {
            return Ok(unsuback);
        }
        unsuback.properties = ReasonProperties::read(r)?;
        while !r.is_empty() {
            unsuback.reasons.push(read_reason(r, PacketType::Unsuback)?);
        }
        if unsuback.reasons.is_empty() {
            return Err(DecodeError::protocol("an unsuback without reason codes"));
        }
        Ok(unsuback)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.packet_id.get());
        if version == Version::V311 {
            return Ok(());
        }
        if self.reasons.is_empty() {
            return Err(EncodeError::Invalid("an unsuback without reason codes"));
        }
        self.properties.write(out)?;
        self.reasons.iter().for_each(|reason| out.put_u8(reason.value()));
        Ok(())
    }
}
