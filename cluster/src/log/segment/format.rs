//! Bytes of the segment log. All numbers are little-endian.
//!
//! A segment is a [`FileHeader`], then batches without a gap, the first of which is a checkpoint: what every group
//! holds at this point. A batch is a header of [`BATCH_HEADER`] bytes and records. Both its checksums start from
//! the segment's id and salt and the batch's number, so that neither old bytes nor a batch that somebody published
//! as a message can be taken for one.

use bytes::{Buf, BufMut, Bytes};

use super::bounds::Bounds;
use crate::ids::GroupId;

const FILE_MAGIC: [u8; 8] = *b"RKSEGLOG";
/// Of a segment of a log without a mark, as the first ones had none.
const VERSION_UNMARKED: u8 = 1;
const VERSION: u8 = 2;
/// Of a batch.
const BATCH_VERSION: u8 = 1;
/// Bytes of a segment before its first batch.
pub(super) const FILE_HEADER: usize = 40;
/// First bytes of each batch.
pub(super) const BATCH_MAGIC: [u8; 4] = *b"RKB\xb7";
/// Bytes of a batch before its records.
pub(super) const BATCH_HEADER: usize = 36;
/// Bytes of an entry's record before the entry.
pub(super) const ENTRY_HEADER: usize = 21;

/// No batch or segment has a larger number either.
pub(super) const MOST_NUMBER: u64 = crate::log::MOST_NUMBER;

/// What is wrong with a piece of a segment.
pub(super) type Bad = &'static str;

/// Start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Which segment, from 1.
    pub(super) segment: u64,
    /// Random, so that nobody can forge a batch.
    pub(super) salt: u64,
    /// Number of its first batch.
    pub(super) first_batch: u64,
    /// Whether the log has a high-water mark beside it.
    pub(super) marked: bool,
}

impl FileHeader {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FILE_MAGIC);
        out.extend_from_slice(&[if self.marked { VERSION } else { VERSION_UNMARKED }, 0, 0, 0]);
        out.put_u64_le(self.segment);
        out.put_u64_le(self.salt);
        out.put_u64_le(self.first_batch);
        let sum = crc32c::crc32c(&out[start..]);
        out.put_u32_le(sum);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<FileHeader, Bad> {
        let header = bytes.get(..FILE_HEADER).ok_or("the segment's header is cut short")?;
        let (mut body, mut sum) = header.split_at(FILE_HEADER - 4);
        if body[..8] != FILE_MAGIC || sum.get_u32_le() != crc32c::crc32c(body) {
            return Err("the segment's header has a wrong checksum");
        }
        let marked = match body[8] {
            VERSION => true,
            VERSION_UNMARKED => false,
            _ => return Err("the segment's version is unknown"),
        };
        body.advance(12);
        let (segment, salt, first_batch) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
        if segment.max(first_batch) > MOST_NUMBER {
            return Err("the segment's number, or its first batch's, is out of range");
        }
        Ok(FileHeader { segment, salt, first_batch, marked })
    }

    /// What the checksums of a batch start from.
    fn seed(&self, batch: u64) -> u32 {
        let mut bytes = [0; 24];
        let mut out = &mut bytes[..];
        out.put_u64_le(self.segment);
        out.put_u64_le(self.salt);
        out.put_u64_le(batch);
        crc32c::crc32c(&bytes)
    }

    /// Fills the header of the batch that is all of `batch`: [`BATCH_HEADER`] bytes of room, then the records.
    pub(super) fn seal(&self, kind: BatchKind, number: u64, batch: &mut [u8]) {
        let seed = self.seed(number);
        let (header, body) = batch.split_at_mut(BATCH_HEADER);
        let mut out = &mut header[..BATCH_HEADER - 4];
        out.put_slice(&BATCH_MAGIC);
        out.put_slice(&[BATCH_VERSION, kind as u8, 0, 0]);
        out.put_u64_le(self.segment);
        out.put_u64_le(number);
        out.put_u32_le(body.len() as u32);
        out.put_u32_le(crc32c::crc32c_append(seed, body));
        let sum = crc32c::crc32c_append(seed, &header[..BATCH_HEADER - 4]);
        header[BATCH_HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads a batch header. `None` if there is none of this segment, or a damaged one.
    pub(super) fn batch_header(&self, bytes: &[u8]) -> Option<BatchHeader> {
        let header = bytes.get(..BATCH_HEADER)?;
        let (body, mut sum) = header.split_at(BATCH_HEADER - 4);
        let mut rest = body;
        if rest[..4] != BATCH_MAGIC || rest[4] != BATCH_VERSION {
            return None;
        }
        let kind = BatchKind::decode(rest[5])?;
        rest.advance(8);
        let (segment, number) = (rest.get_u64_le(), rest.get_u64_le());
        if segment != self.segment || sum.get_u32_le() != crc32c::crc32c_append(self.seed(number), body) {
            return None;
        }
        Some(BatchHeader { kind, number, len: rest.get_u32_le() as usize, sum: rest.get_u32_le() })
    }

    /// The records of a batch whose header was read, checked.
    pub(super) fn batch_body<'a>(&self, header: &BatchHeader, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(BATCH_HEADER..)?.get(..header.len)?;
        (crc32c::crc32c_append(self.seed(header.number), body) == header.sum).then_some(body)
    }
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    /// Writes of the groups.
    Data = 0,
    /// What every group holds; the first of a segment.
    Checkpoint = 1,
    /// Nothing: written when the log is closed, so that damage to the batch before can be told from a torn write.
    Closed = 2,
}

impl BatchKind {
    fn decode(byte: u8) -> Option<BatchKind> {
        [BatchKind::Data, BatchKind::Checkpoint, BatchKind::Closed].into_iter().find(|k| *k as u8 == byte)
    }
}

/// A batch header that was read and checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    pub(super) kind: BatchKind,
    pub(super) number: u64,
    pub(super) len: usize,
    sum: u32,
}

/// One change of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The next entry.
    Entry(u64, Bytes),
    /// An entry written before, again, so that its old segment can go.
    Moved(u64, Bytes),
    Vote(Bytes),
    Committed(Option<u64>),
    Purge(u64, Bytes),
    /// The index after the last entry that is kept.
    Truncate(u64),
    /// Everything that the group holds, but for its entries (checkpoints only).
    Group(Bounds),
    /// The group is no longer here.
    Remove,
}

const ENTRY: u8 = 1;
const MOVED: u8 = 2;
const VOTE: u8 = 3;
const COMMITTED: u8 = 4;
const PURGE: u8 = 5;
const TRUNCATE: u8 = 6;
const GROUP: u8 = 7;
const REMOVE: u8 = 8;

fn entry_crc(group: GroupId, index: u64, bytes: &[u8]) -> u32 {
    let mut key = [0; 12];
    let mut out = &mut key[..];
    out.put_u32_le(group.0);
    out.put_u64_le(index);
    crc32c::crc32c_append(crc32c::crc32c(&key), bytes)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.put_u8(number.is_some() as u8);
    out.put_u64_le(number.unwrap_or(0));
}

impl Record {
    /// Bytes that it takes in a batch (at least; exact for entries).
    pub(super) fn size(&self) -> usize {
        match self {
            Record::Entry(_, bytes) | Record::Moved(_, bytes) => ENTRY_HEADER + bytes.len(),
            Record::Vote(bytes) => 9 + bytes.len(),
            Record::Committed(_) => 14,
            Record::Purge(_, bytes) => 17 + bytes.len(),
            Record::Truncate(_) => 13,
            Record::Group(_) | Record::Remove => 5,
        }
    }

    pub(super) fn encode(&self, group: GroupId, out: &mut Vec<u8>) {
        out.put_u8(self.kind());
        out.put_u32_le(group.0);
        match self {
            Record::Entry(index, bytes) | Record::Moved(index, bytes) => {
                out.put_u64_le(*index);
                out.put_u32_le(bytes.len() as u32);
                out.put_u32_le(entry_crc(group, *index, bytes));
                out.extend_from_slice(bytes);
            }
            Record::Vote(vote) => put_bytes(out, vote),
            Record::Committed(committed) => put_option(out, *committed),
            Record::Purge(upto, id) => {
                out.put_u64_le(*upto);
                put_bytes(out, id);
            }
            Record::Truncate(end) => out.put_u64_le(*end),
            Record::Group(bounds) => encode_bounds(bounds, out),
            Record::Remove => {}
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Record::Entry(..) => ENTRY,
            Record::Moved(..) => MOVED,
            Record::Vote(_) => VOTE,
            Record::Committed(_) => COMMITTED,
            Record::Purge(..) => PURGE,
            Record::Truncate(_) => TRUNCATE,
            Record::Group(_) => GROUP,
            Record::Remove => REMOVE,
        }
    }

    /// Takes the next record from a batch whose checksum was good. Entries come as what was read, not copied.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<(GroupId, Record), Bad> {
        let kind = reader.u8()?;
        let group = GroupId(reader.u32()?);
        let record = match kind {
            ENTRY | MOVED => {
                let (index, len, sum) = (reader.index()?, reader.u32()?, reader.u32()?);
                let bytes = reader.take(len as usize)?;
                if sum != entry_crc(group, index, bytes) {
                    return Err("an entry has a wrong checksum");
                }
                let bytes = if reader.skip_entries { Bytes::new() } else { Bytes::copy_from_slice(bytes) };
                if kind == ENTRY { Record::Entry(index, bytes) } else { Record::Moved(index, bytes) }
            }
            VOTE => Record::Vote(reader.bytes()?),
            COMMITTED => Record::Committed(reader.option()?),
            PURGE => Record::Purge(reader.index()?, reader.bytes()?),
            TRUNCATE => Record::Truncate(reader.number()?),
            GROUP => Record::Group(decode_bounds(reader)?),
            REMOVE => Record::Remove,
            _ => return Err("a record's kind is unknown"),
        };
        Ok((group, record))
    }
}

fn encode_bounds(bounds: &Bounds, out: &mut Vec<u8>) {
    out.put_u64_le(bounds.first);
    out.put_u64_le(bounds.end);
    put_option(out, bounds.committed);
    out.put_u8(bounds.vote.is_some() as u8);
    put_bytes(out, bounds.vote.as_deref().unwrap_or_default());
    put_option(out, bounds.purged.as_ref().map(|(upto, _)| *upto));
    put_bytes(out, bounds.purged.as_ref().map_or(&[][..], |(_, id)| id));
}

fn decode_bounds(reader: &mut Reader<'_>) -> Result<Bounds, Bad> {
    let (first, end, committed) = (reader.number()?, reader.number()?, reader.option()?);
    let has_vote = reader.u8()? == 1;
    let vote = reader.bytes()?;
    let upto = reader.option()?;
    let id = reader.bytes()?;
    if first > end {
        return Err("a group ends before it begins");
    }
    Ok(Bounds { vote: has_vote.then_some(vote), committed, purged: upto.map(|upto| (upto, id)), first, end })
}

/// Reads records from the body of a batch.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Leave entries' bytes out: only where they are matters.
    skip_entries: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8], skip_entries: bool) -> Reader<'a> {
        Reader { rest: body, skip_entries }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// An index, which there is one after.
    fn index(&mut self) -> Result<u64, Bad> {
        let index = self.number()?;
        if index == MOST_NUMBER { Err("an index is out of range") } else { Ok(index) }
    }

    /// An index, or the one after the last.
    fn number(&mut self) -> Result<u64, Bad> {
        let number = self.u64()?;
        if number > MOST_NUMBER { Err("an index is out of range") } else { Ok(number) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("a record is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Bad> {
        Ok(self.take(4)?.get_u32_le())
    }

    fn u64(&mut self) -> Result<u64, Bad> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn option(&mut self) -> Result<Option<u64>, Bad> {
        let some = self.u8()? == 1;
        let number = self.number()?;
        Ok(some.then_some(number))
    }

    fn bytes(&mut self) -> Result<Bytes, Bad> {
        let len = self.u32()? as usize;
        self.take(len).map(Bytes::copy_from_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader = FileHeader { segment: 3, salt: 77, first_batch: 9, marked: true };

    #[test]
    fn records_come_back() {
        let text = Bytes::from_static(b"text");
        let bounds =
            Bounds { vote: Some(text.clone()), committed: Some(4), purged: Some((2, text.clone())), first: 3, end: 9 };
        let records = [
            Record::Entry(7, text.clone()),
            Record::Moved(5, Bytes::new()),
            Record::Vote(text.clone()),
            Record::Committed(None),
            Record::Committed(Some(8)),
            Record::Purge(6, text),
            Record::Truncate(4),
            Record::Group(bounds),
            Record::Group(Bounds::default()),
            Record::Remove,
        ];
        let mut body = Vec::new();
        records.iter().zip(1..).for_each(|(r, g)| r.encode(GroupId(g), &mut body));
        let mut reader = Reader::new(&body, false);
        for (record, group) in records.iter().zip(1..) {
            assert_eq!(Record::decode(&mut reader).unwrap(), (GroupId(group), record.clone()));
        }
        assert_eq!(reader.left(), 0);
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_seen() {
        let mut batch = vec![0; BATCH_HEADER];
        Record::Vote(Bytes::from_static(b"v")).encode(GroupId(1), &mut batch);
        HEADER.seal(BatchKind::Data, 12, &mut batch);
        let sound =
            |bytes: &[u8]| HEADER.batch_header(bytes).and_then(|h| HEADER.batch_body(&h, bytes).map(|_| h.number));
        assert_eq!(sound(&batch), Some(12));
        for bit in 0..batch.len() * 8 {
            let mut bad = batch.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sound(&bad), None, "bit {bit}");
        }
        let other = FileHeader { salt: 78, ..HEADER };
        assert!(other.batch_header(&batch).is_none(), "the salt of another segment");
    }

    #[test]
    fn a_file_header_comes_back_whole_or_not() {
        let mut bytes = Vec::new();
        HEADER.encode(&mut bytes);
        assert_eq!(bytes.len(), FILE_HEADER);
        assert_eq!(FileHeader::decode(&bytes), Ok(HEADER));
        bytes[20] ^= 1;
        assert!(FileHeader::decode(&bytes).is_err());
    }
}
