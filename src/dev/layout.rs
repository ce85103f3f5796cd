//! Where `dev` keeps its nodes, and the settings it writes for them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rookery_cluster::join::write_atomic;

use super::{DevError, DevInfo, Ports};
use crate::config::{Config, Flags};

/// The folder of a `dev` cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// At `root`, made if missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(root: &Path) -> Result<Self, DevError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        let root = made.and_then(|()| root.canonicalize()).map_err(DevError::io(root))?;
        Ok(Self { root })
    }

    /// Where the running cluster is described.
    pub fn info_file(&self) -> PathBuf {
        self.root.join("dev.json")
    }

    /// The founder's API token.
    pub fn token_file(&self) -> PathBuf {
        self.root.join("api-token")
    }

    /// A client's token.
    pub fn credential_file(&self, client: &str) -> PathBuf {
        self.root.join("credentials").join(client)
    }

    /// The cluster's authority.
    pub fn ca_file(&self) -> PathBuf {
        self.node(1).join("pki/ca.crt")
    }

    /// A node's data folder.
    pub fn node(&self, id: u64) -> PathBuf {
        self.root.join(format!("node-{id}"))
    }

    /// A node's settings.
    pub fn config_file(&self, id: u64) -> PathBuf {
        self.root.join(format!("node-{id}.toml"))
    }

    /// What a node's process prints.
    pub fn log_file(&self, id: u64) -> PathBuf {
        self.root.join(format!("node-{id}.log"))
    }

    /// How many nodes were set up.
    pub fn nodes(&self) -> u64 {
        (1..).take_while(|id| self.config_file(*id).exists()).count() as u64
    }

    /// Writes a node's settings.
    pub fn write_config(&self, id: u64, ports: &Ports) -> Result<(), DevError> {
        let path = self.config_file(id);
        let data = toml::Value::String(self.node(id).display().to_string());
        let text = format!(
            "# Written by `rookery dev`; edit as you like, it is written once.\n\
             [node]\nname = \"node-{id}\"\ndata_dir = {data}\n\n\
             [cluster]\nlisten = \"127.0.0.1:{}\"\n\n\
             [listeners]\nmqtt = \"127.0.0.1:{}\"\nmqtts = \"127.0.0.1:{}\"\nws = \"127.0.0.1:{}\"\n\
             wss = \"127.0.0.1:{}\"\n\n[api]\ngrpc = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n",
            ports.cluster, ports.mqtt, ports.mqtts, ports.ws, ports.wss, ports.grpc, ports.http
        );
        write_atomic(&path, text.as_bytes()).map_err(DevError::io(&path))
    }

    /// A node's settings as its process will read them.
    pub fn config(&self, id: u64) -> Result<Config, DevError> {
        let path = self.config_file(id);
        Config::load(Some(&path), [], &Flags::default())
            .map_err(|error| DevError::Settings { node: id, why: error.to_string() })
    }

    /// Writes a file that only its owner reads.
    pub fn write_secret(&self, path: &Path, content: &str) -> Result<(), DevError> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = path.parent().unwrap_or(&self.root);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(DevError::io(folder))?;
        write_atomic(path, content.as_bytes()).map_err(DevError::io(path))
    }

    /// The cluster as the last run described it.
    pub fn read_info(&self) -> Option<DevInfo> {
        let text = fs::read_to_string(self.info_file()).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Describes the running cluster.
    pub fn write_info(&self, info: &DevInfo) -> Result<(), DevError> {
        let path = self.info_file();
        let text = serde_json::to_string(info).map_err(io::Error::other).map_err(DevError::io(&path))?;
        self.write_secret(&path, &text)
    }
}
