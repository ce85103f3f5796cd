//! What a node and a group are started with, and why starting may fail.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};
use rookery_cluster::consensus::Replicated;
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::limits;
use rookery_cluster::log::GroupLog;
use rookery_cluster::net::SharedPeers;

/// Log bytes after which the metadata group makes a snapshot.
const META_SNAPSHOT_BYTES: u64 = 8 << 20;
/// Log bytes after which a session shard makes a snapshot.
const SHARD_SNAPSHOT_BYTES: u64 = 16 << 20;
/// Entries kept behind a snapshot, so that a follower that lags a little need not get the whole snapshot.
const KEPT_ENTRIES: u64 = 256;
/// A learner counts as caught up when it lacks fewer entries than this.
const CAUGHT_UP: u64 = 64;
/// Installing a snapshot may take this long, besides its transfer.
const INSTALL: Duration = Duration::from_secs(60);
/// A leader that is no voter any more goes on this long, so that the change of members reaches all.
const REMOVED_LEADER_LEADS: Duration = Duration::from_secs(1);
/// Messages waiting at a group's Raft core.
const CORE_QUEUE: u64 = 4096;

/// What all groups of a node share.
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Connections to the others.
    pub peers: SharedPeers,
    /// Where snapshots are kept, one file per group. Created if missing.
    pub snapshots: PathBuf,
}

/// One group's replica on this node.
pub struct GroupConfig {
    /// Which group.
    pub group: GroupId,
    /// Its log, opened and checked.
    pub log: Arc<dyn GroupLog>,
    /// Its state machine, empty: it is filled from snapshot and log.
    pub machine: Box<dyn Replicated>,
    /// The leader's heartbeat interval.
    pub heartbeat: Duration,
    /// Low end of the election timeout; over three heartbeats.
    pub election_min: Duration,
    /// High end of the election timeout; also how long a leader's lease lasts.
    pub election_max: Duration,
    /// Bytes of log after which a snapshot is made and the log purged.
    pub snapshot_bytes: u64,
}

impl GroupConfig {
    /// The metadata group, with its times from `limits`.
    pub fn metadata(log: Arc<dyn GroupLog>, machine: Box<dyn Replicated>) -> Self {
        Self {
            group: GroupId::METADATA,
            log,
            machine,
            heartbeat: limits::META_HEARTBEAT,
            election_min: limits::META_ELECTION_MIN,
            election_max: limits::META_ELECTION_MAX,
            snapshot_bytes: META_SNAPSHOT_BYTES,
        }
    }

    /// A session shard, with its times from `limits`.
    pub fn shard(group: GroupId, log: Arc<dyn GroupLog>, machine: Box<dyn Replicated>) -> Self {
        Self {
            group,
            log,
            machine,
            heartbeat: limits::SHARD_HEARTBEAT,
            election_min: limits::SHARD_ELECTION_MIN,
            election_max: limits::SHARD_ELECTION_MAX,
            snapshot_bytes: SHARD_SNAPSHOT_BYTES,
        }
    }

    pub(crate) fn openraft(&self) -> Result<Arc<Config>, StartError> {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: format!("group {}", self.group),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: ms(self.election_max),
            install_snapshot_timeout: ms(INSTALL),
            // The log reader limits a message by bytes.
            max_payload_entries: 1024,
            replication_lag_threshold: CAUGHT_UP,
            // By bytes, see `Machine`: a batch of commands is one entry.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            api_channel_size: Some(CORE_QUEUE),
            removed_leader_step_down: StepDownPolicy::After(ms(REMOVED_LEADER_LEADS)),
            enable_pre_vote: Some(true),
            // A node that lost its log must not be taken for one that only lags.
            allow_log_reversion: Some(false),
            // The state machine is in memory and the committed index is a hint: a restarted leader must be
            // elected again before it serves.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(|e| StartError::Times { group: self.group, why: e.to_string() })
    }
}

/// Why a replica did not start. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another replica of the group runs here already.
    #[error("group {0} is running on this node already")]
    Running(GroupId),
    /// The times contradict each other.
    #[error("the times of group {group} do not fit together: {why}")]
    Times {
        /// Which group.
        group: GroupId,
        /// Which rule is broken.
        why: String,
    },
    /// The snapshot cannot be used.
    #[error(
        "snapshot {} cannot be used: {source}; if the other replicas are healthy, remove this node from the cluster, \
         delete its data directory and let it join again under a new node id; deleting the file alone loses data",
        .path.display()
    )]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The log begins after what the snapshot covers.
    #[error(
        "the log of group {group} was purged up to entry {purged}, but snapshot {} ends at {}: it was lost or \
         replaced by an older one; restore it, or remove this node from the cluster and let it join again under a new \
         node id",
        .path.display(),
        .snapshot.map_or("nothing".to_owned(), |index| format!("entry {index}"))
    )]
    Gap {
        /// Which group.
        group: GroupId,
        /// The file.
        path: PathBuf,
        /// Where the log was purged up to.
        purged: LogIndex,
        /// Where the snapshot ends.
        snapshot: Option<LogIndex>,
    },
    /// The log cannot be read, or the state machine does not know what is in it.
    #[error("the replica of group {group} cannot start: {why}")]
    Replica {
        /// Which group.
        group: GroupId,
        /// What is wrong.
        why: String,
    },
}

/// Why a group was not initialized.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// This node holds no replica of it.
    #[error("this node holds no replica of group {0}")]
    NoReplica(GroupId),
    /// The group has a log or a vote already.
    #[error("group {0} is initialized already; nothing was changed")]
    Already(GroupId),
    /// This node is not among the members.
    #[error("this node is not among the first members of group {0}; nothing was changed")]
    NotMember(GroupId),
    /// The replica stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}
