//! Wills come once (R16), also when the node that published one dies before its shard knows of that, and the next leader
//! has it published again: a will carries its name to other workers and nodes, who remember what they have had.
//!
//! What is delivered for shared subscriptions is not looked at: the second try may have chosen another member.
//!
//! The name stands before the publish in a frame that no packet can be taken for, as [`super::direct`]'s do:
//! ```text
//! 0x0a | length: u32 | version 1 | shard: u32 | epoch: u64
//! ```
//! Numbers are big-endian. What follows, up to the length, is skipped: later versions may add to it. PURE.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{Epoch, GroupId, WillName};

/// The first byte.
const FIRST: u8 = 0x0a;
const VERSION: u8 = 1;
/// From the version to the epoch.
const FIXED: usize = 1 + 4 + 8;
/// Names that are remembered, and for how long: by then a dead leader has had a successor that published again.
const MOST: usize = 65_536;
const FOR: Duration = Duration::from_secs(120);

/// Appends a name.
pub(super) fn encode(to: &mut BytesMut, name: WillName) {
    to.put_u8(FIRST);
    to.put_u32(FIXED as u32);
    to.put_u8(VERSION);
    to.put_u32(name.shard.0);
    to.put_u64(name.epoch.0);
}

/// Whether a name stands at the front of `run`.
pub(super) fn ahead(run: &[u8]) -> bool {
    run.first() == Some(&FIRST)
}

/// Reads the name at the front of `run`, and what follows; `None` if it is none, or none that this version understands.
pub(super) fn decode(run: &[u8]) -> Option<(WillName, &[u8])> {
    let (first, rest) = run.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    let ([version], body) = body.split_first_chunk()?;
    let (shard, body) = body.split_first_chunk()?;
    let (epoch, _) = body.split_first_chunk()?;
    let name = WillName { shard: GroupId(u32::from_be_bytes(*shard)), epoch: Epoch(u64::from_be_bytes(*epoch)) };
    ((*first, *version) == (FIRST, VERSION)).then_some((name, rest))
}

/// The names of the wills that this worker has had lately.
#[derive(Debug, Default)]
pub(super) struct Had {
    names: BTreeSet<WillName>,
    /// The same, in the order in which they came.
    since: VecDeque<(Moment, WillName)>,
}

impl Had {
    /// Notes a will that is here now; `false` if it was before.
    pub fn first(&mut self, now: Moment, name: WillName) -> bool {
        while let Some((since, old)) = self.since.front()
            && (now.since(*since) >= FOR || self.since.len() >= MOST)
        {
            self.names.remove(old);
            self.since.pop_front();
        }
        let first = self.names.insert(name);
        if first {
            self.since.push_back((now, name));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(epoch: u64) -> WillName {
        WillName { shard: GroupId(0x0102_0304), epoch: Epoch(epoch) }
    }

    #[test]
    fn the_bytes_of_version_1() {
        let mut bytes = BytesMut::new();
        encode(&mut bytes, name(0x0506));
        assert_eq!(bytes[..], [10, 0, 0, 0, 13, 1, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6]);
        // A later version of it has more at the end.
        bytes[4] += 1;
        bytes.extend_from_slice(b"?rest");
        assert!(ahead(&bytes));
        assert_eq!(decode(&bytes), Some((name(0x0506), &b"rest"[..])));
        for cut in 0..19 {
            assert_eq!(decode(&bytes[..cut]), None);
        }
        bytes[5] = 2;
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn names_are_remembered_for_a_while_and_no_more_than_their_bound() {
        let mut had = Had::default();
        let now = Moment::default();
        assert!(had.first(now, name(1)));
        assert!(!had.first(now + FOR / 2, name(1)));
        assert!(had.first(now + FOR, name(1)), "forgotten");
        for epoch in 2..=MOST as u64 + 1 {
            assert!(had.first(now + FOR, name(epoch)));
        }
        assert_eq!((had.names.len(), had.since.len()), (MOST, MOST));
        assert!(had.first(now + FOR, name(1)), "the oldest makes room");
    }
}
