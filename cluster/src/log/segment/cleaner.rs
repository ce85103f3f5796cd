//! Gives room back: removes segments in which nothing is live, and has the last live entries of the oldest one
//! written again when too much room is held for too little.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::group::Place;
use super::writer::{Move, read_entry, total};
use super::{Segment, Shared, State, no_segment};
use crate::ids::GroupId;

/// What one batch may carry of entries that are written again, bytes: the others' latency matters more.
const MOVE_BYTES: usize = 256 << 10;
/// Segments that may be held beyond twice what is live.
const SPARE_SEGMENTS: u64 = 3;

#[derive(Default)]
pub(super) struct Cleaner {
    /// Entries of the oldest segment that are still to be written again.
    moving: VecDeque<(GroupId, u64, Place)>,
    /// A segment in which nothing was live when the queue's last item had this number. It may go once that item is
    /// on disk: until then what made its entries dead could be lost.
    dead: Option<(u64, u64)>,
    durable: u64,
}

impl Cleaner {
    /// Every item of the queue up to this number is on disk.
    pub(super) fn durable_through(&mut self, item: u64) {
        self.durable = item;
    }

    /// The next entries to write again. `current` is the segment being written.
    pub(super) fn next(&mut self, shared: &Shared, current: u64, segment_bytes: u64) -> io::Result<Vec<Move>> {
        if self.moving.is_empty() {
            let state = shared.state.lock();
            self.moving = choose(&state, current, segment_bytes);
        }
        let mut moves = Vec::new();
        let mut bytes = 0;
        while let Some((group, index, old)) = self.moving.front().copied().filter(|_| bytes < MOVE_BYTES) {
            self.moving.pop_front();
            if let Some(file) = still_at(&shared.state.lock(), group, index, old)? {
                let entry = read_entry(&*file, group, index, old)?;
                bytes += entry.len() + 1;
                moves.push(Move { group, index, old, bytes: entry });
            }
        }
        Ok(moves)
    }

    /// The oldest segment, taken off the list, if it may be removed now.
    pub(super) fn dead_segment(&mut self, shared: &Shared, current: u64) -> Option<u64> {
        let state = &mut *shared.state.lock();
        let (&oldest, segment) = state.segments.first_key_value()?;
        if oldest == current || segment.live > 0 {
            return None;
        }
        let (_, since) = *self.dead.get_or_insert((oldest, state.queued));
        if self.durable < since {
            return None;
        }
        self.dead = None;
        state.segments.remove(&oldest);
        Some(oldest)
    }
}

/// All live entries of the oldest segment, if too much room is held.
fn choose(state: &State, current: u64, segment_bytes: u64) -> VecDeque<(GroupId, u64, Place)> {
    let live: u64 = state.segments.values().map(|segment| segment.live).sum();
    let allowed = 2 * live + SPARE_SEGMENTS * segment_bytes;
    let oldest = state.segments.first_key_value().filter(|(id, _)| **id != current);
    let crowded = |(_, segment): &(&u64, &Segment)| segment.live > 0 && total(&state.segments) > allowed;
    let Some((oldest, _)) = oldest.filter(crowded) else { return VecDeque::new() };
    let of_group = |(group, of): (&GroupId, &super::group::Group)| {
        let (group, first) = (*group, of.bounds.first);
        let numbered = (first..).zip(&of.places).filter(|(_, place)| place.segment == *oldest);
        numbered.map(move |(index, place)| (group, index, *place)).collect::<Vec<_>>()
    };
    state.groups.iter().flat_map(of_group).collect()
}

fn still_at(
    state: &State,
    group: GroupId,
    index: u64,
    old: Place,
) -> io::Result<Option<Arc<dyn crate::disk::DiskFile>>> {
    if state.groups.get(&group).and_then(|of| of.place_of(index)) != Some(old) {
        return Ok(None);
    }
    let segment = state.segments.get(&old.segment).ok_or_else(|| no_segment(old.segment))?;
    Ok(Some(segment.file.clone()))
}
