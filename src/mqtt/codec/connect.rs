//! CONNECT (3.1).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;

use super::auth::Redacted;
use super::{MessageProperties, QoS, UserProperties, Version};

/// The first packet of a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The connection's version from here on.
    pub version: Version,
    /// Clean Start in version 5, Clean Session in 3.1.1.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty: then the server makes one up (in 3.1.1 only with `clean_start`).
    pub client_id: String,
    /// What to publish when the client is lost.
    pub will: Option<Will>,
    /// An empty one is not the same as none.
    pub user_name: Option<String>,
    /// Any bytes; a secret. In 3.1.1 only with a user name.
    pub password: Option<Bytes>,
    /// Version 5 only.
    pub properties: ConnectProperties,
}

/// The properties of a CONNECT (3.1.2.11).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds; absent: 0; `u32::MAX`: never.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets that the client takes unacknowledged; absent: 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Whole packets, bytes; absent: no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Highest alias that the server may send; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// Absent: no.
    pub request_response_information: Option<bool>,
    /// Absent: yes.
    pub request_problem_information: Option<bool>,
    /// In order.
    pub user_properties: UserProperties,
    /// Starts an enhanced authentication.
    pub authentication_method: Option<String>,
    /// A secret; only with a method.
    pub authentication_data: Option<Bytes>,
}

/// A will message (3.1.3.2 to 3.1.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether to publish it as a retained message.
    pub retain: bool,
    /// A topic name: not empty, no wildcards.
    pub topic: String,
    /// Any bytes, none included.
    pub payload: Bytes,
    /// Seconds to wait before publishing; absent: 0. Version 5 only.
    pub delay: Option<u32>,
    /// Version 5 only.
    pub properties: MessageProperties,
}

impl Connect {
    /// A CONNECT with a clean start and nothing optional.
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id: client_id.into(),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("password", &Redacted::of(&self.password))
            .field("properties", &self.properties)
            .finish()
    }
}

impl fmt::Debug for ConnectProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProperties")
            .field("session_expiry", &self.session_expiry)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("request_response_information", &self.request_response_information)
            .field("request_problem_information", &self.request_problem_information)
            .field("user_properties", &self.user_properties)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &Redacted::of(&self.authentication_data))
            .finish()
    }
}
