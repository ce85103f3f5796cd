//! PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): one shape.

use super::{PacketId, ReasonCode, UserProperties};

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
