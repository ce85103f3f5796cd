//! The committed level (R17): behaviour that not all binaries know is switched on by a command, never by a version.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the cluster has agreed to do. Rises only when every node's binary supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(pub u16);

impl Level {
    /// The level of the first release.
    pub const FIRST: Level = Level(1);
    /// The highest level that this binary knows.
    pub const LATEST: Level = Level(1);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
