//! What a node keeps on disk for its Raft groups, opened and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookery_cluster::disk::{SharedDisk, SystemDisk};
use rookery_cluster::log::{FatalHook, LogOpenError, SegmentLog, SegmentLogConfig, SledLog, SledLogConfig};

/// The logs of all groups.
pub struct Stores {
    /// The metadata group's.
    pub metadata: Arc<SledLog>,
    /// The session shards', one for all.
    pub shards: SegmentLog,
    /// Where snapshots are.
    pub snapshots: PathBuf,
}

impl Stores {
    /// Opens the logs under `data`. A disk that fails later ends the process: what is on disk is unknown then, and
    /// a Raft replica that went on would break its promises.
    ///
    /// # Errors
    /// A damaged log names its file and record; nothing is served from it.
    pub fn open(data: &Path) -> Result<Self, LogOpenError> {
        let disk: SharedDisk = Arc::new(SystemDisk);
        let fatal = FatalHook::new(|why| {
            tracing::error!(why, "the disk failed, this process ends");
            std::process::abort();
        });
        let metadata = SledLog::open(
            &data.join("metadata"),
            disk.clone(),
            SledLogConfig { fatal: fatal.clone(), ..SledLogConfig::default() },
        )?;
        let shards =
            SegmentLog::open(&data.join("shards"), disk, SegmentLogConfig { fatal, ..SegmentLogConfig::default() })?;
        Ok(Self { metadata: Arc::new(metadata), shards, snapshots: data.join("snapshots") })
    }

    /// Makes what is queued durable and lets go of the directories.
    pub fn close(&self) {
        self.metadata.close();
        self.shards.close();
    }
}
