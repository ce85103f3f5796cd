//! `rookery dev`: a real cluster on this machine, one process a node, with a broker to play with.

mod cluster;
mod demo;
mod layout;
mod ports;
mod print;
mod settle;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use cluster::run;
pub use layout::Layout;
pub use ports::Ports;

/// Most nodes that `dev` starts: the ports of the fifth end below 65,536.
pub const MAX_NODES: u64 = 5;
/// The namespace that `dev` makes.
pub const NAMESPACE: &str = "demo";
/// The broker that `dev` makes.
pub const BROKER: &str = "hello";
/// Credentials that `dev` issues.
pub const CREDENTIALS: u32 = 2;

/// What `dev` is asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// How many nodes: 1 to [`MAX_NODES`].
    pub nodes: u64,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Which ports.
    pub ports: PortChoice,
    /// Print one line of JSON.
    pub json: bool,
}

/// How ports are chosen for nodes that have none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PortChoice {
    /// Node 1 the standard ones, node n these + 10000 n; a taken one is replaced by a free one.
    Standard,
    /// Free ones.
    Auto,
}

/// What a running `dev` tells scripts, and the command line: one line on standard output, and `dev.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevInfo {
    /// The nodes.
    pub nodes: Vec<DevNode>,
    /// The cluster's certificate authority, PEM.
    pub ca: PathBuf,
    /// [`NAMESPACE`].
    pub namespace: String,
    /// [`BROKER`].
    pub broker: String,
    /// A file with an API token for everything.
    pub api_token_file: PathBuf,
    /// Tokens by client ID.
    pub credentials: std::collections::BTreeMap<String, String>,
    /// Whether every node had its lease and every group its replicas and a leader when this was written.
    #[serde(default)]
    pub settled: bool,
}

/// One node of a running `dev`; addresses are `host:port`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named after the settings")]
pub struct DevNode {
    pub id: u64,
    pub pid: u32,
    pub mqtt: String,
    pub mqtts: String,
    pub ws: String,
    pub wss: String,
    pub grpc: String,
    pub http: String,
}

/// Why `dev` does not run.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The data folder.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The folder holds another cluster.
    #[error(
        "{} holds a cluster of {found} nodes: start it with --nodes {found}, or choose another folder with --data-dir",
        path.display()
    )]
    OtherSize {
        /// The folder.
        path: PathBuf,
        /// How many it has.
        found: u64,
    },
    /// Too many or too few.
    #[error("--nodes takes 1 to {MAX_NODES}, got {0}")]
    Count(u64),
    /// A node's settings, which `dev` wrote itself, are refused.
    #[error("the settings of node {node}: {why}")]
    Settings {
        /// Which.
        node: u64,
        /// What is wrong.
        why: String,
    },
    /// A node's files or the join.
    #[error("node {node}: {error}")]
    Node {
        /// Which.
        node: u64,
        /// Why.
        error: crate::node::NodeError,
    },
    /// A node's process ended or does not get ready.
    #[error("node {node} {what}; its log is {}", log.display())]
    Process {
        /// Which.
        node: u64,
        /// What happened.
        what: String,
        /// Where it says more.
        log: PathBuf,
    },
    /// The administration API.
    #[error("the demo broker could not be made: {0}")]
    Demo(String),
}

impl DevError {
    fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}
