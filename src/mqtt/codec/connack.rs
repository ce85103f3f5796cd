//! CONNACK (3.2).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;

use super::auth::Redacted;
use super::{QoS, ReasonCode, UserProperties};

/// The answer to a CONNECT. For 3.1.1 the reason is written as `connack_code_v311` says, and the properties are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Whether the server kept the session; false whenever the reason is not success.
    pub session_present: bool,
    /// Success, or why not.
    pub reason: ReasonCode,
    /// Version 5 only.
    pub properties: ConnackProperties,
}

impl Connack {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, reason: ReasonCode) -> Self {
        Self { session_present, reason, properties: ConnackProperties::default() }
    }
}

/// The properties of a CONNACK (3.2.2.3).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnackProperties {
    /// Seconds; absent: what the client asked for.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets that the server takes unacknowledged; absent: 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// QoS 0 or 1; absent: 2.
    pub maximum_qos: Option<QoS>,
    /// Absent: yes.
    pub retain_available: Option<bool>,
    /// Whole packets, bytes; absent: no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client ID that the server made up.
    pub assigned_client_id: Option<String>,
    /// Highest alias that the client may send; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// For a human's eyes.
    pub reason_string: Option<String>,
    /// In order.
    pub user_properties: UserProperties,
    /// Absent: yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Absent: yes.
    pub subscription_ids_available: Option<bool>,
    /// Absent: yes.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; replaces the client's own.
    pub server_keep_alive: Option<u16>,
    /// Basis of the client's response topics.
    pub response_information: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// That of the CONNECT.
    pub authentication_method: Option<String>,
    /// A secret.
    pub authentication_data: Option<Bytes>,
}

impl fmt::Debug for ConnackProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnackProperties")
            .field("session_expiry", &self.session_expiry)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_qos", &self.maximum_qos)
            .field("retain_available", &self.retain_available)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("assigned_client_id", &self.assigned_client_id)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("reason_string", &self.reason_string)
            .field("user_properties", &self.user_properties)
            .field("wildcard_subscription_available", &self.wildcard_subscription_available)
            .field("subscription_ids_available", &self.subscription_ids_available)
            .field("shared_subscription_available", &self.shared_subscription_available)
            .field("server_keep_alive", &self.server_keep_alive)
            .field("response_information", &self.response_information)
            .field("server_reference", &self.server_reference)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &Redacted::of(&self.authentication_data))
            .finish()
    }
}
