//! What one group of the segment log holds, apart from where.

use std::io;

use bytes::Bytes;

use super::format::{Bad, MOST_NUMBER, Record};

/// What a group holds, but for where its entries are. The same changes applied to the same bounds when they are
/// asked for, when they are written and when they are replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<u64>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// Index of the first entry, if there is one.
    pub(super) first: u64,
    /// Index after the last entry or the purge point.
    pub(super) end: u64,
}

impl Bounds {
    /// Neither entries nor a purge point: the log may start at any index.
    pub(super) fn is_pristine(&self) -> bool {
        self.purged.is_none() && self.first == self.end
    }

    /// Applies one change, or says why it cannot follow.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), Bad> {
        match record {
            Record::Entry(index, _) => {
                if self.is_pristine() {
                    (self.first, self.end) = (*index, *index);
                }
                if *index != self.end {
                    return Err("an entry does not follow the one before");
                }
                self.end += 1;
            }
            Record::Moved(index, _) if (self.first..self.end).contains(index) => {}
            Record::Moved(..) => return Err("an entry was moved that is not there"),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Committed(committed) => self.committed = *committed,
            Record::Purge(upto, id) => {
                self.purged = Some((*upto, id.clone()));
                self.first = self.first.max(upto + 1);
                self.end = self.end.max(upto + 1);
            }
            Record::Truncate(end) => {
                self.end = self.end.min((*end).max(self.first));
                if self.is_pristine() {
                    (self.first, self.end) = (0, 0);
                }
            }
            Record::Group(bounds) => *self = bounds.clone(),
            Record::Remove => *self = Bounds::default(),
        }
        Ok(())
    }

    /// Whether a purge up to `upto` changes anything; refused if it would leave a hole.
    pub(super) fn may_purge(&self, upto: u64) -> io::Result<bool> {
        if self.purged.is_none() && self.first < self.end && upto + 1 < self.first {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the purge would leave a hole before the log"));
        }
        Ok(upto < MOST_NUMBER && self.purged.as_ref().is_none_or(|(purged, _)| *purged < upto))
    }
}
