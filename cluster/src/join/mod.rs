//! Joining a cluster (R20): the token, the service that admits a node, the node's side of it, the files that
//! come of it, and the renewal of certificates.
//!
//! A joining node needs one address and one token. The token pins the cluster's authority, so the node knows
//! whom it talks to before it sends the token's secret; the reply carries the cluster's secrets, on that
//! connection alone.

mod client;
mod files;
mod renew;
mod server;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

pub use client::{Joining, join, standing};
pub use files::{NodeFiles, write_atomic};
pub use renew::{AskForCertificate, keep_renewed, renew_at};
pub use server::{certificate_service, join_service};
pub use token::{BadToken, JoinToken, secret_hash};

use crate::consensus::BoxFuture;
use crate::ids::{ClusterId, Incarnation, NodeId};
use crate::pki::{ClusterSecrets, PkiError};

/// Key of a node's peer port in `addresses`.
pub const PEER_ADDRESS: &str = "peer";

/// A node that asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// SHA-256 of the token's secret: what the metadata knows the token by.
    pub secret_hash: [u8; 32],
    /// What people call the node; unique in the cluster.
    pub name: String,
    /// Certificate signing request, PEM; readable, and signed by its own key.
    pub request_pem: String,
    /// SHA-256 of the public key in it. A second request with the same name and key is a retry.
    pub key_hash: [u8; 32],
    /// Where it listens, by purpose: `host:port`.
    pub addresses: BTreeMap<String, String>,
    /// Names and IP addresses for its certificate.
    pub hosts: Vec<String>,
    /// The program's version.
    pub version: String,
    /// From its configuration.
    pub region: String,
    /// From its configuration.
    pub zone: String,
    /// Where the call came from.
    pub from: SocketAddr,
}

/// What an admitted node gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// Its id.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// The cluster's secrets.
    pub secrets: ClusterSecrets,
    /// Peer ports of the nodes: `host:port`.
    pub peers: BTreeMap<NodeId, String>,
}

/// Why a node was not admitted, or a certificate not signed. Nothing changed, except after `Unavailable`,
/// where the outcome may be unknown: the same request may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// The token is unknown, used up, removed or expired.
    #[error("{0}")]
    Token(String),
    /// The request cannot be granted as it is: a taken name, a host that is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// The programs' versions do not work together.
    #[error("{0}")]
    Version(String),
    /// No quorum now; to be tried again.
    #[error("{0}")]
    Unavailable(String),
}

/// What a member knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is a member.
    Member {
        /// Its newest life; 0 before the first.
        incarnation: Incarnation,
        /// Whether the lease of that life is live.
        live: bool,
        /// The peer port that it registered with: `host:port`.
        address: String,
    },
    /// It was a member, and never will be again under that number.
    Removed,
    /// Not heard of, which may be for want of news.
    Unknown,
}

/// Who decides: in the program, the metadata group with the authority's key.
pub trait JoinAuthority: Send + Sync + 'static {
    /// Admits a node, or refuses it.
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<JoinReply, JoinRefusal>>;
    /// What is known here of a node.
    fn standing(&self, node: NodeId) -> Standing;
    /// Signs a member's request again. `node` is proven by the caller's certificate. Returns PEM.
    fn renew(
        &self,
        node: NodeId,
        request_pem: String,
        hosts: Vec<String>,
    ) -> BoxFuture<'_, Result<String, JoinRefusal>>;
}

/// Why this node did not join. Nothing was written to its disk, except where `Files` says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is not one.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The token's time is over; nobody was asked.
    #[error("the join token has expired: make a new one with `rookery cluster token`")]
    TokenExpired,
    /// Nobody answers there.
    #[error("cannot reach {at}: {why}")]
    Unreachable {
        /// `host:port`.
        at: String,
        /// The system's words.
        why: String,
    },
    /// Someone else answers there. The token's secret was not sent.
    #[error(
        "{at} does not have the certificate authority that the token names: a token of another cluster, or someone \
         in between"
    )]
    WrongAuthority {
        /// `host:port`.
        at: String,
    },
    /// The far side speaks no version of this protocol that we do.
    #[error("{at} is a node of another version, or none: {why}")]
    Version {
        /// `host:port`.
        at: String,
        /// What showed it.
        why: String,
    },
    /// The cluster refused.
    #[error("the cluster refused: {0}")]
    Refused(String),
    /// The cluster could not decide now.
    #[error("the cluster cannot answer now, try again: {0}")]
    Unavailable(String),
    /// The reply makes no sense.
    #[error("unusable reply: {0}")]
    BadReply(String),
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The data directory. What was written is overwritten by the next try.
    #[error("data directory: {0}")]
    Files(#[from] io::Error),
}

#[cfg(test)]
mod tests;
