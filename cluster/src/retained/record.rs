//! What is kept of a topic, and which of two records wins.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::UnixMillis;
use crate::ids::NodeId;

/// Hybrid time: milliseconds of the wall clock above, a counter of 16 bits below. It runs with the wall clock and
/// never behind what the node has seen of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The first time of a millisecond. Wall clocks fit into 48 bits until the year 10889.
    pub const fn at(wall: UnixMillis) -> Self {
        Self(wall.0 << 16)
    }

    /// The time after this one, and not before `wall`.
    pub fn next(self, wall: UnixMillis) -> Self {
        Self(self.0.saturating_add(1)).max(Self::at(wall))
    }

    /// Its wall part.
    pub const fn wall(self) -> UnixMillis {
        UnixMillis(self.0 >> 16)
    }

    /// How far it is ahead of a wall clock; zero if it is not.
    pub fn ahead_of(self, wall: UnixMillis) -> Duration {
        Duration::from_millis(self.wall().0.saturating_sub(wall.0))
    }
}

/// When and where a record was written: no two writes have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When.
    pub time: Time,
    /// The publisher's node; decides between equal times.
    pub node: NodeId,
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was written.
    pub stamp: Stamp,
    /// From when on it is as good as deleted.
    pub expires: Option<UnixMillis>,
    /// The message, as the broker wrote it; `None`: deleted.
    pub message: Option<Bytes>,
}

impl Record {
    /// Bytes of its message.
    pub fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, Bytes::len)
    }

    /// Whether it is no message any more.
    pub fn gone(&self, wall: UnixMillis) -> bool {
        self.message.is_none() || self.expires.is_some_and(|at| at <= wall)
    }

    /// Whether it replaces `other`. The stamp decides. Records with one stamp are the same write, and one of them may
    /// have expired already; the rest of the order is for a node that lost its last stamps with its clock set back.
    pub fn beats(&self, other: &Record) -> bool {
        let last = || (self.message.is_none(), &self.message).cmp(&(other.message.is_none(), &other.message));
        self.stamp.cmp(&other.stamp).then_with(last) == Ordering::Greater
    }
}
