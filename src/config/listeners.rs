//! Section `listeners`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::ConfigError;
use super::values::Values;

/// Where MQTT clients connect; `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenersConfig {
    /// `listeners.mqtt`.
    pub mqtt: Option<SocketAddr>,
    /// `listeners.mqtts`.
    pub mqtts: Option<SocketAddr>,
    /// `listeners.ws`.
    pub ws: Option<SocketAddr>,
    /// `listeners.wss`.
    pub wss: Option<SocketAddr>,
    /// `listeners.tls_cert` and `listeners.tls_key`; `None`: a certificate of the cluster's authority.
    pub tls: Option<TlsFiles>,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the leaf first.
    pub cert: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

impl ListenersConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let tls = match (values.path("listeners.tls_cert"), values.path("listeners.tls_key")) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(values.refuse("listeners.tls_cert", "needs listeners.tls_key as well".into()));
            }
            (None, Some(_)) => {
                return Err(values.refuse("listeners.tls_key", "needs listeners.tls_cert as well".into()));
            }
        };
        Ok(Self {
            mqtt: values.listener("listeners.mqtt")?,
            mqtts: values.listener("listeners.mqtts")?,
            ws: values.listener("listeners.ws")?,
            wss: values.listener("listeners.wss")?,
            tls,
        })
    }
}
