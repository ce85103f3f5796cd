//! DISCONNECT (3.14).

use bytes::{BufMut, BytesMut};

use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_reason;
use super::wire::Reader;
use super::{DecodeError, EncodeError, PacketType, ReasonCode, Sender, UserProperties, Version};

/// The last packet of a connection. 3.1.1 knows only the client's, without reason and properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: DisconnectProperties,
}

impl Disconnect {
    /// A DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, properties: DisconnectProperties::default() }
    }
}

/// The properties of a DISCONNECT (3.14.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// Seconds; replaces that of the CONNECT. From the client only.
    pub session_expiry: Option<u32>,
    /// For a human's eyes.
    pub reason_string: Option<String>,
    /// In order.
    pub user_properties: UserProperties,
    /// Another server to use.
    pub server_reference: Option<String>,
}

impl Disconnect {
    pub(super) fn read(r: &mut Reader<'_>, version: Version, sender: Sender) -> Result<Self, DecodeError> {
        let mut disconnect = Self::default();
        if version == Version::V311 || r.is_empty() {
            return Ok(disconnect);
        }
        disconnect.reason = read_reason(r, PacketType::Disconnect)?;
        if r.is_empty() {
            return Ok(disconnect);
        }
        let p = &mut disconnect.properties;
        read_properties(r, |property| {
            match property {
                Property::SessionExpiry(_) if sender == Sender::Server => {
                    return Err(DecodeError::protocol("a server's disconnect has a session expiry"));
                }
                Property::SessionExpiry(v) => p.session_expiry = Some(v),
                Property::ReasonString(v) => p.reason_string = Some(v.into()),
                Property::User(name, value) => p.user_properties.push((name.into(), value.into())),
                Property::ServerReference(v) => p.server_reference = Some(v.into()),
                _ => return Err(NOT_ALLOWED),
            }
            Ok(())
        })?;
        Ok(disconnect)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let p = &self.properties;
        let bare = *p == DisconnectProperties::default();
        if version == Version::V311 || (bare && self.reason == ReasonCode::NORMAL_DISCONNECTION) {
            return Ok(());
        }
        out.put_u8(self.reason.value());
        // A Property Length of 0 could be left out (3.14.2.2.1), but many a client then reads no reason, or no packet.
        let own = [
            p.session_expiry.map(Property::SessionExpiry),
            p.reason_string.as_deref().map(Property::ReasonString),
            p.server_reference.as_deref().map(Property::ServerReference),
        ];
        put_properties(out, own.into_iter().flatten().chain(users(&p.user_properties)))
    }
}
