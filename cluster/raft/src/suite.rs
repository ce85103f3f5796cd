//! openraft's own storage suite, run on this crate's glue over each log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use rookery_cluster::consensus::{Replicated, UnknownCommand};
use rookery_cluster::disk::SystemDisk;
use rookery_cluster::ids::{GroupId, LogIndex};
use rookery_cluster::log::{GroupLog, MemLog, SegmentLog, SegmentLogConfig, SledLog, SledLogConfig};

use crate::machine::{Machine, Signals};
use crate::snapshot::SnapshotFile;
use crate::store::Store;
use crate::types::Types;

struct Silent;

impl Replicated for Silent {
    fn apply(&mut self, _: LogIndex, _: &[u8]) -> Result<Bytes, UnknownCommand> {
        Ok(Bytes::new())
    }
    fn applied(&mut self, _: LogIndex) {}
    fn snapshot(&self) -> Bytes {
        Bytes::new()
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), UnknownCommand> {
        Ok(())
    }
}

/// A directory of its own, removed in the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("rookery-suite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Builder<F>(F);

/// What a log needs as long as it is used.
type Guard = (Option<SegmentLog>, Dir);

impl<F> StoreBuilder<Types, Store, Machine, Guard> for Builder<F>
where
    F: Fn(&Path) -> (Arc<dyn GroupLog>, Option<SegmentLog>) + Send + Sync,
{
    async fn build(&self) -> Result<(Guard, Store, Machine), StorageError<Types>> {
        let dir = Dir::new();
        let file = SnapshotFile::open(&dir.0, GroupId(1)).unwrap();
        let machine = Machine::new(GroupId(1), Box::new(Silent), file, Arc::new(Signals::default()), u64::MAX);
        let (log, segments) = (self.0)(&dir.0);
        Ok(((segments, dir), Store::new(log), machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn openrafts_suite_over_the_log_in_memory() {
    let open = |_: &Path| (Arc::new(MemLog::new()) as Arc<dyn GroupLog>, None);
    Suite::test_all(Builder(open)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn openrafts_suite_over_the_log_on_sled() {
    let open = |dir: &Path| {
        let disk = Arc::new(SystemDisk);
        let log = SledLog::open(&dir.join("log"), disk, SledLogConfig::default()).unwrap();
        (Arc::new(log) as Arc<dyn GroupLog>, None)
    };
    Suite::test_all(Builder(open)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn openrafts_suite_over_the_segment_log() {
    let open = |dir: &Path| {
        let small = SegmentLogConfig { segment_bytes: 1 << 20, ..SegmentLogConfig::default() };
        let log = SegmentLog::open(&dir.join("log"), Arc::new(SystemDisk), small).unwrap();
        (log.group(GroupId(1)), Some(log))
    };
    Suite::test_all(Builder(open)).await.unwrap();
}
