//! Bytes <-> packets, MQTT 3.1.1 and 5.0 as one set of types.
//!
//! A reader calls [`split`] on what arrived until it answers with a [`Frame`], then [`decode_publish`] for a PUBLISH
//! (borrowed, no allocation) or [`decode`] for everything else (owned). Both check all that one packet alone can tell
//! is wrong; what depends on the session (alias maximum, receive window, filter grammar) is the session's to check.
//! Section numbers in this room are those of MQTT 5.0 unless they say 3.1.1.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod property;
mod publish;
mod publish_ref;
mod reason;
mod subscribe;
mod topic;
mod types;
mod unsubscribe;
mod wire;

pub use ack::{Ack, ReasonProperties};
pub use auth::{Auth, AuthProperties};
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use error::{DecodeError, EncodeError};
pub use frame::{Frame, split};
pub use packet::{decode, encode, encode_within};
pub use publish::{MessageProperties, PayloadFormat, Publish};
pub use publish_ref::{
    Forwardable, PublishHead, PublishProperties, PublishRef, decode_publish, encode_publish, encode_publish_header,
    publish_len,
};
pub use reason::{ConnectReturnCode, ReasonCode, connack_code_v311, suback_code_v311};
pub use subscribe::{RetainHandling, Suback, Subscribe, SubscribeFilter};
pub use types::{Packet, PacketId, PacketType, QoS, Sender, UserProperties, Version};
pub use unsubscribe::{Unsuback, Unsubscribe};

/// Largest packet that the encoding can express: the fixed header (5 bytes) and 268,435,455 bytes.
pub const MAX_PACKET: usize = 5 + MAX_REMAINING;
/// Largest remaining length, and largest variable byte integer (1.5.5).
pub const MAX_REMAINING: usize = 268_435_455;

#[cfg(test)]
mod tests;
