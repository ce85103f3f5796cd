//! AUTH (3.15), version 5 only.

use std::fmt;

use bytes::Bytes;

use super::{ReasonCode, UserProperties};

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
