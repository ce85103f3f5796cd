//! Why a node does not serve.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rookery_cluster::ids::{NodeId, NodeLife};
use rookery_cluster::join::JoinError;
use rookery_cluster::log::LogOpenError;
use rookery_cluster::pki::PkiError;
use rookery_cluster::swim;
use rookery_raft::StartError;

/// The exit code of a node that has no place in its cluster any more: starting it again does not help.
pub const GONE: u8 = 5;

/// Why a node does not serve. Nothing was changed on disk, where the text does not say otherwise.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Not a member yet.
    #[error("{} holds no node: found a cluster with `rookery cluster init` or join one with `rookery cluster join`", .0.display())]
    NoMember(PathBuf),
    /// A member already.
    #[error("{} belongs to a node of a cluster already; choose another data folder (node.data_dir)", .0.display())]
    Member(PathBuf),
    /// The node's files.
    #[error("the node's files: {0}")]
    Files(io::Error),
    /// Removed by an administrator.
    #[error(
        "node {node} was removed from its cluster and serves no more; to let this machine in again, empty {} and join anew",
        data.display()
    )]
    Removed {
        /// Its number.
        node: NodeId,
        /// Its data folder.
        data: PathBuf,
    },
    /// Another process runs as this node.
    #[error(
        "another process runs as node {}, under life {other}; this one stops: start no node from a copy of another's \
         data ({})",
        other.node,
        data.display()
    )]
    Superseded {
        /// The life of the other.
        other: NodeLife,
        /// This one's data folder.
        data: PathBuf,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Joining.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A log cannot be used.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// A replica does not start.
    #[error(transparent)]
    Replica(#[from] StartError),
    /// A port.
    #[error("cannot listen on {at} ({what}): {error}")]
    Port {
        /// Which setting.
        what: &'static str,
        /// Where.
        at: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
    /// The clients' ports.
    #[error("{0}")]
    Listen(io::Error),
    /// The membership socket or card.
    #[error(transparent)]
    Swim(#[from] swim::StartError),
    /// A new cluster could not be set up.
    #[error("founding the cluster did not end, and goes on at the next start: {0}")]
    Founding(String),
    /// The system.
    #[error("cannot start a thread: {0}")]
    Threads(io::Error),
}
