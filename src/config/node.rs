//! Section `node`.

use std::path::PathBuf;

use super::error::ConfigError;
use super::values::Values;

/// Where Linux keeps the machine's host name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.name`, never empty.
    pub name: String,
    /// `node.data_dir`.
    pub data_dir: PathBuf,
    /// `node.domain`.
    pub domain: String,
    /// `node.workers`, at least 1: 0 is resolved to the number of cores.
    pub workers: usize,
    /// `node.region`.
    pub region: String,
    /// `node.zone`.
    pub zone: String,
}

impl NodeConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let data_dir = values
            .path("node.data_dir")
            .ok_or_else(|| values.refuse("node.data_dir", "a node needs a folder; it is empty".into()))?;
        let workers = match values.integer("node.workers")? {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given as usize,
        };
        Ok(Self {
            name: match values.text("node.name") {
                "" => host_name(),
                given => given.to_owned(),
            },
            data_dir,
            domain: values.text("node.domain").to_owned(),
            workers,
            region: values.text("node.region").to_owned(),
            zone: values.text("node.zone").to_owned(),
        })
    }
}

fn host_name() -> String {
    let text = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let name = text.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}
