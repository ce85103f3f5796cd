//! Why a connection ends: one value from the fault to the packet that says so.

use crate::mqtt::codec::{DecodeError, Disconnect, Packet, ReasonCode, Version};

/// The end of a connection, decided by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason})")]
pub struct Ending {
    /// What DISCONNECT says (MQTT 5; a 3.1.1 client sees a closed socket).
    pub reason: ReasonCode,
    /// For the log.
    pub what: &'static str,
}

impl Ending {
    /// An ending with its reason.
    pub const fn with(reason: ReasonCode, what: &'static str) -> Self {
        Self { reason, what }
    }

    /// The packet that tells the client, if its version has one: with a reason string if it is `wanted` (MQTT 5
    /// §3.1.2.11.7), and with where else it may go, if that is known.
    pub fn packet(self, version: Version, wanted: bool, elsewhere: Option<&str>) -> Option<Packet> {
        let mut packet = Disconnect::new(self.reason);
        packet.properties.reason_string = wanted.then(|| self.what.to_owned());
        packet.properties.server_reference = elsewhere.map(str::to_owned);
        (version == Version::V5).then_some(Packet::Disconnect(packet))
    }
}

impl From<DecodeError> for Ending {
    fn from(error: DecodeError) -> Self {
        Self { reason: error.reason, what: error.what }
    }
}
