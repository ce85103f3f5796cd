//! Opening the segment log: every segment is read and checked, and the index is built.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::super::open_error::LogOpenError;
use super::Segment;
use super::bounds::Bounds;
use super::format::{BATCH_HEADER, BatchKind, ENTRY_HEADER, FileHeader, Reader, Record};
use super::group::{Group, Groups, Place, Segments};
use super::scan::scan;
use crate::disk::{Disk, read_all};
use crate::ids::GroupId;

/// What was found on disk.
pub(super) struct Replayed {
    pub(super) groups: Groups,
    /// The same groups as the writer knows them.
    pub(super) written: BTreeMap<GroupId, Bounds>,
    pub(super) segments: Segments,
    /// Header of the last segment, if there is one.
    pub(super) current: Option<FileHeader>,
    /// Number of the next batch.
    pub(super) next_batch: u64,
    /// Whether any segment says that there is a mark.
    pub(super) marked: bool,
}

/// Name of a segment's file.
pub(super) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.seg"))
}

fn segment_id(name: &str) -> Option<u64> {
    name.strip_suffix(".seg").filter(|hex| hex.len() == 16).and_then(|hex| u64::from_str_radix(hex, 16).ok())
}

/// Reads everything in `dir`. A torn last write is cut off, durably; nothing else is changed.
pub(super) fn replay(dir: &Path, disk: &dyn Disk) -> Result<Replayed, LogOpenError> {
    let io = |e| LogOpenError::io(dir, e);
    let names = disk.list(dir).map_err(io)?;
    for unfinished in names.iter().filter(|name| name.ends_with(".seg.new")) {
        disk.remove(&dir.join(unfinished)).map_err(io)?;
    }
    let ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
    if let Some(gap) = ids.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        let missing = segment_path(dir, gap[0] + 1);
        return Err(LogOpenError::damaged(&missing, "the segment", "it is missing, and later ones are there"));
    }
    let mut bytes = 0;
    for id in &ids {
        let path = segment_path(dir, *id);
        bytes += disk.open(&path).and_then(|file| file.len()).map_err(|e| LogOpenError::io(&path, e))?;
    }
    let mut replay = Replay { room: bytes / ENTRY_HEADER as u64, ..Replay::default() };
    for id in &ids {
        replay.segment(dir, disk, *id, Some(id) == ids.last())?;
    }
    replay.finish(dir)
}

#[derive(Default)]
struct Replay {
    written: BTreeMap<GroupId, Bounds>,
    places: BTreeMap<GroupId, VecDeque<Place>>,
    segments: Segments,
    current: Option<FileHeader>,
    next_batch: u64,
    marked: bool,
    /// More entries than this cannot be in the segments.
    room: u64,
}

impl Replay {
    fn segment(&mut self, dir: &Path, disk: &dyn Disk, id: u64, is_last: bool) -> Result<(), LogOpenError> {
        let path = segment_path(dir, id);
        let io = |e| LogOpenError::io(&path, e);
        let file = disk.open(&path).map_err(io)?;
        let bytes = read_all(&*file).map_err(io)?;
        let first = self.current.map(|_| self.next_batch);
        let found = scan(&path, &bytes, id, first, is_last)?;
        for (at, head, body) in &found.batches {
            let bad = |what: &str| LogOpenError::damaged(&path, format!("byte {at} (batch {})", head.number), what);
            match (head.kind, head.number == found.header.first_batch) {
                (BatchKind::Checkpoint, true) => self.checkpoint(body),
                (BatchKind::Data | BatchKind::Closed, false) => self.data(id, at + BATCH_HEADER, body),
                _ => Err("a segment's first batch, and no other, is a checkpoint"),
            }
            .map_err(bad)?;
            self.next_batch = head.number + 1;
        }
        if is_last {
            if found.torn {
                tracing::warn!(segment = id, at = found.end, "cutting off a write that a crash has torn");
                file.set_len(found.end as u64).map_err(io)?;
            }
            // The last batch may be in memory only: the process was killed before its sync, or after one that
            // failed, which leaves pages that a sync calls clean. It is shown from now on, so it is written again.
            let last = found.batches.last().map_or(found.end, |(at, ..)| *at);
            file.write_at(last as u64, &bytes[last..found.end]).map_err(io)?;
            file.sync_data().map_err(io)?;
        }
        self.marked |= found.header.marked;
        self.current = Some(found.header);
        self.segments.insert(id, Segment { file, len: found.end as u64, live: 0 });
        Ok(())
    }

    /// The checkpoint of the oldest segment says what was before it; the others must agree with what was replayed.
    fn checkpoint(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let mut reader = Reader::new(body, true);
        let mut groups = BTreeMap::new();
        while reader.left() > 0 {
            match Record::decode(&mut reader)? {
                (_, Record::Group(bounds)) if bounds.end - bounds.first > self.room => {
                    return Err("a checkpoint has more entries than there is room for");
                }
                (group, Record::Group(bounds)) => groups.insert(group, bounds),
                _ => return Err("a checkpoint holds another record"),
            };
        }
        if self.current.is_some() && groups != self.written {
            return Err("the checkpoint does not agree with the segments before it");
        }
        if self.current.is_none() {
            let unknown = |b: &Bounds| VecDeque::from(vec![Place::UNKNOWN; (b.end - b.first) as usize]);
            self.places = groups.iter().map(|(group, bounds)| (*group, unknown(bounds))).collect();
            self.written = groups;
        }
        Ok(())
    }

    fn data(&mut self, segment: u64, start: usize, body: &[u8]) -> Result<(), &'static str> {
        let mut reader = Reader::new(body, true);
        while reader.left() > 0 {
            let offset = start + body.len() - reader.left();
            let (group, record) = Record::decode(&mut reader)?;
            let next = start + body.len() - reader.left();
            let len = (next - offset).saturating_sub(ENTRY_HEADER) as u32;
            self.record(group, &record, Place { segment, offset: offset as u32, len })?;
        }
        Ok(())
    }

    fn record(&mut self, group: GroupId, record: &Record, place: Place) -> Result<(), &'static str> {
        match record {
            Record::Remove => {
                self.written.remove(&group);
                self.places.remove(&group);
                return Ok(());
            }
            // It would have entries that have no place.
            Record::Group(_) => return Err("a group's bounds are not in a checkpoint"),
            _ => {}
        }
        let bounds = self.written.entry(group).or_default();
        let places = self.places.entry(group).or_default();
        let before = bounds.first;
        bounds.apply(record)?;
        match record {
            Record::Entry(..) => places.push_back(place),
            Record::Moved(index, _) => places[(index - bounds.first) as usize] = place,
            Record::Truncate(_) => places.truncate((bounds.end - bounds.first) as usize),
            Record::Purge(..) => {
                let gone = ((bounds.first - before) as usize).min(places.len());
                places.drain(..gone);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, dir: &Path) -> Result<Replayed, LogOpenError> {
        let mut groups = Groups::new();
        for (id, places) in self.places {
            let Some(written) = self.written.get(&id) else { continue };
            if let Some(hole) = places.iter().position(|place| *place == Place::UNKNOWN) {
                let record = format!("group {id}, entry {}", written.first + hole as u64);
                return Err(LogOpenError::damaged(dir, record, "it is in no segment"));
            }
            for place in &places {
                if let Some(segment) = self.segments.get_mut(&place.segment) {
                    segment.live += place.record_bytes();
                }
            }
            let mut bounds = written.clone();
            bounds.committed = bounds.committed.map(|c| c.min(bounds.end.saturating_sub(1)));
            groups.insert(id, Group::replayed(bounds, places));
        }
        let Replay { written, segments, current, next_batch, marked, .. } = self;
        Ok(Replayed { groups, written, segments, current, next_batch, marked })
    }
}
