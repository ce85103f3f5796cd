//! The settings of a node: one TOML file, environment variables (`ROOKERY_SECTION_KEY`) and flags
//! (`--section-key`) over the same table of fields. A later source overrides an earlier one: default, file,
//! environment, flag.
//!
//! [`FIELDS`] is the table: key, default, bounds and documentation of every setting. The reference page is
//! generated from it ([`reference()`]), the flags too ([`Flags`]); a section file turns its part into types.

mod api;
mod cluster;
mod defaults;
mod error;
mod field;
mod flags;
mod limits;
mod listeners;
mod log;
mod network;
mod node;
mod reference;
mod source;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

pub use api::{ApiConfig, ApiTls};
pub use cluster::ClusterConfig;
pub use defaults::{FIELDS, SECTIONS};
pub use error::ConfigError;
pub use field::{Field, Kind, MAX_LISTED, Section};
pub use flags::Flags;
pub use limits::LimitsConfig;
pub use listeners::{ListenersConfig, TlsFiles};
pub use log::{LogConfig, LogFormat};
pub use network::Network;
pub use node::NodeConfig;
pub use reference::reference;
pub use source::{Source, nearest};

use values::Values;

/// All settings of a node, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The node itself.
    pub node: NodeConfig,
    /// How it meets the other nodes.
    pub cluster: ClusterConfig,
    /// Where clients connect.
    pub listeners: ListenersConfig,
    /// Where administrators and monitoring connect.
    pub api: ApiConfig,
    /// Bounds that a machine's size decides.
    pub limits: LimitsConfig,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// The settings from `file` (none: defaults), the environment and `flags`.
    ///
    /// # Errors
    /// The first setting that is unknown, malformed, out of range, or at odds with another one.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut values = Values::defaults();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable { file: path.to_owned(), error: error.to_string() })?;
            source::from_toml(&mut values, path, &text)?;
        }
        source::from_environment(&mut values, environment)?;
        flags.apply(&mut values)?;
        Self::from_values(&values)
    }

    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let config = Self {
            node: NodeConfig::from_values(values)?,
            cluster: ClusterConfig::from_values(values)?,
            listeners: ListenersConfig::from_values(values)?,
            api: ApiConfig::from_values(values)?,
            limits: LimitsConfig::from_values(values)?,
            log: LogConfig::from_values(values)?,
        };
        config.check_ports(values)?;
        Ok(config)
    }

    /// No two TCP listeners may have the same address (port 0, "any free one", aside).
    fn check_ports(&self, values: &Values) -> Result<(), ConfigError> {
        let listeners = self.listeners.all().into_iter().flat_map(|(key, all)| all.iter().map(move |at| (key, *at)));
        let all: Vec<_> = listeners
            .chain([("cluster.listen", self.cluster.listen), ("api.grpc", self.api.grpc)])
            .chain(self.api.http.map(|at| ("api.http", at)))
            .collect();
        for (at, (key, a)) in all.iter().enumerate() {
            for (other, b) in &all[..at] {
                let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
                if a.port() != 0 && a.port() == b.port() && same_host {
                    return Err(values.refuse(key, format!("port {} is taken by {other} ({b})", a.port())));
                }
            }
        }
        Ok(())
    }
}
