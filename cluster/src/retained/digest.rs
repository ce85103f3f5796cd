//! Digests: what two tables compare to find where they differ.

use super::Record;

/// Parts of a broker's topics that are compared apart: a bit of a mask each.
pub const BUCKETS: usize = 64;

/// One sum for each bucket of a broker. Equal where the same messages are held.
pub type Digests = [u64; BUCKETS];

/// The buckets in which two brokers differ, as a mask.
pub fn differing(ours: &Digests, theirs: &Digests) -> u64 {
    ours.iter().zip(theirs).enumerate().fold(0, |mask, (bucket, (a, b))| mask | u64::from(a != b) << bucket)
}

/// The bucket of a topic: the same on all nodes and in all versions.
pub(super) fn bucket(topic: &str) -> usize {
    (hash(0, topic.as_bytes()) % BUCKETS as u64) as usize
}

/// What a message adds to its bucket. Sums, so that the order of arrival shows nowhere.
pub(super) fn weight(topic: &str, record: &Record) -> u64 {
    let seed = hash(record.stamp.time.0, &record.stamp.node.0.to_le_bytes());
    let seed = hash(seed, topic.as_bytes());
    hash(seed, record.message.as_deref().unwrap_or_default())
}

/// FNV-1a with splitmix64's output function, so that sums of similar words do not cancel out.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let word = bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let z = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
