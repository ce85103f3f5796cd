//! Section `api`.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::values::Values;

/// Where administrators and monitoring connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// `api.grpc`.
    pub grpc: SocketAddr,
    /// `api.tls`.
    pub tls: ApiTls,
    /// `api.http`; `None` is off.
    pub http: Option<SocketAddr>,
}

/// Whether the administration API uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiTls {
    /// Unless it listens on loopback.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl ApiConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let tls = match values.text("api.tls") {
            "on" => ApiTls::On,
            "off" => ApiTls::Off,
            _ => ApiTls::Auto,
        };
        Ok(Self { grpc: values.address("api.grpc")?, tls, http: values.listener("api.http")? })
    }

    /// Whether `api.grpc` uses TLS.
    pub fn uses_tls(&self) -> bool {
        match self.tls {
            ApiTls::On => true,
            ApiTls::Off => false,
            ApiTls::Auto => !self.grpc.ip().is_loopback(),
        }
    }
}
