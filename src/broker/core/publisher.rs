//! Who published what is kept: a retained message is not for a subscription with No Local of the same client
//! (MQTT-3.8.3-3).
//!
//! What is kept is an MQTT 5 PUBLISH. It may be preceded by a frame that no packet can be taken for, since its first byte has
//! packet type 0, which MQTT reserves. Messages of wills, and those kept before there were such frames, have none.
//!
//! ```text
//! 0x09 | length: u8 | version 1 | hash of the client ID: u64
//! ```
//! Numbers are big-endian. What follows, up to the length, is skipped: later versions may add to it.

use bytes::{BufMut, BytesMut};
use rookery_cluster::topics::name_hash;

/// The first byte.
const FIRST: u8 = 0x09;
const VERSION: u8 = 1;

/// A client, as what it published names it. Two clients of a broker are as good as never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher(u64);

impl Publisher {
    /// The client of this ID.
    pub fn of(client: &str) -> Self {
        Self(name_hash(client))
    }

    /// Appends the frame.
    pub fn encode(self, to: &mut BytesMut) {
        to.put_slice(&[FIRST, 9, VERSION]);
        to.put_u64(self.0);
    }

    /// The publisher that `kept` names, if it does, and the PUBLISH; `None` if the frame is of a version that this one does
    /// not know.
    pub fn decode(kept: &[u8]) -> Option<(Option<Self>, &[u8])> {
        let Some((&FIRST, rest)) = kept.split_first() else { return Some((None, kept)) };
        let (length, rest) = rest.split_first()?;
        let (frame, rest) = rest.split_at_checked(usize::from(*length))?;
        let (&VERSION, hash) = frame.split_first()? else { return None };
        Some((Some(Self(u64::from_be_bytes(*hash.first_chunk()?))), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let mut bytes = BytesMut::new();
        Publisher(0x0102_0304_0506_0708).encode(&mut bytes);
        assert_eq!(bytes[..], [9, 9, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.put_u8(0x30);
        assert_eq!(Publisher::decode(&bytes), Some((Some(Publisher(0x0102_0304_0506_0708)), &[0x30][..])));
    }

    #[test]
    fn a_message_without_it_and_one_with_more_are_read() {
        assert_eq!(Publisher::decode(&[0x31, 5]), Some((None, &[0x31, 5][..])));
        let more = [9, 10, 1, 0, 0, 0, 0, 0, 0, 0, 7, 99, 0x30];
        assert_eq!(Publisher::decode(&more), Some((Some(Publisher(7)), &[0x30][..])));
        for bad in [&[9][..], &[9, 9, 1, 2], &[9, 9, 2, 0, 0, 0, 0, 0, 0, 0, 7], &[9, 0], &[9, 3, 1, 0, 0]] {
            assert_eq!(Publisher::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn clients_differ() {
        assert_eq!(Publisher::of("a"), Publisher::of("a"));
        assert_ne!(Publisher::of("a"), Publisher::of("b"));
    }
}
