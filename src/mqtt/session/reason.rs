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

    /// The packet that tells the client, if its version has one.
    pub fn packet(self, version: Version) -> Option<Packet> {
        (version == Version::V5).then(|| Packet::Disconnect(Disconnect::new(self.reason)))
    }
}

impl From<DecodeError> for Ending {
    fn from(error: DecodeError) -> Self {
        Self { reason: error.reason, what: error.what }
    }
}
