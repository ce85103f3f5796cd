//! PUBLISH (3.3), owned: for clients, wills and tests. A broker's way through is borrowed, see `publish_ref`.

use bytes::Bytes;

use super::{PacketId, QoS, UserProperties};

/// A PUBLISH that owns its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Sent before; never with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retained, or to be retained.
    pub retain: bool,
    /// Empty only with a topic alias.
    pub topic: String,
    /// With QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// From 1. Version 5 only.
    pub topic_alias: Option<u16>,
    /// From a server only, 1 to 268,435,455 each. Version 5 only.
    pub subscription_ids: Vec<u32>,
    /// Version 5 only.
    pub properties: MessageProperties,
    /// Any bytes, none included.
    pub payload: Bytes,
}

/// The properties that belong to a message, not to one hop of it: a server passes them on unchanged, but for the
/// expiry, which shrinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// What the payload is said to be; nobody checked.
    pub payload_format: Option<PayloadFormat>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// A MIME type, or whatever the two ends agree on.
    pub content_type: Option<String>,
    /// A topic name: not empty, no wildcards.
    pub response_topic: Option<String>,
    /// Any bytes.
    pub correlation_data: Option<Bytes>,
    /// In order.
    pub user_properties: UserProperties,
}

/// What a payload is said to be (3.3.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Any bytes.
    Bytes = 0,
    /// UTF-8 text.
    Utf8 = 1,
}
