//! Section `limits`.

use std::time::Duration;

use super::error::ConfigError;
use super::values::Values;

/// Bounds that the size of the machine decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// `limits.connections`: of clients, on this node.
    pub connections: usize,
    /// `limits.connections_per_address`: of these, of one source address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// `limits.buffer_mib`, in bytes.
    pub buffers: usize,
    /// `limits.sys_interval`; `None`: off.
    pub sys_interval: Option<Duration>,
}

impl LimitsConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let mib = values.integer("limits.buffer_mib")?;
        Ok(Self {
            connections: values.integer("limits.connections")? as usize,
            connections_per_address: values.integer("limits.connections_per_address")? as usize,
            sys_interval: match values.integer("limits.sys_interval")? {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            buffers: usize::try_from(mib << 20).unwrap_or(usize::MAX),
        })
    }
}
