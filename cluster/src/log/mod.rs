//! Where Raft groups keep their logs: [`GroupLog`] and its implementations.

#[cfg(test)]
mod kill_tests;
mod mem;
mod open_error;
mod segment;
mod sled_log;
#[cfg(test)]
mod suite;
mod two_slots;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::LogIndex;

pub use mem::MemLog;
pub use open_error::LogOpenError;
pub use segment::{SegmentLog, SegmentLogConfig, SegmentLogStats};
pub use sled_log::{SledLog, SledLogConfig, fuzz};

/// Told once, in the order of the calls, when what was appended or saved is on disk (fdatasync), or why not.
pub type Durable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a log holds, as found when it was opened and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last vote saved, as the Raft layer encoded it.
    pub vote: Option<Bytes>,
    /// Last committed index known (a hint, not synced with each change).
    pub committed: Option<LogIndex>,
    /// Everything up to here was purged: index and the Raft layer's encoding of its log id.
    pub purged: Option<(LogIndex, Bytes)>,
    /// Index of the last entry, if any entry is left.
    pub last: Option<LogIndex>,
}

/// The log of one Raft group. Entries are opaque bytes (at most `limits::MAX_ENTRY_BYTES` + a header that the
/// Raft layer adds); the store checksums each and never has a hole.
///
/// Writes return once readers see them; their [`Durable`] is called later, in call order over appends and
/// votes together (that is what makes pipelined fsync sound). After one I/O error every later write fails.
pub trait GroupLog: Send + Sync + 'static {
    /// What the log holds now.
    fn state(&self) -> LogState;
    /// Adds entries right after the last (or after the purge point). Anything else is `InvalidInput`.
    fn append(&self, entries: Vec<(LogIndex, Bytes)>, durable: Durable);
    /// Saves the vote.
    fn save_vote(&self, vote: Bytes, durable: Durable);
    /// Remembers the committed index; may be lost at a crash.
    fn save_committed(&self, committed: Option<LogIndex>);
    /// Entries of `from..to` (exclusive), those that exist, checked. A bad checksum is `InvalidData` and names
    /// file and record.
    fn read(&self, from: LogIndex, to: LogIndex) -> io::Result<Vec<(LogIndex, Bytes)>>;
    /// Removes all entries after `last` (all, if `None`), durably before a later append is.
    fn truncate_after(&self, last: Option<LogIndex>, durable: Durable);
    /// Removes all entries up to and including `upto`, remembering the Raft layer's log id for it.
    fn purge(&self, upto: LogIndex, log_id: Bytes, durable: Durable);
}

/// No index and no count in a log is larger, so that counting on never overflows, whatever the bytes say.
const MOST_NUMBER: u64 = u64::MAX / 2;

/// Checks that `entries` have the indexes `next`, `next + 1`, ..., and that there is one after the last.
fn check_consecutive(next: u64, entries: &[(LogIndex, Bytes)]) -> io::Result<()> {
    if let Some((last, _)) = entries.last().filter(|(last, _)| last.0 >= MOST_NUMBER) {
        let what = format!("entry {last}: there is no index after it");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    match (next..).zip(entries).find(|(expected, (found, _))| *expected != found.0) {
        None => Ok(()),
        Some((expected, (found, _))) => {
            let what = format!("entry {found} does not follow: the next index is {expected}");
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        }
    }
}

/// Checks that no entry is larger than `most` bytes.
fn check_sizes(most: usize, entries: &[(LogIndex, Bytes)]) -> io::Result<()> {
    match entries.iter().find(|(_, bytes)| bytes.len() > most) {
        None => Ok(()),
        Some((index, bytes)) => {
            let what = format!("entry {index} of {} bytes is too large: {most} is the most", bytes.len());
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        }
    }
}

/// Tells a caller. One that panics must not take the log's thread, and so all the others, with it.
fn tell(durable: Durable, result: io::Result<()>) {
    if catch_unwind(AssertUnwindSafe(|| durable(result))).is_err() {
        tracing::error!("a caller of the log panicked when it was told of its write");
    }
}

/// What a log calls, once, when its disk has failed for good. The process must then end: after a failed sync
/// nobody knows what is on disk, and a second try may succeed without the bytes.
#[derive(Clone, Default)]
pub struct FatalHook(Option<Arc<Hook>>);

type Hook = dyn Fn(&str) + Send + Sync;

impl FatalHook {
    /// Calls `hook` with what went wrong.
    pub fn new(hook: impl Fn(&str) + Send + Sync + 'static) -> FatalHook {
        FatalHook(Some(Arc::new(hook)))
    }

    fn call(&self, why: &str) {
        tracing::error!(error = why, "the log's disk has failed; the process must end");
        if let Some(hook) = &self.0 {
            hook(why);
        }
    }
}
