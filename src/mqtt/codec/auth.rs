//! AUTH (3.15), version 5 only.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::property::{NOT_ALLOWED, Property, put_properties, read_properties, users};
use super::reason::read_auth_reason;
use super::wire::Reader;
use super::{DecodeError, EncodeError, ReasonCode, Sender, UserProperties};

/// A step of an enhanced authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success (from the server), continue, or re-authenticate (from the client).
    pub reason: ReasonCode,
    /// The method is there in every AUTH but the shortest.
    pub properties: AuthProperties,
}

/// The properties of an AUTH.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthProperties {
    /// That of the CONNECT.
    pub authentication_method: Option<String>,
    /// What it holds is the method's business; a secret.
    pub authentication_data: Option<Bytes>,
    /// For a human's eyes.
    pub reason_string: Option<String>,
    /// In order.
    pub user_properties: UserProperties,
}

impl fmt::Debug for AuthProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthProperties")
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &Redacted::of(&self.authentication_data))
            .field("reason_string", &self.reason_string)
            .field("user_properties", &self.user_properties)
            .finish()
    }
}

/// Stands for a secret in `Debug` output: tells only whether there is one.
pub(super) struct Redacted(bool);

impl Redacted {
    pub(super) fn of<T>(secret: &Option<T>) -> Self {
        Self(secret.is_some())
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "Some(redacted)" } else { "None" })
    }
}

impl Auth {
    pub(super) fn read(r: &mut Reader<'_>, sender: Sender) -> Result<Self, DecodeError> {
        let reason = read_auth_reason(r, sender)?;
        let mut p = AuthProperties::default();
        if !r.is_empty() {
            read_properties(r, |property| {
                match property {
                    Property::AuthenticationMethod(v) => p.authentication_method = Some(v.into()),
                    Property::AuthenticationData(v) => p.authentication_data = Some(Bytes::copy_from_slice(v)),
                    Property::ReasonString(v) => p.reason_string = Some(v.into()),
                    Property::User(name, value) => p.user_properties.push((name.into(), value.into())),
                    _ => return Err(NOT_ALLOWED),
                }
                Ok(())
            })?;
        }
        // Only success may be short (3.15.2.1): everything else names its method (3.15.2.2.2).
        let short = reason == ReasonCode::SUCCESS && p == AuthProperties::default();
        if p.authentication_method.is_none() && !short {
            return Err(DecodeError::protocol("an auth without an authentication method"));
        }
        Ok(Self { reason, properties: p })
    }

    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let p = &self.properties;
        if self.reason == ReasonCode::SUCCESS && *p == AuthProperties::default() {
            return Ok(());
        }
        out.put_u8(self.reason.value());
        let own = [
            p.authentication_method.as_deref().map(Property::AuthenticationMethod),
            p.authentication_data.as_deref().map(Property::AuthenticationData),
            p.reason_string.as_deref().map(Property::ReasonString),
        ];
        put_properties(out, own.into_iter().flatten().chain(users(&p.user_properties)))
    }
}
