//! SUBSCRIBE and SUBACK (3.8, 3.9).

use bytes::{BufMut, BytesMut};

use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_reason;
use super::wire::{Reader, put_text};
use super::{
    DecodeError, EncodeError, PacketId, PacketType, QoS, ReasonCode, ReasonProperties, UserProperties, Version,
    suback_code_v311,
};

/// A request for subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// SUBACK repeats it.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<SubscribeFilter>,
    /// 1 to 268,435,455, for all filters of the packet. Version 5 only.
    pub subscription_id: Option<u32>,
    /// In order. Version 5 only.
    pub user_properties: UserProperties,
}

/// One subscription asked for. In 3.1.1 only filter and QoS are on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// UTF-8 without U+0000; its grammar is not checked here.
    pub filter: String,
    /// Highest QoS that the client wants.
    pub qos: QoS,
    /// Not what this client published itself; never with a shared filter.
    pub no_local: bool,
    /// Forward RETAIN as published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

impl SubscribeFilter {
    /// A subscription with this QoS and no other options.
    pub fn new(filter: impl Into<String>, qos: QoS) -> Self {
        Self {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::default(),
        }
    }
}

/// When a subscription gets the retained messages (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Always = 0,
    /// When the subscription did not exist.
    IfNew = 1,
    /// Not at all.
    Never = 2,
}

impl RetainHandling {
    /// 0, 1 or 2; nothing for 3 and up.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Always),
            1 => Some(Self::IfNew),
            2 => Some(Self::Never),
            _ => None,
        }
    }
}

/// The answer to a SUBSCRIBE. For 3.1.1 every failure is written as 0x80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    /// That of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Version 5 only.
    pub properties: ReasonProperties,
}

impl Subscribe {
    pub(super) fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let mut subscribe = Self {
            packet_id: r.packet_id()?,
            filters: Vec::new(),
            subscription_id: None,
            user_properties: UserProperties::new(),
        };
        if version == Version::V5 {
            read_properties(r, |property| {
                match property {
                    Property::SubscriptionId(_) if subscribe.subscription_id.is_some() => {
                        return Err(DecodeError::protocol("a property is there twice"));
                    }
                    Property::SubscriptionId(v) => subscribe.subscription_id = Some(v),
                    Property::User(name, value) => subscribe.user_properties.push((name.into(), value.into())),
                    _ => return Err(NOT_ALLOWED),
                }
                Ok(())
            })?;
        }
        if r.is_empty() {
            return Err(DecodeError::protocol("a subscribe without filters"));
        }
        while !r.is_empty() {
            subscribe.filters.push(SubscribeFilter::read(r, version)?);
        }
        Ok(subscribe)
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Invalid("a subscribe without filters"));
        }
        out.put_u16(self.packet_id.get());
        if version == Version::V5 {
            let id = self.subscription_id.map(Property::SubscriptionId);
            put_properties(out, id.into_iter().chain(users(&self.user_properties)))?;
        }
        self.filters.iter().try_for_each(|filter| filter.write(version, out))
    }
}

impl SubscribeFilter {
    fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let filter = r.text()?;
        let options = r.u8()?;
        let reserved = if version == Version::V5 { 0b1100_0000 } else { 0b1111_1100 };
        if options & reserved != 0 {
            return Err(DecodeError::malformed("reserved subscription options"));
        }
        let subscription = Self {
            filter: filter.into(),
            qos: QoS::from_u8(options & 0b11).ok_or(DecodeError::protocol("a subscription asks for qos 3"))?,
            no_local: options & 0b100 != 0,
            retain_as_published: options & 0b1000 != 0,
            retain_handling: RetainHandling::from_u8(options >> 4)
                .ok_or(DecodeError::protocol("a subscription asks for retain handling 3"))?,
        };
        if subscription.no_local && filter.starts_with("$share/") {
            return Err(DecodeError::protocol("no local on a shared subscription"));
        }
        Ok(subscription)
    }

    fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_text(out, &self.filter)?;
        let mut options = self.qos as u8;
        if version == Version::V5 {
            if self.no_local && self.filter.starts_with("$share/") {
                return Err(EncodeError::Invalid("no local on a shared subscription"));
            }
            options |= u8::from(self.no_local) << 2;
            options |= u8::from(self.retain_as_published) << 3;
            options |= (self.retain_handling as u8) << 4;
        }
        out.put_u8(options);
        Ok(())
    }
}

impl Suback {
    pub(super) fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let packet_id = r.packet_id()?;
        let properties = match version {
            Version::V311 => ReasonProperties::default(),
            Version::V5 => ReasonProperties::read(r)?,
        };
        let mut reasons = Vec::with_capacity(r.rest().len());
        while !r.is_empty() {
            let reason = read_reason(r, PacketType::Suback)?;
            if version == Version::V311 && reason.is_error() && reason != ReasonCode::UNSPECIFIED_ERROR {
                return Err(DecodeError::protocol("a suback return code that 3.1.1 does not have"));
            }
            reasons.push(reason);
        }
        if reasons.is_empty() {
            return Err(DecodeError::protocol("a suback without reason codes"));
        }
        Ok(Self { packet_id, reasons, properties })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.reasons.is_empty() {
            return Err(EncodeError::Invalid("a suback without reason codes"));
        }
        out.put_u16(self.packet_id.get());
        match version {
            Version::V311 => self.reasons.iter().for_each(|&reason| out.put_u8(suback_code_v311(reason))),
            Version::V5 => {
                self.properties.write(out)?;
                self.reasons.iter().for_each(|reason| out.put_u8(reason.value()));
            }
        }
        Ok(())
    }
}
