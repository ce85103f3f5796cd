//! Founding a cluster (`rookery cluster init`) and joining one (`rookery cluster join`): what is written to the data
//! folder before the node is ever served.
//!
//! A founder's secrets exist before its metadata group does. What that group must hold first waits in a file, and is
//! proposed, once, when the node first serves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rookery_cluster::clock::{SharedClock, UnixMillis};
use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::{AccountId, GroupId, RequestId, TokenId};
use rookery_cluster::join::{self, JoinError, JoinToken, Joining, NodeFiles, PEER_ADDRESS, write_atomic};
use rookery_cluster::limits::PROPOSE_TIMEOUT;
use rookery_cluster::metadata::{CommandBody, DEFAULT_MAX_NAMESPACES, Metadata, Outcome, Scope};
use rookery_cluster::net::TokioNet;
use rookery_cluster::pki::request_key_hash;
use rookery_cluster::rng::Rng;
use rookery_raft::{Groups, InitError};
use serde::{Deserialize, Serialize};

use super::NodeError;
use crate::auth::{Sealer, new_api_token};
use crate::config::Config;

/// What the first start proposes.
const FOUNDING: &str = "founding.json";
/// How long the join token that `init` prints is good for (R20: short-lived).
pub const JOIN_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// How many nodes it admits.
pub const JOIN_TOKEN_USES: u32 = 16;
/// What the authority's key is sealed for: it opens for nothing else.
pub const CA_KEY_PURPOSE: &[u8] = b"rookery/ca-key";
/// Tries of one proposal while the new group finds its leader.
const TRIES: u32 = 20;

/// A cluster that was just founded.
pub struct Founded {
    /// Lets other nodes join; a secret.
    pub join_token: String,
    /// When that ends.
    pub join_token_expires: UnixMillis,
    /// Administers everything; a secret that is kept nowhere else.
    pub api_token: String,
}

#[derive(Serialize, Deserialize)]
struct Founding {
    format: u32,
    sealed_ca_key: Vec<u8>,
    shards: u32,
    node_name: String,
    node_key_hash: [u8; 32],
    join_hash: [u8; 32],
    join_expires: UnixMillis,
    api_token: TokenId,
    api_hash: [u8; 32],
    account: AccountId,
    /// Identifies the first of the proposals; the others count up.
    request: RequestId,
}

/// Makes a cluster of which this node is the first; writes the data folder.
///
/// # Errors
/// Nothing was written, or the folder belongs to a member already.
pub fn init(config: &Config, clock: &SharedClock, rng: &dyn Rng) -> Result<Founded, NodeError> {
    let data = &config.node.data_dir;
    if NodeFiles::load(data).map_err(NodeError::Files)?.is_some() {
        return Err(NodeError::Member(data.clone()));
    }
    let now = clock.wall();
    let (files, ca) = NodeFiles::found(&config.node.name, &hosts(config), now, rng)?;
    let sealer = Sealer::new(files.secrets.key_encryption_key, &[]);
    let expires = UnixMillis(now.0 + JOIN_TOKEN_LIFETIME.as_millis() as u64);
    let join_token = JoinToken::generate(ca.hash(), expires, rng);
    let api = new_api_token(rng);
    let founding = Founding {
        format: 1,
        sealed_ca_key: sealer.seal(CA_KEY_PURPOSE, ca.key_pem().as_bytes(), rng),
        shards: config.cluster.shards,
        node_name: files.name.clone(),
        node_key_hash: key_hash(&files)?,
        join_hash: join_token.secret_hash(),
        join_expires: expires,
        api_token: api.id,
        api_hash: api.hash,
        account: AccountId(rng.u128()),
        request: RequestId(rng.u128()),
    };
    let json = serde_json::to_vec(&founding).map_err(io::Error::other).map_err(NodeError::Files)?;
    make_private(data).map_err(NodeError::Files)?;
    write_atomic(&data.join(FOUNDING), &json).map_err(NodeError::Files)?;
    files.store(data).map_err(NodeError::Files)?;
    Ok(Founded { join_token: join_token.to_string(), join_token_expires: expires, api_token: api.text })
}

fn make_private(data: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)
}

fn key_hash(files: &NodeFiles) -> Result<[u8; 32], NodeError> {
    let request = rookery_cluster::pki::KeyAndRequest::for_key(&files.key_pem)?;
    Ok(request_key_hash(&request.request_pem)?)
}

/// Asks the member at `at` to let this node in; writes the data folder.
///
/// # Errors
/// Nothing was written, or the folder belongs to a member already.
pub async fn join(config: &Config, clock: SharedClock, at: &str, token: &str) -> Result<NodeFiles, NodeError> {
    let data = &config.node.data_dir;
    if NodeFiles::load(data).map_err(NodeError::Files)?.is_some() {
        return Err(NodeError::Member(data.clone()));
    }
    let token: JoinToken = token.parse().map_err(JoinError::BadToken)?;
    let advertised = config.cluster.advertised(config.cluster.listen);
    let joining = Joining {
        name: config.node.name.clone(),
        addresses: BTreeMap::from([(PEER_ADDRESS.to_owned(), advertised)]),
        hosts: hosts(config),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: config.node.region.clone(),
        zone: config.node.zone.clone(),
    };
    let files = join::join(&TokioNet, clock, at, &token, joining).await?;
    make_private(data).map_err(NodeError::Files)?;
    files.store(data).map_err(NodeError::Files)?;
    Ok(files)
}

/// Names and addresses of this node's certificate, besides its internal name and the local host.
pub fn hosts(config: &Config) -> Vec<String> {
    let advertised = config.cluster.advertised(config.cluster.listen);
    let host = advertised.parse::<SocketAddr>().map(|at| at.ip().to_string()).ok();
    let host = host.or_else(|| advertised.rsplit_once(':').map(|(host, _)| host.to_owned()));
    host.into_iter().collect()
}

/// On a founder's first start: gives the new groups their first member and the metadata its first content. Repeats
/// harmlessly after a crash.
///
/// # Errors
/// The node cannot serve; the file stays for the next start.
pub async fn complete(data: &Path, files: &NodeFiles, groups: &Groups, metadata: &Metadata) -> Result<(), NodeError> {
    let path = data.join(FOUNDING);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(NodeError::Files(error)),
    };
    let founding: Founding = serde_json::from_slice(&json).map_err(io::Error::other).map_err(NodeError::Files)?;
    match groups.initialize(GroupId::METADATA, &[files.node]).await {
        Ok(()) | Err(InitError::Already(_)) => {}
        Err(error) => return Err(NodeError::Founding(error.to_string())),
    }
    for (step, body) in proposals(&founding, files).into_iter().enumerate() {
        let request = RequestId(founding.request.0.wrapping_add(step as u128));
        match propose(metadata, request, body).await? {
            Outcome::Refused(refused) => return Err(NodeError::Founding(refused.to_string())),
            Outcome::Done | Outcome::Created(_) => {}
        }
    }
    found_shards(files, &founding, groups, metadata).await?;
    fs::remove_file(&path).map_err(NodeError::Files)
}

fn proposals(founding: &Founding, files: &NodeFiles) -> Vec<CommandBody> {
    let replicas = (1..=founding.shards).map(|group| (GroupId(group), vec![files.node])).collect();
    vec![
        CommandBody::InitCluster {
            id: files.cluster,
            ca_pem: files.ca_pem.clone(),
            sealed_ca_key: founding.sealed_ca_key.clone(),
            sealed_secrets: Vec::new(),
            shards: founding.shards,
        },
        CommandBody::AddNode {
            name: founding.node_name.clone(),
            key_hash: founding.node_key_hash,
            join_token: None,
            voter_eligible: true,
        },
        CommandBody::CreateAccount {
            id: founding.account,
            name: "default".to_owned(),
            max_namespaces: DEFAULT_MAX_NAMESPACES,
        },
        CommandBody::CreateToken {
            id: founding.api_token,
            hash: founding.api_hash,
            name: "founder".to_owned(),
            scope: Scope::All,
            expires: None,
        },
        CommandBody::AddJoinToken { hash: founding.join_hash, expires: founding.join_expires, uses: JOIN_TOKEN_USES },
        CommandBody::SetReplicas { groups: replicas },
    ]
}

async fn propose(metadata: &Metadata, request: RequestId, body: CommandBody) -> Result<Outcome, NodeError> {
    let mut tries = 1;
    loop {
        match metadata.propose_as(request, body.clone()).await {
            Ok((_, outcome)) => return Ok(outcome),
            Err(ProposeError::Unavailable | ProposeError::Unknown) if tries < TRIES => tries += 1,
            Err(error) => return Err(NodeError::Founding(error.to_string())),
        }
    }
}

/// The replicas start as the placement is applied; each new shard gets this node as its first member.
async fn found_shards(
    files: &NodeFiles,
    founding: &Founding,
    groups: &Groups,
    metadata: &Metadata,
) -> Result<(), NodeError> {
    metadata.read().await.map_err(|error| NodeError::Founding(error.to_string()))?;
    for group in (1..=founding.shards).map(GroupId) {
        let started = async {
            let mut status = groups.status(group);
            while !status.replica {
                status = groups.changed(group, status).await;
            }
        };
        if tokio::time::timeout(PROPOSE_TIMEOUT, started).await.is_err() {
            return Err(NodeError::Founding(format!("the replica of group {group} did not start")));
        }
        match groups.initialize(group, &[files.node]).await {
            Ok(()) | Err(InitError::Already(_)) => {}
            Err(error) => return Err(NodeError::Founding(error.to_string())),
        }
    }
    Ok(())
}
