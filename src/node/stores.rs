//! What a node keeps on disk: its Raft groups' logs and the retained messages, opened and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::disk::{SharedDisk, SystemDisk};
use rookery_cluster::log::{FatalHook, LogOpenError, SegmentLog, SegmentLogConfig, SledLog, SledLogConfig};
use rookery_cluster::retained::store::{Store, StoreConfig};
use rookery_cluster::rng::SharedRng;

/// The logs of all groups, and the retained messages.
pub struct Stores {
    /// The metadata group's.
    pub metadata: Arc<SledLog>,
    /// The session shards', one for all.
    pub shards: SegmentLog,
    /// Retained messages.
    pub retained: Store,
    /// Where snapshots are.
    pub snapshots: PathBuf,
}

impl Stores {
    /// Opens the logs under `data`. A disk that fails later ends the process: what is on disk is unknown then, and
    /// a Raft replica that went on would break its promises.
    ///
    /// # Errors
    /// A damaged log names its file and record; nothing is served from it.
    pub fn open(data: &Path, clock: SharedClock, rng: SharedRng) -> Result<Self, LogOpenError> {
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
        let shards = SegmentLog::open(
            &data.join("shards"),
            disk.clone(),
            SegmentLogConfig { fatal, ..SegmentLogConfig::default() },
        )?;
        let retained = Store::open(&data.join("retained"), disk, StoreConfig::new(clock, rng))?;
        Ok(Self { metadata: Arc::new(metadata), shards, retained, snapshots: data.join("snapshots") })
    }

    /// Makes what is queued durable and lets go of the directories.
    pub fn close(&self) {
        self.metadata.close();
        self.shards.close();
        self.retained.close();
    }
}
