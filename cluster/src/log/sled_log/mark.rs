//! The high-water mark: what this node has promised, kept apart from the log that holds it.
//!
//! sled 0.34 opens without an error on a damaged file and gives back the part before the damage. The mark is what
//! tells such a log from a whole one. Each batch of the log is on disk before the mark that covers it, and the mark before anyone is told.

use std::io;
use std::path::Path;

use super::super::open_error::LogOpenError;
use super::super::two_slots::TwoSlots;
use super::rows::MOST_NUMBER;
use crate::disk::Disk;

const VERSION: u8 = 1;
pub(super) const BODY: usize = 1 + 8 * 4 + 4 * 2;

/// What was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many marks were written before this one.
    pub(super) serial: u64,
    /// How often the vote was saved, and the CRC32C of the last.
    pub(super) votes: u64,
    /// CRC32C of the last vote.
    pub(super) vote_crc: u32,
    /// Index after the last entry.
    pub(super) end: u64,
    /// The log's sum up to the last entry.
    pub(super) chain: u32,
    /// How many truncations there were.
    pub(super) truncations: u64,
}

impl Mark {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BODY + 4);
        out.push(VERSION);
        for n in [self.serial, self.votes, self.end, self.truncations] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        for n in [self.vote_crc, self.chain] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    fn decode(slot: &[u8]) -> Option<Mark> {
        let (body, rest) = slot.split_at_checked(BODY)?;
        let sum = u32::from_be_bytes(*rest.first_chunk()?);
        if sum != crc32c::crc32c(body) || body[0] != VERSION {
            return None;
        }
        let long = |at: usize| body.get(1 + at * 8..).and_then(|b| b.first_chunk()).map(|b| u64::from_be_bytes(*b));
        let short = |at: usize| body.get(33 + at * 4..).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
        Some(Mark {
            // The next mark has the number after it.
            serial: long(0).filter(|serial| *serial <= MOST_NUMBER)?,
            votes: long(1)?,
            end: long(2)?,
            truncations: long(3)?,
            vote_crc: short(0)?,
            chain: short(1)?,
        })
    }
}

/// The open mark file.
pub(super) struct MarkFile {
    file: TwoSlots,
    next_serial: u64,
}

impl MarkFile {
    /// Opens the mark. `None` if there is none; an error if no slot of it is sound.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Option<(MarkFile, Mark)>, LogOpenError> {
        let Some((file, slots)) = TwoSlots::open(disk, path).map_err(|e| LogOpenError::io(path, e))? else {
            return Ok(None);
        };
        let newest = slots.iter().filter_map(|slot| Mark::decode(slot)).max_by_key(|mark| mark.serial);
        let mark = newest
            .ok_or_else(|| LogOpenError::damaged(path, "both slots of the high-water mark", "no slot is sound"))?;
        Ok(Some((MarkFile { file, next_serial: mark.serial + 1 }, mark)))
    }

    /// Makes a mark that promises nothing, durably.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<MarkFile> {
        Ok(MarkFile { file: TwoSlots::create(disk, path, Mark::default().encode())?, next_serial: 1 })
    }

    /// Replaces the older slot, durably.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let mark = Mark { serial: self.next_serial, ..mark };
        self.next_serial += 1;
        self.file.write(mark.serial, &mark.encode())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::super::two_slots::SLOT;
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn a_torn_or_rotten_slot_leaves_the_other() {
        let disk = MemDisk::new(1);
        let path = PathBuf::from("/d/mark");
        let mut file = MarkFile::create(&disk, &path).unwrap();
        for end in 1..=3 {
            file.write(Mark { end, ..Mark::default() }).unwrap();
        }
        let (_, newest) = MarkFile::open(&disk, &path).unwrap().unwrap();
        assert_eq!((newest.end, newest.serial), (3, 3));
        disk.flip(&path, SLOT as u64 + 9, 4);
        assert_eq!(MarkFile::open(&disk, &path).unwrap().unwrap().1.end, 2);
        disk.flip(&path, 9, 4);
        assert!(matches!(MarkFile::open(&disk, &path), Err(LogOpenError::Damaged { .. })));
    }

    #[test]
    fn a_serial_that_none_can_follow_is_no_marks() {
        let mark = |serial| Mark { serial, ..Mark::default() };
        assert_eq!(Mark::decode(&mark(MOST_NUMBER).encode()), Some(mark(MOST_NUMBER)));
        assert_eq!(Mark::decode(&mark(MOST_NUMBER + 1).encode()), None);
    }

    fn mark() -> impl Strategy<Value = Mark> {
        ((0..=MOST_NUMBER, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(<[u64; 4]>::from), any::<[u32; 2]>())
            .prop_map(|([serial, votes, end, truncations], [vote_crc, chain])| Mark {
                serial,
                votes,
                vote_crc,
                end,
                chain,
                truncations,
            })
    }

    proptest! {
        #[test]
        fn a_mark_comes_back_and_a_changed_one_does_not(mark in mark(), at: prop::sample::Index, bit in 0..8u8, more: Vec<u8>) {
            let mut slot = mark.encode();
            let at = at.index(slot.len());
            slot.extend(more);
            prop_assert_eq!(Mark::decode(&slot), Some(mark));
            slot[at] ^= 1 << bit;
            prop_assert_eq!(Mark::decode(&slot), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(slots in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Mark::decode(&slots), None);
        }
    }
}
