//! How a client subscribed, and how its session's shard keeps that.

use crate::mqtt::codec::QoS;

/// Options of one subscription (MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum QoS at which messages are delivered.
    pub qos: QoS,
    /// Whether the subscriber's own publishes are left out.
    pub no_local: bool,
    /// Whether RETAIN is forwarded as it was published.
    pub retain_as_published: bool,
    /// Subscription Identifier, if the client gave one.
    pub id: Option<u32>,
}

impl Options {
    /// As its session's shard keeps them: QoS, No Local, Retain As Published, and from bit 8 the identifier.
    pub fn to_bits(self) -> u64 {
        self.qos as u64
            | u64::from(self.no_local) << 2
            | u64::from(self.retain_as_published) << 3
            | u64::from(self.id.unwrap_or(0)) << 8
    }

    /// The inverse of [`Options::to_bits`]; what it does not know it ignores.
    pub fn from_bits(bits: u64) -> Self {
        let id = u32::try_from(bits >> 8).unwrap_or(0);
        Self {
            qos: QoS::from_u8((bits & 0b11) as u8).unwrap_or(QoS::ExactlyOnce),
            no_local: bits & 1 << 2 != 0,
            retain_as_published: bits & 1 << 3 != 0,
            id: (id > 0).then_some(id),
        }
    }
}
