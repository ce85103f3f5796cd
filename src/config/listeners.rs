//! Section `listeners`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::ConfigError;
use super::network::Network;
use super::values::Values;

/// Where MQTT clients connect; no address is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenersConfig {
    /// `listeners.mqtt`.
    pub mqtt: Vec<SocketAddr>,
    /// `listeners.mqtts`.
    pub mqtts: Vec<SocketAddr>,
    /// `listeners.ws`.
    pub ws: Vec<SocketAddr>,
    /// `listeners.wss`.
    pub wss: Vec<SocketAddr>,
    /// `listeners.tls_cert` and `listeners.tls_key`; `None`: a certificate of the cluster's authority.
    pub tls: Option<TlsFiles>,
    /// `listeners.proxy`: those of the addresses above where connections begin with a PROXY header.
    pub proxy: Vec<SocketAddr>,
    /// `listeners.proxy_from`: who may connect there.
    pub proxy_from: Vec<Network>,
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
        let config = Self {
            mqtt: values.listeners("listeners.mqtt")?,
            mqtts: values.listeners("listeners.mqtts")?,
            ws: values.listeners("listeners.ws")?,
            wss: values.listeners("listeners.wss")?,
            tls,
            proxy: values.listeners("listeners.proxy")?,
            proxy_from: values.networks("listeners.proxy_from")?,
        };
        config.check_proxy(values)?;
        Ok(config)
    }

    /// The kinds of listeners, each with the setting that opens it.
    pub fn all(&self) -> [(&'static str, &[SocketAddr]); 4] {
        [
            ("listeners.mqtt", &self.mqtt),
            ("listeners.mqtts", &self.mqtts),
            ("listeners.ws", &self.ws),
            ("listeners.wss", &self.wss),
        ]
    }

    fn check_proxy(&self, values: &Values) -> Result<(), ConfigError> {
        let listens = |at: &SocketAddr| self.all().iter().any(|(_, all)| all.contains(at));
        if let Some(at) = self.proxy.iter().find(|at| !listens(at)) {
            return Err(values.refuse("listeners.proxy", format!("no listener has the address {at}")));
        }
        if !self.proxy.is_empty() && self.proxy_from.is_empty() {
            return Err(values.refuse("listeners.proxy", "needs listeners.proxy_from as well".into()));
        }
        Ok(())
    }
}
