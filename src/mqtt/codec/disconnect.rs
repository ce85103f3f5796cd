//! DISCONNECT (3.14).

use super::{ReasonCode, UserProperties};

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
