//! What actions answer with: plain values, the same for every door.

use std::collections::BTreeMap;

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::consensus::GroupStatus;
use rookery_cluster::ids::{AccountId, BrokerId, GroupId, Incarnation, NamespaceId, NodeId, TokenId};

use crate::auth::{Credential, JwkSet};

/// The answer to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub enum Reply {
    Done,
    Namespace(NamespaceView),
    Namespaces(Vec<NamespaceView>),
    Broker(BrokerView),
    Brokers(Vec<BrokerView>),
    Issued(Vec<Credential>),
    Revocations(Vec<RevocationView>),
    Keys(JwkSet),
    /// With its secret.
    NewToken(TokenView, String),
    Tokens(Vec<TokenView>),
    Status(StatusView),
    Members(Vec<MemberView>),
    /// The token (a secret), when it ends, and the hash of the authority that it pins.
    JoinToken {
        token: String,
        expires: UnixMillis,
        ca_hash: String,
    },
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct NamespaceView {
    pub id: NamespaceId,
    pub name: String,
    pub description: String,
    pub created_on: UnixMillis,
    pub modified_on: UnixMillis,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct BrokerView {
    pub id: BrokerId,
    pub name: String,
    pub namespace: String,
    pub description: String,
    pub created_on: UnixMillis,
    pub modified_on: UnixMillis,
    /// Seconds.
    pub expiration: Option<u64>,
    /// Where clients connect.
    pub endpoint: String,
    /// Name of the preset.
    pub preset: &'static str,
    /// By name, as text.
    pub limits: BTreeMap<&'static str, String>,
}

/// A revoked credential.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct RevocationView {
    pub jti: String,
    pub revoked_on: UnixMillis,
}

/// An API token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    pub created_on: UnixMillis,
    pub expires: Option<UnixMillis>,
    /// `None`: all.
    pub account: Option<AccountId>,
}

/// How the cluster looks from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct StatusView {
    pub node: NodeId,
    pub version: &'static str,
    /// Ready, or why not.
    pub ready: Result<(), String>,
    /// Settled, or what is missing.
    pub settled: Result<(), String>,
    pub leases: Vec<LeaseView>,
    pub groups: Vec<GroupView>,
}

/// A node's lease, as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct LeaseView {
    pub node: NodeId,
    pub name: String,
    pub incarnation: Incarnation,
    /// `live`, `expired`, `never`.
    pub state: &'static str,
    /// When that life registered; 0 before the first.
    pub since: UnixMillis,
}

/// A Raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct GroupView {
    pub id: GroupId,
    pub status: GroupStatus,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what they hold")]
pub struct MemberView {
    pub id: NodeId,
    pub name: String,
    pub incarnation: Incarnation,
    pub address: String,
    /// `alive`, `suspect`, `down`, `unknown`.
    pub state: &'static str,
    /// `leader`, `voter`, `learner`, `none`.
    pub role: &'static str,
    pub region: String,
    pub zone: String,
    pub version: String,
    pub leased: bool,
    /// Being removed.
    pub leaving: bool,
}
