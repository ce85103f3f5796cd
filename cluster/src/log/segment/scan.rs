//! Reading one segment: its batches, and whether its end is a torn write or damage.

use std::path::Path;

use super::super::open_error::LogOpenError;
use super::format::{BATCH_HEADER, BATCH_MAGIC, BatchHeader, FILE_HEADER, FileHeader};

/// A sound batch: where it starts, its header and its records.
pub(super) type Batch<'a> = (usize, BatchHeader, &'a [u8]);

/// What a segment holds.
pub(super) struct Scan<'a> {
    pub(super) header: FileHeader,
    pub(super) batches: Vec<Batch<'a>>,
    /// Where the sound part ends.
    pub(super) end: usize,
    /// Whether anything but zeros follows: a write that was torn by a crash.
    pub(super) torn: bool,
}

/// Reads the segment `id` whose first batch should have the number `first` (if known).
///
/// At most one batch is ever on its way to the disk, so only the last batch of the last segment may be torn.
/// Damage that a sound batch follows, or that is in an older segment, is damage.
pub(super) fn scan<'a>(
    path: &Path,
    bytes: &'a [u8],
    id: u64,
    first: Option<u64>,
    last_segment: bool,
) -> Result<Scan<'a>, LogOpenError> {
    let bad = |at: usize, what: String| LogOpenError::damaged(path, format!("byte {at}"), what);
    let header = FileHeader::decode(bytes).map_err(|what| bad(0, what.into()))?;
    if header.segment != id {
        return Err(bad(0, format!("this is segment {}", header.segment)));
    }
    if let Some(first) = first.filter(|first| *first != header.first_batch) {
        return Err(bad(0, format!("it starts with batch {}, but batch {first} is next", header.first_batch)));
    }
    let mut next = header.first_batch;
    let mut end = FILE_HEADER;
    let mut batches = Vec::new();
    while let Some((head, body)) = sound_batch(&header, &bytes[end..], next) {
        batches.push((end, head, body));
        end += BATCH_HEADER + head.len;
        next += 1;
    }
    if batches.is_empty() {
        // A segment gets its name once its first batch is on disk, so that one is never torn.
        return Err(bad(end, "the segment's checkpoint is damaged".into()));
    }
    let torn = bytes[end..].iter().any(|byte| *byte != 0);
    if torn && !last_segment {
        return Err(bad(end, format!("batch {next} is damaged, and later segments follow")));
    }
    if let Some((at, number)) = torn.then(|| later_batch(&header, bytes, end, next)).flatten() {
        return Err(bad(end, format!("batch {next} is damaged: batch {number} at byte {at} follows it")));
    }
    Ok(Scan { header, batches, end, torn })
}

fn sound_batch<'a>(header: &FileHeader, bytes: &'a [u8], number: u64) -> Option<(BatchHeader, &'a [u8])> {
    let head = header.batch_header(bytes).filter(|head| head.number == number)?;
    Some((head, header.batch_body(&head, bytes)?))
}

/// The first header after `from` of a batch later than `expected`.
fn later_batch(header: &FileHeader, bytes: &[u8], from: usize, expected: u64) -> Option<(usize, u64)> {
    let mut at = from + 1;
    while let Some(step) = bytes.get(at..)?.iter().position(|byte| *byte == BATCH_MAGIC[0]) {
        at += step;
        match header.batch_header(&bytes[at..]) {
            Some(head) if head.number > expected => return Some((at, head.number)),
            _ => at += 1,
        }
    }
    None
}
