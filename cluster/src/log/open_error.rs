//! Why a log does not open.

use std::io;
use std::path::{Path, PathBuf};

/// Why a log does not open. Nothing on disk was changed, and the replica must not serve from it: a log that is
/// shorter than what the node once promised lets a cluster lose acknowledged writes.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// A file or record does not hold what was written: a bad checksum, a hole, an unknown version.
    #[error("{} is damaged: {record}: {what}; {advice}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Which record or byte offset of it.
        record: String,
        /// What is wrong there.
        what: String,
        /// What the operator should do.
        advice: &'static str,
    },
    /// Everything that is there is sound, but it is older than what this node has already promised to others.
    #[error("{} is behind itself: it holds {found}, but {promised} was promised; {advice}", file.display())]
    BehindItself {
        /// The log that is too old.
        file: PathBuf,
        /// What was found.
        found: String,
        /// What the high-water mark says.
        promised: String,
        /// What the operator should do.
        advice: &'static str,
    },
    /// Another process (or another part of this one) has the log open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The lock that is held.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// What to do about a replica whose log cannot be trusted.
pub(crate) const REJOIN: &str =
    "do not let this replica vote: remove the node from the cluster, wipe its data and join it again under a new id";

impl LogOpenError {
    pub(crate) fn damaged(file: &Path, record: impl Into<String>, what: impl Into<String>) -> LogOpenError {
        LogOpenError::Damaged { file: file.to_path_buf(), record: record.into(), what: what.into(), advice: REJOIN }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> LogOpenError {
        LogOpenError::Io { path: path.to_path_buf(), source }
    }
}
