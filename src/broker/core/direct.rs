//! What tells another worker or node for which shared subscriptions a publish comes to it.
//!
//! A run is PUBLISH packets back to back. Such a packet may be preceded by directions, in a frame that no packet can be
//! taken for: its first byte has packet type 0, which MQTT reserves. Publishes without shared subscribers, which most
//! are, have none.
//!
//! ```text
//! 0x08 | length: u32 | version 1 | flags | hops | strategy | key: u64 | count: u16 | count times (length: u16 | filter)
//! ```
//! Numbers are big-endian. What follows the filters, up to the length, is skipped: later versions may add to it.

use bytes::{BufMut, BytesMut};
use rookery_cluster::topics::{Choice, ShareStrategy};

/// The first byte.
const FIRST: u8 = 0x08;
const VERSION: u8 = 1;
/// The publish is also for the ordinary subscriptions at the destination.
const ORDINARY: u8 = 1;
/// From the version to the count.
const FIXED: usize = 1 + 1 + 1 + 1 + 8 + 2;

/// Bytes of filters after which no other is added to the same directions: the rest goes with another copy of the publish.
/// Together with the longest filter they fit into what a batch has room for beside its packets.
pub const FILTER_BYTES: usize = 4 << 10;

/// Directions that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions<'a> {
    /// Whether the publish is also for the ordinary subscriptions at the destination.
    pub ordinary: bool,
    /// How often it was directed on.
    pub hops: u8,
    /// How a member is chosen.
    pub choice: Choice,
    count: u16,
    filters: &'a [u8],
}

impl<'a> Directions<'a> {
    /// Appends directions. As many of `filters` as fit; returns how many.
    pub fn encode(to: &mut BytesMut, ordinary: bool, hops: u8, choice: Choice, filters: &[&str]) -> usize {
        let bytes = |filters: &[&str]| filters.iter().map(|filter| 2 + filter.len()).sum::<usize>();
        let mut taken = filters.len().min(1);
        while taken < filters.len().min(usize::from(u16::MAX)) && bytes(&filters[..taken]) < FILTER_BYTES {
            taken += 1;
        }
        let filters = &filters[..taken];
        to.put_u8(FIRST);
        to.put_u32((FIXED + bytes(filters)) as u32);
        to.put_slice(&[VERSION, if ordinary { ORDINARY } else { 0 }, hops, choice.strategy.code()]);
        to.put_u64(choice.key);
        to.put_u16(filters.len() as u16);
        for filter in filters {
            to.put_u16(filter.len() as u16);
            to.put_slice(filter.as_bytes());
        }
        taken
    }

    /// Whether directions stand at the front of `run`.
    pub fn ahead(run: &[u8]) -> bool {
        run.first() == Some(&FIRST)
    }

    /// Reads the directions at the front of `run`, and what follows; `None` if they are none, or none that this version
    /// understands.
    pub fn decode(run: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (first, rest) = run.split_first()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        let ([version, flags, hops, strategy], body) = body.split_first_chunk()?;
        let (key, body) = body.split_first_chunk()?;
        let (count, filters) = body.split_first_chunk()?;
        if (*first, *version) != (FIRST, VERSION) {
            return None;
        }
        let choice = Choice { strategy: ShareStrategy::from_code(*strategy), key: u64::from_be_bytes(*key) };
        let ordinary = flags & ORDINARY != 0;
        let directions = Self { ordinary, hops: *hops, choice, count: u16::from_be_bytes(*count), filters };
        (directions.filters().count() == usize::from(directions.count)).then_some((directions, rest))
    }

    /// The filters, `$share` prefix and all.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.filters;
        (0..self.count).map_while(move |_| {
            let (len, tail) = rest.split_first_chunk()?;
            let (filter, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = tail;
            std::str::from_utf8(filter).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rookery_cluster::limits::{FORWARD_BATCH_BYTES, MAX_PACKET_BYTES};

    use super::*;

    const CHOICE: Choice = Choice { strategy: ShareStrategy::HashTopic, key: 0x0102_0304_0506_0708 };

    #[test]
    fn the_bytes_of_version_1() {
        let mut bytes = BytesMut::new();
        assert_eq!(Directions::encode(&mut bytes, true, 2, CHOICE, &["$share/g/t"]), 1);
        let expected: &[u8] = &[8, 0, 0, 0, 26, 1, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 10];
        assert_eq!(bytes, [expected, b"$share/g/t"].concat());
        // A later version of it has more at the end.
        bytes[4] += 1;
        bytes.extend_from_slice(b"?rest");
        let (read, rest) = Directions::decode(&bytes).expect("understood");
        assert_eq!((read.ordinary, read.hops, read.choice, rest), (true, 2, CHOICE, &b"rest"[..]));
        assert_eq!(read.filters().collect::<Vec<_>>(), ["$share/g/t"]);
        bytes[5] = 2;
        assert_eq!(Directions::decode(&bytes), None);
    }

    #[test]
    fn they_stay_below_what_a_batch_has_room_for() {
        let long = "x".repeat(65_535);
        let mut filters = vec!["$share/g/a"; 10];
        filters.push(&long);
        filters.push("$share/g/b");
        let mut bytes = BytesMut::new();
        assert_eq!(Directions::encode(&mut bytes, true, 0, CHOICE, &filters), 11);
        assert!(bytes.len() < FORWARD_BATCH_BYTES - MAX_PACKET_BYTES);
        bytes.clear();
        assert_eq!(Directions::encode(&mut bytes, true, 0, CHOICE, &filters[10..]), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for bytes in [bytes.clone(), [&[8, 0, 0, 0, 30, 1][..], &bytes].concat()] {
                if let Some((read, _)) = Directions::decode(&bytes) {
                    prop_assert_eq!(read.filters().count(), usize::from(read.count));
                }
            }
        }
    }
}
