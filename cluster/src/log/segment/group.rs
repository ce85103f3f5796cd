//! Where one group's entries are in the segments.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Segment;
use super::bounds::Bounds;
use super::format::{ENTRY_HEADER, Record};
use crate::ids::GroupId;

/// Where an entry's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which segment; 0 while it is not known (replay only).
    pub(super) segment: u64,
    /// Where in it, bytes.
    pub(super) offset: u32,
    /// Bytes of the entry itself.
    pub(super) len: u32,
}

impl Place {
    pub(super) const UNKNOWN: Place = Place { segment: 0, offset: 0, len: 0 };

    pub(super) fn record_bytes(self) -> u64 {
        ENTRY_HEADER as u64 + u64::from(self.len)
    }
}

/// The segments that are there, by id.
pub(super) type Segments = BTreeMap<u64, Segment>;

/// A group as its readers see it. Entries `bounds.first..bounds.end`; the first `places.len()` of them are in
/// segments (or on the way there), the last `recent.len()` in memory, which are at least those without a place.
#[derive(Default)]
pub(super) struct Group {
    pub(super) bounds: Bounds,
    pub(super) places: VecDeque<Place>,
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
}

/// Where a reader finds an entry.
pub(super) enum Found {
    Here(Bytes),
    At(Place),
}

impl Group {
    /// What a replay found, all of it in segments.
    pub(super) fn replayed(bounds: Bounds, places: VecDeque<Place>) -> Group {
        Group { bounds, places, ..Group::default() }
    }

    /// Index after the last entry that has a place.
    fn placed_end(&self) -> u64 {
        self.bounds.first + self.places.len() as u64
    }

    /// Adds an entry that is item `item` of the queue.
    pub(super) fn push(&mut self, item: u64, record: &Record, bytes: &Bytes) {
        // The caller has checked that the entry follows.
        let _ = self.bounds.apply(record);
        self.recent.push_back((item, bytes.clone()));
        self.recent_bytes += bytes.len();
    }

    /// Gives an entry its place, if it is still the one that item `item` brought.
    pub(super) fn place(&mut self, item: u64, index: u64, place: Place, segments: &mut Segments) {
        let from_end = self.bounds.end.checked_sub(index).filter(|n| *n <= self.recent.len() as u64);
        let at = from_end.and_then(|n| self.recent.get(self.recent.len() - n as usize));
        if index == self.placed_end() && at.is_some_and(|(of, _)| *of == item) {
            self.places.push_back(place);
            grow(segments, place);
        }
    }

    /// Lets go of entries in memory beyond `most` bytes, oldest first. Only after a sync: until then what has a
    /// place may not be readable there.
    pub(super) fn forget(&mut self, most: usize) {
        while self.recent_bytes > most && self.bounds.end - (self.recent.len() as u64) < self.placed_end() {
            let Some((_, bytes)) = self.recent.pop_front() else { return };
            self.recent_bytes -= bytes.len();
        }
    }

    /// Cuts the log before `end`.
    pub(super) fn truncate(&mut self, end: u64, segments: &mut Segments) {
        let before = self.bounds.end;
        // A truncation always applies.
        let _ = self.bounds.apply(&Record::Truncate(end));
        let gone = if self.bounds.is_pristine() { before } else { before - self.bounds.end };
        for _ in 0..gone.min(self.recent.len() as u64) {
            self.recent_bytes -= self.recent.pop_back().map_or(0, |(_, bytes)| bytes.len());
        }
        let kept = self.bounds.end - self.bounds.first;
        while self.places.len() as u64 > kept {
            self.places.pop_back().into_iter().for_each(|place| shrink(segments, place));
        }
    }

    /// Purges up to and including `upto`.
    pub(super) fn purge(&mut self, upto: u64, id: &Bytes, segments: &mut Segments) {
        let before = self.bounds.first;
        // A purge always applies.
        let _ = self.bounds.apply(&Record::Purge(upto, id.clone()));
        for _ in 0..(self.bounds.first - before).min(self.places.len() as u64) {
            self.places.pop_front().into_iter().for_each(|place| shrink(segments, place));
        }
        while self.recent.len() as u64 > self.bounds.end - self.bounds.first {
            self.recent_bytes -= self.recent.pop_front().map_or(0, |(_, bytes)| bytes.len());
        }
    }

    /// The group leaves: none of its entries is live any more.
    pub(super) fn release(self, segments: &mut Segments) {
        self.places.into_iter().for_each(|place| shrink(segments, place));
    }

    /// Place of an entry, if it has one.
    pub(super) fn place_of(&self, index: u64) -> Option<Place> {
        self.places.get(usize::try_from(index.checked_sub(self.bounds.first)?).ok()?).copied()
    }

    /// An entry moved from `old` to `new`, if it is still at `old`.
    pub(super) fn moved(&mut self, index: u64, old: Place, new: Place, segments: &mut Segments) {
        if self.place_of(index) == Some(old) {
            self.places[(index - self.bounds.first) as usize] = new;
            shrink(segments, old);
            grow(segments, new);
        }
    }

    /// Entries of `from..to` that exist.
    pub(super) fn find(&self, from: u64, to: u64) -> Vec<(u64, Found)> {
        let in_memory = self.bounds.end - self.recent.len() as u64;
        let wanted = from.max(self.bounds.first)..to.min(self.bounds.end);
        wanted.filter_map(|index| Some((index, self.found(index, in_memory)?))).collect()
    }

    fn found(&self, index: u64, in_memory: u64) -> Option<Found> {
        match index.checked_sub(in_memory) {
            Some(at) => self.recent.get(at as usize).map(|(_, bytes)| Found::Here(bytes.clone())),
            None => self.place_of(index).map(Found::At),
        }
    }
}

fn grow(segments: &mut Segments, place: Place) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.live += place.record_bytes();
    }
}

fn shrink(segments: &mut Segments, place: Place) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.live -= place.record_bytes();
    }
}

/// All groups, by id.
pub(super) type Groups = BTreeMap<GroupId, Group>;
