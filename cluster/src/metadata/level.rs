//! The committed level (R17): behaviour that not all binaries know is switched on by a command, never by a version.
//!
//! Level 1 is all that the first release knows, whatever was appended to commands before it: there is no earlier binary
//! that could meet it. What is appended afterwards is of the next level, in [`super::CommandBody::level`] for group 0; who
//! proposes something new to a shard looks at the committed level first, as shards do not know it. Nothing proposes
//! to raise it yet, as there is none to rise to.

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
