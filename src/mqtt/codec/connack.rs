//! CONNACK (3.2).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use super::auth::Redacted;
use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_reason;
use super::wire::Reader;
use super::{
    ConnectReturnCode, DecodeError, EncodeError, PacketType, QoS, ReasonCode, UserProperties, Version,
    connack_code_v311,
};

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

impl Connack {
    pub(super) fn read(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let flags = r.u8()?;
        if flags > 1 {
            return Err(DecodeError::malformed("reserved acknowledge flags"));
        }
        let session_present = flags == 1;
        let (reason, properties) = match version {
            Version::V311 => {
                let code = ConnectReturnCode::from_u8(r.u8()?).ok_or(DecodeError::protocol("unknown return code"))?;
                (code.reason(), ConnackProperties::default())
            }
            Version::V5 => (read_reason(r, PacketType::Connack)?, ConnackProperties::read(r)?),
        };
        if session_present && reason.is_error() {
            return Err(DecodeError::protocol("session present in a refusal"));
        }
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.session_present && self.reason.is_error() {
            return Err(EncodeError::Invalid("session present in a refusal"));
        }
        out.put_u8(self.session_present.into());
        match version {
            Version::V311 => {
                out.put_u8(connack_code_v311(self.reason));
                Ok(())
            }
            Version::V5 => {
                out.put_u8(self.reason.value());
                self.properties.write(out)
            }
        }
    }
}

impl ConnackProperties {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        read_properties(r, |property| {
            match property {
                Property::SessionExpiry(v) => p.session_expiry = Some(v),
                Property::ReceiveMaximum(v) => p.receive_maximum = Some(v),
                Property::MaximumQos(v) => p.maximum_qos = Some(v),
                Property::RetainAvailable(v) => p.retain_available = Some(v),
                Property::MaximumPacketSize(v) => p.maximum_packet_size = Some(v),
                Property::AssignedClientId(v) => p.assigned_client_id = Some(v.into()),
                Property::TopicAliasMaximum(v) => p.topic_alias_maximum = Some(v),
                Property::ReasonString(v) => p.reason_string = Some(v.into()),
                Property::User(name, value) => p.user_properties.push((name.into(), value.into())),
                Property::WildcardSubscriptionAvailable(v) => p.wildcard_subscription_available = Some(v),
                Property::SubscriptionIdsAvailable(v) => p.subscription_ids_available = Some(v),
                Property::SharedSubscriptionAvailable(v) => p.shared_subscription_available = Some(v),
                Property::ServerKeepAlive(v) => p.server_keep_alive = Some(v),
                Property::ResponseInformation(v) => p.response_information = Some(v.into()),
                Property::ServerReference(v) => p.server_reference = Some(v.into()),
                Property::AuthenticationMethod(v) => p.authentication_method = Some(v.into()),
                Property::AuthenticationData(v) => p.authentication_data = Some(Bytes::copy_from_slice(v)),
                _ => return Err(NOT_ALLOWED),
            }
            Ok(())
        })?;
        Ok(p)
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.maximum_qos == Some(QoS::ExactlyOnce) {
            return Err(EncodeError::Invalid("maximum qos is 0 or 1, or absent for 2"));
        }
        let own = [
            self.session_expiry.map(Property::SessionExpiry),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_qos.map(Property::MaximumQos),
            self.retain_available.map(Property::RetainAvailable),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.assigned_client_id.as_deref().map(Property::AssignedClientId),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.reason_string.as_deref().map(Property::ReasonString),
            self.wildcard_subscription_available.map(Property::WildcardSubscriptionAvailable),
            self.subscription_ids_available.map(Property::SubscriptionIdsAvailable),
            self.shared_subscription_available.map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive.map(Property::ServerKeepAlive),
            self.response_information.as_deref().map(Property::ResponseInformation),
            self.server_reference.as_deref().map(Property::ServerReference),
            self.authentication_method.as_deref().map(Property::AuthenticationMethod),
            self.authentication_data.as_deref().map(Property::AuthenticationData),
        ];
        put_properties(out, own.into_iter().flatten().chain(users(&self.user_properties)))
    }
}
