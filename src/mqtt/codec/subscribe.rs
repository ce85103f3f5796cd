//! SUBSCRIBE and SUBACK (3.8, 3.9).

use super::{PacketId, QoS, ReasonCode, ReasonProperties, UserProperties};

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
