//! What can be wrong with bytes that came in, and with packets that are to go out.

use super::{ReasonCode, Version};

/// The sender's fault: the connection must be closed. The bytes stay with the caller; nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason})")]
pub struct DecodeError {
    /// What a version 5 DISCONNECT or CONNACK says; version 3.1.1 closes without a word.
    pub reason: ReasonCode,
    /// What is wrong, in a few words.
    pub what: &'static str,
    /// Set for some errors in a CONNECT: a CONNACK with `reason` may be sent in this version's format before closing
    /// (for 3.1.1 `connack_code_v311` gives the code: 0x01 or 0x02). Without it, close at once.
    pub connack: Option<Version>,
}

impl DecodeError {
    /// 0x81: bytes that cannot be parsed.
    pub const fn malformed(what: &'static str) -> Self {
        Self::with(ReasonCode::MALFORMED_PACKET, what)
    }

    /// 0x82: well formed, and not allowed.
    pub const fn protocol(what: &'static str) -> Self {
        Self::with(ReasonCode::PROTOCOL_ERROR, what)
    }

    /// Another reason.
    pub const fn with(reason: ReasonCode, what: &'static str) -> Self {
        Self { reason, what, connack: None }
    }
}

/// Our own fault, or that of whoever filled in the packet: nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field over 65,535 bytes.
    #[error("a string or binary field exceeds 65535 bytes")]
    FieldTooLong,
    /// Larger than the encoding can express, or than the limit that the caller named.
    #[error("the packet of {size} bytes exceeds {limit}")]
    PacketTooLarge {
        /// The whole packet, bytes.
        size: usize,
        /// The most that it may have, bytes.
        limit: usize,
    },
    /// A field's value that the standard does not allow.
    #[error("{0}")]
    Invalid(&'static str),
}
