//! Bytes of the store's file. All numbers are little-endian.
//!
//! A file is a header and then batches without a gap. A batch is a header of [`BATCH_HEADER`] bytes and entries. Both its
//! checksums start from the file's random salt and the batch's number, so that nobody can publish a message that
//! looks like a batch.

use bytes::{Buf, BufMut, Bytes};

use crate::clock::UnixMillis;
use crate::ids::{BrokerId, NodeId};
use crate::retained::{Record, Stamp, Time};

const FILE_MAGIC: [u8; 8] = *b"RKRETAIN";
const VERSION: u8 = 1;
/// Bytes before the first batch.
pub(super) const FILE_HEADER: usize = 24;
const BATCH_MAGIC: [u8; 4] = *b"RKR\xb7";
/// Bytes of a batch before its entries.
pub(super) const BATCH_HEADER: usize = 24;
/// What an entry takes beside its topic and message, at most.
pub(super) const ENTRY_OVERHEAD: usize = 50;

/// Something that the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A topic's record.
    Record(BrokerId, String, Record),
    /// The broker was deleted: nothing before this counts.
    Removed(BrokerId),
    /// At this time the node had everything that it promised to have.
    CaughtUp(UnixMillis),
}

pub(super) fn put_header(out: &mut Vec<u8>, salt: u64) {
    let start = out.len();
    out.extend_from_slice(&FILE_MAGIC);
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    out.put_u64_le(salt);
    let sum = crc32c::crc32c(&out[start..]);
    out.put_u32_le(sum);
}

/// The salt of a file that begins with `bytes`; nothing if it is none of this version.
pub(super) fn header(bytes: &[u8]) -> Option<u64> {
    let (mut head, mut sum) = bytes.get(..FILE_HEADER)?.split_at(FILE_HEADER - 4);
    if head[..8] != FILE_MAGIC || head[8] != VERSION || sum.get_u32_le() != crc32c::crc32c(head) {
        return None;
    }
    head.advance(12);
    Some(head.get_u64_le())
}

fn salted(salt: u64, number: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &number.to_le_bytes())
}

pub(super) fn put_batch(out: &mut Vec<u8>, salt: u64, number: u64, body: &[u8]) {
    let start = out.len();
    let seed = salted(salt, number);
    out.extend_from_slice(&BATCH_MAGIC);
    out.put_u64_le(number);
    out.put_u32_le(body.len() as u32);
    out.put_u32_le(crc32c::crc32c_append(seed, body));
    let sum = crc32c::crc32c_append(seed, &out[start..]);
    out.put_u32_le(sum);
    out.extend_from_slice(body);
}

/// The sound batch at the front of `bytes`: its number and its entries.
pub(super) fn batch(bytes: &[u8], salt: u64) -> Option<(u64, &[u8])> {
    let head = bytes.get(..BATCH_HEADER)?;
    let (mut rest, mut sum) = head.split_at(BATCH_HEADER - 4);
    if rest[..4] != BATCH_MAGIC {
        return None;
    }
    let whole = rest;
    rest.advance(4);
    let (number, len, body_sum) = (rest.get_u64_le(), rest.get_u32_le() as usize, rest.get_u32_le());
    let seed = salted(salt, number);
    if sum.get_u32_le() != crc32c::crc32c_append(seed, whole) {
        return None;
    }
    let body = bytes.get(BATCH_HEADER..BATCH_HEADER + len)?;
    (body_sum == crc32c::crc32c_append(seed, body)).then_some((number, body))
}

/// The first place from `from` on where a sound batch later than `after` begins.
pub(super) fn next_batch(bytes: &[u8], salt: u64, from: usize, after: Option<u64>) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == BATCH_MAGIC[0])?;
        match batch(&bytes[at..], salt) {
            Some((number, _)) if after.is_none_or(|after| number > after) => return Some(at),
            _ => at += 1,
        }
    }
}

impl Entry {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Record(broker, topic, record) => put_record(out, *broker, topic, record),
            Self::Removed(broker) => {
                out.put_u8(2);
                out.put_u128_le(broker.0);
            }
            Self::CaughtUp(at) => {
                out.put_u8(3);
                out.put_u64_le(at.0);
            }
        }
    }

    /// Takes the next entry; `None` if the bytes are none, which a checksum rules out.
    pub(super) fn take(from: &mut &[u8]) -> Option<Self> {
        match from.try_get_u8().ok()? {
            1 => take_record(from),
            2 => Some(Self::Removed(BrokerId(from.try_get_u128_le().ok()?))),
            3 => Some(Self::CaughtUp(UnixMillis(from.try_get_u64_le().ok()?))),
            _ => None,
        }
    }
}

pub(super) fn put_record(out: &mut Vec<u8>, broker: BrokerId, topic: &str, record: &Record) {
    out.put_u8(1);
    out.put_u128_le(broker.0);
    out.put_u64_le(record.stamp.time.0);
    out.put_u64_le(record.stamp.node.0);
    out.put_u8(u8::from(record.message.is_some()) | u8::from(record.expires.is_some()) << 1);
    if let Some(at) = record.expires {
        out.put_u64_le(at.0);
    }
    out.put_u32_le(topic.len() as u32);
    out.extend_from_slice(topic.as_bytes());
    if let Some(message) = &record.message {
        out.put_u32_le(message.len() as u32);
        out.extend_from_slice(message);
    }
}

fn take_record(from: &mut &[u8]) -> Option<Entry> {
    let broker = BrokerId(from.try_get_u128_le().ok()?);
    let time = Time(from.try_get_u64_le().ok()?);
    let stamp = Stamp { time, node: NodeId(from.try_get_u64_le().ok()?) };
    let flags = from.try_get_u8().ok()?;
    let expires = if flags & 2 != 0 { Some(UnixMillis(from.try_get_u64_le().ok()?)) } else { None };
    let topic = String::from_utf8(take_bytes(from)?.to_vec()).ok()?;
    let message = if flags & 1 != 0 { Some(Bytes::copy_from_slice(take_bytes(from)?)) } else { None };
    Some(Entry::Record(broker, topic, Record { stamp, expires, message }))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let record = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<Vec<u8>>>());
        prop_oneof![
            (any::<u128>(), ".{0,20}", record).prop_map(|(broker, topic, (time, node, expires, message))| {
                let stamp = Stamp { time: Time(time), node: NodeId(node) };
                let record = Record { stamp, expires: expires.map(UnixMillis), message: message.map(Bytes::from) };
                Entry::Record(BrokerId(broker), topic, record)
            }),
            any::<u128>().prop_map(|b| Entry::Removed(BrokerId(b))),
            any::<u64>().prop_map(|at| Entry::CaughtUp(UnixMillis(at))),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(entries in proptest::collection::vec(entry(), 0..10)) {
            let mut out = Vec::new();
            entries.iter().for_each(|e| e.put(&mut out));
            let mut rest = &out[..];
            for entry in &entries {
                prop_assert_eq!(Entry::take(&mut rest), Some(entry.clone()));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while Entry::take(&mut rest).is_some() {}
            let _ = (header(&bytes), batch(&bytes, 1), next_batch(&bytes, 1, 0, None));
        }

        #[test]
        fn a_flipped_bit_is_seen(body in proptest::collection::vec(any::<u8>(), 0..50), at: prop::sample::Index, bit in 0..8u8) {
            let mut out = Vec::new();
            put_batch(&mut out, 5, 9, &body);
            prop_assert_eq!(batch(&out, 5), Some((9, &body[..])));
            prop_assert_eq!(batch(&out, 6), None);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert_eq!(batch(&out, 5), None);
        }
    }
}
