//! CONNECT (3.1).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use super::auth::Redacted;
use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::topic::check_name;
use super::wire::{Reader, put_binary, put_text};
use super::{DecodeError, EncodeError, MessageProperties, QoS, ReasonCode, UserProperties, Version};

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

const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

impl Connect {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = read_version(r)?;
        Self::read_rest(r, version).map_err(|error| match version {
            Version::V5 => DecodeError { connack: Some(Version::V5), ..error },
            Version::V311 => error,
        })
    }

    fn read_rest(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let flags = read_flags(r, version)?;
        let mut connect = Self::new(version, "");
        connect.clean_start = flags & CLEAN_START != 0;
        connect.keep_alive = r.u16()?;
        if version == Version::V5 {
            connect.properties = ConnectProperties::read(r)?;
        }
        connect.client_id = r.text()?.into();
        if flags & WILL != 0 {
            connect.will = Some(Will::read(r, version, flags)?);
        }
        if flags & USER_NAME != 0 {
            connect.user_name = Some(r.text()?.into());
        }
        if flags & PASSWORD != 0 {
            connect.password = Some(Bytes::copy_from_slice(r.binary()?));
        }
        r.end()?;
        if version == Version::V311 && connect.client_id.is_empty() && !connect.clean_start {
            let error = DecodeError::with(ReasonCode::CLIENT_ID_INVALID, "an empty client id without clean session");
            return Err(DecodeError { connack: Some(Version::V311), ..error });
        }
        Ok(connect)
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.version == Version::V311 && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::Invalid("a password without a user name"));
        }
        put_text(out, "MQTT")?;
        out.put_u8(if self.version == Version::V5 { 5 } else { 4 });
        out.put_u8(self.flags());
        out.put_u16(self.keep_alive);
        if self.version == Version::V5 {
            self.properties.write(out)?;
        }
        put_text(out, &self.client_id)?;
        if let Some(will) = &self.will {
            will.write(self.version, out)?;
        }
        if let Some(user_name) = &self.user_name {
            put_text(out, user_name)?;
        }
        if let Some(password) = &self.password {
            put_binary(out, password)?;
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let mut flags = if self.clean_start { CLEAN_START } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            flags |= if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= if self.user_name.is_some() { USER_NAME } else { 0 };
        flags | if self.password.is_some() { PASSWORD } else { 0 }
    }
}

/// Protocol name and level (3.1.2.1, 3.1.2.2). Levels below 4, MQTT 3.1 by its old name and a bridge's (high bit set)
/// are told so in the 3.1.1 way, levels above 5 in the version 5 way; another name is not MQTT at all.
fn read_version(r: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = r.binary()?;
    let level = r.u8()?;
    let answer = match (name, level) {
        (b"MQTT", 4) => return Ok(Version::V311),
        (b"MQTT", 5) => return Ok(Version::V5),
        (b"MQTT", 0..4 | 0x80..) | (b"MQIsdp", _) => Some(Version::V311),
        (b"MQTT", _) => Some(Version::V5),
        _ => None,
    };
    let error = DecodeError::with(ReasonCode::UNSUPPORTED_VERSION, "neither mqtt 3.1.1 nor mqtt 5.0");
    Err(DecodeError { connack: answer, ..error })
}

fn read_flags(r: &mut Reader<'_>, version: Version) -> Result<u8, DecodeError> {
    let flags = r.u8()?;
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("reserved connect flag"));
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 0b11 << WILL_QOS_SHIFT) != 0 {
        return Err(DecodeError::malformed("will qos or will retain without a will"));
    }
    if version == Version::V311 && flags & (PASSWORD | USER_NAME) == PASSWORD {
        return Err(DecodeError::malformed("a password without a user name"));
    }
    Ok(flags)
}

impl Will {
    fn read(r: &mut Reader<'_>, version: Version, flags: u8) -> Result<Self, DecodeError> {
        let qos = QoS::from_u8((flags >> WILL_QOS_SHIFT) & 0b11).ok_or(DecodeError::malformed("will qos 3"))?;
        let mut delay = None;
        let mut properties = MessageProperties::default();
        if version == Version::V5 {
            read_properties(r, |property| match property {
                Property::WillDelay(v) => {
                    delay = Some(v);
                    Ok(())
                }
                other => properties.take(other),
            })?;
        }
        let topic = r.text()?;
        check_name(topic).map_err(|_| {
            DecodeError::with(ReasonCode::TOPIC_NAME_INVALID, "the will topic is empty or has wildcards")
        })?;
        let payload = Bytes::copy_from_slice(r.binary()?);
        Ok(Self { qos, retain: flags & WILL_RETAIN != 0, topic: topic.into(), payload, delay, properties })
    }

    fn write(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if version == Version::V5 {
            let delay = self.delay.map(Property::WillDelay);
            put_properties(out, delay.into_iter().chain(self.properties.all()))?;
        }
        check_name(&self.topic).map_err(EncodeError::Invalid)?;
        put_text(out, &self.topic)?;
        put_binary(out, &self.payload)
    }
}

impl ConnectProperties {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut p = Self::default();
        read_properties(r, |property| {
            match property {
                Property::SessionExpiry(v) => p.session_expiry = Some(v),
                Property::ReceiveMaximum(v) => p.receive_maximum = Some(v),
                Property::MaximumPacketSize(v) => p.maximum_packet_size = Some(v),
                Property::TopicAliasMaximum(v) => p.topic_alias_maximum = Some(v),
                Property::RequestResponseInformation(v) => p.request_response_information = Some(v),
                Property::RequestProblemInformation(v) => p.request_problem_information = Some(v),
                Property::User(name, value) => p.user_properties.push((name.into(), value.into())),
                Property::AuthenticationMethod(v) => p.authentication_method = Some(v.into()),
                Property::AuthenticationData(v) => p.authentication_data = Some(Bytes::copy_from_slice(v)),
                _ => return Err(NOT_ALLOWED),
            }
            Ok(())
        })?;
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication data without a method"));
        }
        Ok(p)
    }

    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(EncodeError::Invalid("authentication data without a method"));
        }
        let own = [
            self.session_expiry.map(Property::SessionExpiry),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.request_response_information.map(Property::RequestResponseInformation),
            self.request_problem_information.map(Property::RequestProblemInformation),
            self.authentication_method.as_deref().map(Property::AuthenticationMethod),
            self.authentication_data.as_deref().map(Property::AuthenticationData),
        ];
        put_properties(out, own.into_iter().flatten().chain(users(&self.user_properties)))
    }
}
