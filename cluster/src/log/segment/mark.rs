//! The high-water mark: up to which batch this log was surely on disk, kept beside the log's directory, so that a log that
//! was wiped or put back is told from a whole one.
//!
//! It is written after the batch that it covers, and before whoever wrote a vote is told: so it is never ahead of the
//! log. It is not written with every batch, which would cost each a second sync.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::super::open_error::{LogOpenError, REJOIN};
use super::super::two_slots::TwoSlots;
use super::format::MOST_NUMBER;
use crate::disk::Disk;

const VERSION: u8 = 1;
const BODY: usize = 1 + 8 * 2;

/// Where the mark of the log in `dir` is.
pub(super) fn mark_path(dir: &Path) -> PathBuf {
    dir.with_extension("mark")
}

/// The open mark.
pub(super) struct Mark {
    file: TwoSlots,
    serial: u64,
}

impl Mark {
    /// Opens the mark, and the number of the first batch that it does not promise. `None` if there is none; an error if
    /// no slot of it is sound.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Option<(Mark, u64)>, LogOpenError> {
        let Some((file, slots)) = TwoSlots::open(disk, path).map_err(|e| LogOpenError::io(path, e))? else {
            return Ok(None);
        };
        let newest = slots.iter().filter_map(|slot| decode(slot)).max_by_key(|(serial, _)| *serial);
        let (serial, next) = newest
            .ok_or_else(|| LogOpenError::damaged(path, "both slots of the high-water mark", "no slot is sound"))?;
        Ok(Some((Mark { file, serial }, next)))
    }

    /// Makes a mark that promises nothing, durably.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Mark> {
        Ok(Mark { file: TwoSlots::create(disk, path, encode(0, 0))?, serial: 0 })
    }

    /// All batches before `next` are on disk. Durable when it returns.
    pub(super) fn promise(&mut self, next: u64) -> io::Result<()> {
        self.serial += 1;
        self.file.write(self.serial, &encode(self.serial, next))
    }
}

/// Whether the log in `dir`, whose next batch is `next`, holds all that was promised.
pub(super) fn check(dir: &Path, next: u64, promised: u64) -> Result<(), LogOpenError> {
    let before = |batch: u64| if batch == 0 { "nothing".to_owned() } else { format!("batches up to {}", batch - 1) };
    if next >= promised {
        return Ok(());
    }
    let (file, advice) = (dir.to_path_buf(), REJOIN);
    Err(LogOpenError::BehindItself { file, found: before(next), promised: before(promised), advice })
}

fn encode(serial: u64, next: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.put_u64_le(serial);
    out.put_u64_le(next);
    let sum = crc32c::crc32c(&out);
    out.put_u32_le(sum);
    out
}

fn decode(slot: &[u8]) -> Option<(u64, u64)> {
    let (mut body, mut sum) = slot.split_at_checked(BODY)?;
    if sum.len() < 4 || sum.get_u32_le() != crc32c::crc32c(body) || body.get_u8() != VERSION {
        return None;
    }
    // The next mark has the number after it.
    Some((body.get_u64_le(), body.get_u64_le())).filter(|(serial, _)| *serial <= MOST_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::super::super::two_slots::SLOT;
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn a_torn_or_rotten_slot_leaves_the_other() {
        let disk = MemDisk::new(1);
        let path = mark_path(Path::new("/data/shards"));
        assert_eq!(path, Path::new("/data/shards.mark"));
        let mut mark = Mark::create(&disk, &path).unwrap();
        let open = || Mark::open(&disk, &path).map(|found| found.map(|(_, next)| next));
        assert_eq!(open().unwrap(), Some(0));
        (1..=3).for_each(|n| mark.promise(n * 10).unwrap());
        assert_eq!(open().unwrap(), Some(30));
        disk.flip(&path, SLOT as u64 + 9, 4);
        assert_eq!(open().unwrap(), Some(20));
        disk.flip(&path, 9, 4);
        assert!(matches!(open(), Err(LogOpenError::Damaged { .. })));
    }

    #[test]
    fn a_serial_that_none_can_follow_is_no_marks() {
        assert_eq!(decode(&encode(MOST_NUMBER, 7)), Some((MOST_NUMBER, 7)));
        assert_eq!(decode(&encode(MOST_NUMBER + 1, 7)), None);
    }
}
