//! UNSUBSCRIBE and UNSUBACK (3.10, 3.11).

use super::{PacketId, ReasonCode, ReasonProperties, UserProperties};

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
