//! What a node keeps of its membership, in its data directory:
//!
//! ```text
//! node.json              which node of which cluster it is; written last, so its presence means "joined"
//! pki/ca.crt             the authority's certificate
//! pki/node.crt           the node's certificate; replaced alone at a renewal, which keeps the key
//! pki/node.key           its private key
//! secrets/cluster.key    the cluster's secrets
//! ```
//!
//! Files have mode 0600, directories 0700. Each file is replaced whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::JoinError;
use crate::clock::{SharedClock, UnixMillis};
use crate::ids::{ClusterId, NodeId};
use crate::pki::{ClusterCa, ClusterSecrets, KeyAndRequest, NodeTls, PkiError};
use crate::rng::Rng;

const FORMAT: u32 = 1;
const NODE: &str = "node.json";
const CA: &str = "pki/ca.crt";
const CERTIFICATE: &str = "pki/node.crt";
const KEY: &str = "pki/node.key";
const SECRETS: &str = "secrets/cluster.key";

/// Everything that makes this node a member.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Peer ports as they were when it last knew: for the first contact, before the metadata tells.
    pub peers: BTreeMap<NodeId, String>,
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// This node's certificate, PEM.
    pub cert_pem: String,
    /// Its private key, PEM. Secret.
    pub key_pem: String,
    /// The cluster's secrets.
    pub secrets: ClusterSecrets,
}

#[derive(Serialize, Deserialize)]
struct NodeJson {
    format: u32,
    cluster: String,
    node: u64,
    name: String,
    peers: BTreeMap<u64, String>,
}

#[derive(Serialize, Deserialize)]
struct SecretsJson {
    format: u32,
    cluster_key: String,
    key_encryption_key: String,
}

impl NodeFiles {
    /// Founds a cluster of which this is node 1. The authority is returned: its key goes, encrypted, into the
    /// metadata, and into no file.
    pub fn found(
        name: &str,
        hosts: &[String],
        now: UnixMillis,
        rng: &dyn Rng,
    ) -> Result<(NodeFiles, ClusterCa), PkiError> {
        let (cluster, node) = (ClusterId(rng.u128()), NodeId(1));
        let ca = ClusterCa::generate(cluster, now, rng)?;
        let KeyAndRequest { key_pem, request_pem } = KeyAndRequest::generate()?;
        let cert_pem = ca.issue_node_cert(&request_pem, node, hosts, now, rng)?;
        let files = NodeFiles {
            cluster,
            node,
            name: name.to_owned(),
            peers: BTreeMap::new(),
            ca_pem: ca.cert_pem().to_owned(),
            cert_pem,
            key_pem,
            secrets: ClusterSecrets::generate(rng),
        };
        Ok((files, ca))
    }

    /// Reads them from the data directory; `None` if the node has joined no cluster yet.
    ///
    /// # Errors
    /// Where a file is missing or unreadable although `node.json` is there: a person has to look.
    pub fn load(data: &Path) -> io::Result<Option<NodeFiles>> {
        Self::parse(|name| fs::read_to_string(data.join(name)))
    }

    /// As [`NodeFiles::load`], from files that `read` gives by their names.
    ///
    /// # Errors
    /// As there.
    pub fn parse(read: impl Fn(&str) -> io::Result<String>) -> io::Result<Option<NodeFiles>> {
        let node: NodeJson = match read(NODE) {
            Ok(text) => parse(NODE, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(NODE, error)),
        };
        let read = |name| read(name).map_err(|error| named(name, error));
        let secrets: SecretsJson = parse(SECRETS, &read(SECRETS)?)?;
        check_format(NODE, node.format)?;
        check_format(SECRETS, secrets.format)?;
        Ok(Some(NodeFiles {
            cluster: node.cluster.parse().map_err(|e| invalid(NODE, e))?,
            node: NodeId(node.node),
            name: node.name,
            peers: node.peers.into_iter().map(|(id, at)| (NodeId(id), at)).collect(),
            ca_pem: read(CA)?,
            cert_pem: read(CERTIFICATE)?,
            key_pem: read(KEY)?,
            secrets: ClusterSecrets {
                cluster_key: unhex(&secrets.cluster_key)?,
                key_encryption_key: unhex(&secrets.key_encryption_key)?,
            },
        }))
    }

    /// Writes them; `node.json` last.
    ///
    /// # Errors
    /// Where the disk fails, or the directory belongs to a member already (`AlreadyExists`): joining twice
    /// would lose the first membership.
    pub fn store(&self, data: &Path) -> io::Result<()> {
        if data.join(NODE).exists() {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "this data directory belongs to a node already");
            return Err(named(NODE, error));
        }
        let secrets = SecretsJson {
            format: FORMAT,
            cluster_key: hex(&self.secrets.cluster_key),
            key_encryption_key: hex(&self.secrets.key_encryption_key),
        };
        write_atomic(&data.join(SECRETS), json(&secrets)?.as_bytes())?;
        write_atomic(&data.join(KEY), self.key_pem.as_bytes())?;
        write_atomic(&data.join(CERTIFICATE), self.cert_pem.as_bytes())?;
        write_atomic(&data.join(CA), self.ca_pem.as_bytes())?;
        self.store_peers(data, &self.peers)
    }

    /// Replaces what is written of the peers.
    ///
    /// # Errors
    /// Where the disk fails; what was written before is there.
    pub fn store_peers(&self, data: &Path, peers: &BTreeMap<NodeId, String>) -> io::Result<()> {
        let node = NodeJson {
            format: FORMAT,
            cluster: self.cluster.to_string(),
            node: self.node.0,
            name: self.name.clone(),
            peers: peers.iter().map(|(id, at)| (id.0, at.clone())).collect(),
        };
        write_atomic(&data.join(NODE), json(&node)?.as_bytes())
    }

    /// Replaces the certificate file.
    pub fn store_certificate(data: &Path, cert_pem: &str) -> io::Result<()> {
        write_atomic(&data.join(CERTIFICATE), cert_pem.as_bytes())
    }

    /// The TLS of this node.
    ///
    /// # Errors
    /// Where the files do not belong together.
    pub fn tls(&self, clock: SharedClock) -> Result<Arc<NodeTls>, JoinError> {
        let tls = NodeTls::new(self.cluster, self.node, &self.ca_pem, &self.cert_pem, &self.key_pem, clock)?;
        Ok(Arc::new(tls))
    }
}

impl std::fmt::Debug for NodeFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, node, name, .. } = self;
        f.debug_struct("NodeFiles")
            .field("cluster", cluster)
            .field("node", node)
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// Replaces the file at `path` by one of mode 0600 with `content`, whole or not at all, and on disk when this
/// returns. Missing directories are made with mode 0700.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file's path"))?;
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(parent)?.sync_all()
}

fn parse<T: for<'a> Deserialize<'a>>(name: &str, text: &str) -> io::Result<T> {
    serde_json::from_str(text).map_err(|e| invalid(name, e))
}

fn json<T: Serialize>(value: &T) -> io::Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(io::Error::other)
}

fn check_format(name: &str, format: u32) -> io::Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    Err(invalid(name, format!("format {format}, this program knows format {FORMAT}")))
}

fn invalid(name: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"))
}

fn named(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn hex(bytes: &[u8; 32]) -> String {
    crate::pki::CaHash(*bytes).to_string()
}

fn unhex(text: &str) -> io::Result<[u8; 32]> {
    text.parse::<crate::pki::CaHash>()
        .map(|hash| hash.0)
        .map_err(|_| invalid(SECRETS, "a key is 64 hexadecimal digits"))
}
