//! What can be wrong with settings. Nothing was changed when one of these is returned.

use std::path::PathBuf;

use super::source::Source;

/// Why settings were refused. One line, for the person who wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{at}: unknown setting {key}; the nearest is {nearest}")]
    Unknown {
        /// Where it stands.
        at: Source,
        /// The key.
        key: String,
        /// The most similar key that exists.
        nearest: String,
    },
    /// A value that the setting cannot have.
    #[error("{at}: {key}: {problem}")]
    Invalid {
        /// Where it stands.
        at: Source,
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
}
