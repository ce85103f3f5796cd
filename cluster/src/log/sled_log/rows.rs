//! Rows of the metadata log. Tree `log`: index (u64, big endian) to [`Row`], and [`TRUNCATIONS`] to
//! [`Truncations`]. Tree `meta`: [`VOTE`], [`COMMITTED`] and [`PURGED`]. Every value starts with a version and a
//! CRC32C that covers its key.

use bytes::Bytes;

const VERSION: u8 = 1;
const HEADER: usize = 5;
pub(super) const MOST_NUMBER: u64 = crate::log::MOST_NUMBER;

/// Key of the vote: how often it was saved (u64), then the vote.
pub(super) const VOTE: &[u8] = b"vote";
/// Key of the committed index: nothing, or a u64.
pub(super) const COMMITTED: &[u8] = b"committed";
/// Key of the purge point: [`Purged`].
pub(super) const PURGED: &[u8] = b"purged";
/// Key of the truncations, in the tree `log` so that it changes with the rows in one step. Sorts after every index.
pub(super) const TRUNCATIONS: &[u8] = &[0xff; 9];

/// A value that is not what was written under its key.
pub(super) type Bad = &'static str;

fn crc(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// Wraps a value for its key.
pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(VERSION);
    out.extend_from_slice(&crc(key, body).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Checks and unwraps what [`seal`] made.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Bad> {
    let (version, rest) = value.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err("its version is unknown");
    }
    let (sum, body) = rest.split_first_chunk().ok_or("it is cut short")?;
    if u32::from_be_bytes(*sum) != crc(key, body) { Err("its checksum is wrong") } else { Ok(body) }
}

fn split_u64(body: &[u8]) -> Result<(u64, &[u8]), Bad> {
    let (n, rest) = body.split_first_chunk().ok_or("it is cut short")?;
    Ok((u64::from_be_bytes(*n), rest))
}

/// As [`split_u64`], of what is counted on from.
fn split_number(body: &[u8]) -> Result<(u64, &[u8]), Bad> {
    split_u64(body).and_then(|(n, rest)| Ok((number(n)?, rest)))
}

fn number(n: u64) -> Result<u64, Bad> {
    if n > MOST_NUMBER { Err("its number is out of range") } else { Ok(n) }
}

fn split_u32(body: &[u8]) -> Result<(u32, &[u8]), Bad> {
    let (n, rest) = body.split_first_chunk().ok_or("it is cut short")?;
    Ok((u32::from_be_bytes(*n), rest))
}

/// The checksum of the log up to and including an entry: that of the log before it, with the entry added. Two
/// logs of the same sum hold the same entries.
pub(super) fn chain(before: u32, index: u64, entry: &[u8]) -> u32 {
    let with_index = crc32c::crc32c_append(before, &index.to_be_bytes());
    crc32c::crc32c_append(with_index, &crc32c::crc32c(entry).to_be_bytes())
}

/// An entry as stored: the log's sum up to it, then its bytes.
pub(super) fn encode_row(index: u64, chain: u32, entry: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + entry.len());
    body.extend_from_slice(&chain.to_be_bytes());
    body.extend_from_slice(entry);
    seal(&index.to_be_bytes(), &body)
}

/// The log's sum up to the entry, and the entry.
pub(super) fn decode_row(key: &[u8], value: &[u8]) -> Result<(u32, Bytes), Bad> {
    let (chain, entry) = split_u32(unseal(key, value)?)?;
    Ok((chain, Bytes::copy_from_slice(entry)))
}

/// Index of a row's key.
pub(super) fn decode_index(key: &[u8]) -> Result<u64, Bad> {
    number(<[u8; 8]>::try_from(key).map(u64::from_be_bytes).map_err(|_| "its key is not an index")?)
}

pub(super) fn encode_vote(saved: u64, vote: &[u8]) -> Vec<u8> {
    seal(VOTE, &[&saved.to_be_bytes(), vote].concat())
}

pub(super) fn decode_vote(value: &[u8]) -> Result<(u64, Bytes), Bad> {
    let (saved, vote) = split_number(unseal(VOTE, value)?)?;
    Ok((saved, Bytes::copy_from_slice(vote)))
}

pub(super) fn encode_committed(committed: Option<u64>) -> Vec<u8> {
    let body = committed.map(u64::to_be_bytes);
    seal(COMMITTED, body.as_ref().map_or(&[][..], |b| &b[..]))
}

pub(super) fn decode_committed(value: &[u8]) -> Result<Option<u64>, Bad> {
    let body = unseal(COMMITTED, value)?;
    if body.is_empty() { Ok(None) } else { Ok(Some(split_u64(body)?.0)) }
}

/// The purge point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purged {
    /// Everything up to here is gone.
    pub(super) upto: u64,
    /// The log's sum up to there.
    pub(super) chain: u32,
    /// The Raft layer's log id.
    pub(super) log_id: Bytes,
}

impl Purged {
    pub(super) fn encode(&self) -> Vec<u8> {
        seal(PURGED, &[&self.upto.to_be_bytes()[..], &self.chain.to_be_bytes(), &self.log_id].concat())
    }

    pub(super) fn decode(value: &[u8]) -> Result<Purged, Bad> {
        let (upto, rest) = split_number(unseal(PURGED, value)?)?;
        let (chain, log_id) = split_u32(rest)?;
        Ok(Purged { upto, chain, log_id: Bytes::copy_from_slice(log_id) })
    }
}

/// What lets an older mark be compared with a log that was cut since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncations {
    /// How many there were in the log's life.
    pub(super) count: u64,
    /// The lowest end (index after the last entry) that one left since the mark was last durable.
    pub(super) lowest_end: u64,
}

impl Truncations {
    /// None yet.
    pub(super) const NONE: Truncations = Truncations { count: 0, lowest_end: u64::MAX };

    pub(super) fn encode(self) -> Vec<u8> {
        seal(TRUNCATIONS, &[self.count.to_be_bytes(), self.lowest_end.to_be_bytes()].concat())
    }

    pub(super) fn decode(value: &[u8]) -> Result<Truncations, Bad> {
        let (count, rest) = split_number(unseal(TRUNCATIONS, value)?)?;
        Ok(Truncations { count, lowest_end: split_u64(rest)?.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_none_can_follow_is_refused() {
        for number in [MOST_NUMBER, MOST_NUMBER + 1, u64::MAX] {
            let sound = number == MOST_NUMBER;
            assert_eq!(decode_index(&number.to_be_bytes()).is_ok(), sound);
            assert_eq!(decode_vote(&encode_vote(number, b"v")).is_ok(), sound);
            let purged = Purged { upto: number, chain: 1, log_id: Bytes::from_static(b"id") };
            assert_eq!(Purged::decode(&purged.encode()).is_ok(), sound);
            let truncations = Truncations { count: number, ..Truncations::NONE };
            assert_eq!(Truncations::decode(&truncations.encode()).is_ok(), sound);
        }
    }
}
