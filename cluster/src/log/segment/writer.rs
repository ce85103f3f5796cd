//! The one writer: takes what is queued, writes and syncs it as one batch, tells the callers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::bounds::Bounds;
use super::cleaner::Cleaner;
use super::format::{BATCH_HEADER, BatchKind, ENTRY_HEADER, FileHeader, Reader, Record};
use super::group::{Place, Segments};
use super::mark::{Mark, mark_path};
use super::replay::segment_path;
use super::{Item, Segment, SegmentLogConfig, Shared, State};
use crate::disk::{DiskFile, SharedDisk};
use crate::ids::GroupId;
use crate::log::Durable;

/// An entry that the cleaner writes again: where it was, and the record.
pub(super) struct Move {
    pub(super) group: GroupId,
    pub(super) index: u64,
    pub(super) old: Place,
    pub(super) bytes: Bytes,
}

/// Takes batches to the disk. Only ever used by one thread.
pub(super) struct Writer {
    dir: PathBuf,
    disk: SharedDisk,
    cfg: SegmentLogConfig,
    shared: Arc<Shared>,
    /// What every group holds as far as it is written: what a replay of the files would find.
    written: BTreeMap<GroupId, Bounds>,
    header: FileHeader,
    file: Arc<dyn DiskFile>,
    /// Where the segment's first batch of writes went, and where the next goes.
    start: u64,
    end: u64,
    next_batch: u64,
    mark: Mark,
    cleaner: Cleaner,
    buffer: Vec<u8>,
    fatal_told: bool,
    finished: bool,
}

/// Where writing goes on.
pub(super) struct Start {
    pub(super) written: BTreeMap<GroupId, Bounds>,
    /// Header of the last segment, if there is one.
    pub(super) current: Option<FileHeader>,
    pub(super) next_batch: u64,
    pub(super) mark: Mark,
}

/// A batch under way.
#[derive(Default)]
struct Batch {
    records: Vec<(GroupId, Record)>,
    tells: Vec<(io::Result<()>, Durable)>,
    /// Moves and their new places.
    moves: Vec<(Move, Place)>,
    touched: BTreeSet<GroupId>,
    /// Number of the last item taken from the queue.
    through: u64,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(
        dir: &Path,
        disk: SharedDisk,
        cfg: SegmentLogConfig,
        shared: Arc<Shared>,
        from: Start,
    ) -> io::Result<Writer> {
        let Start { written, current, next_batch, mut mark } = from;
        let cfg = SegmentLogConfig { segment_bytes: cfg.segment_bytes.clamp(4 << 10, 1 << 30), ..cfg };
        let (header, file, end, next_batch) = match current {
            Some(header) => {
                let path = segment_path(dir, header.segment);
                let end = shared.state.lock().segments.get(&header.segment).map_or(0, |s| s.len);
                (header, disk.open(&path)?, end, next_batch)
            }
            None => {
                let header = FileHeader { segment: 1, salt: cfg.rng.u64(), first_batch: next_batch, marked: true };
                let (file, end) = create(&*disk, dir, &header, &written)?;
                mark.promise(next_batch + 1)?;
                shared.state.lock().segments.insert(1, Segment { file: file.clone(), len: end, live: 0 });
                (header, file, end, next_batch + 1)
            }
        };
        let dir = dir.to_path_buf();
        Ok(Writer {
            dir,
            disk,
            cfg,
            shared,
            written,
            header,
            file,
            start: 0,
            end,
            next_batch,
            mark,
            cleaner: Cleaner::default(),
            buffer: Vec::new(),
            fatal_told: false,
            finished: false,
        })
    }

    /// Whether the log is closed and everything is written.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// One batch. False if there was nothing to do.
    pub(super) fn turn(&mut self) -> bool {
        let (idle, closing, failed) = {
            let state = self.shared.state.lock();
            (state.queue.is_empty(), state.closing, state.failed.is_some())
        };
        if idle && closing {
            self.finish(failed);
            return false;
        }
        if failed {
            return self.refuse_all();
        }
        let mut batch = Batch::default();
        let result = self.batch(&mut batch);
        let worked = !batch.tells.is_empty() || !batch.records.is_empty();
        if let Err(e) = &result {
            self.shared.state.lock().failed.get_or_insert_with(|| e.to_string());
        }
        tell(batch.tells, result.as_ref().err());
        match result.and_then(|()| self.clean_up()) {
            Ok(removed) => worked || removed,
            Err(e) => {
                self.fail(&e);
                true
            }
        }
    }

    fn fail(&mut self, e: &io::Error) {
        let why = self.shared.state.lock().failed.get_or_insert_with(|| e.to_string()).clone();
        if !std::mem::replace(&mut self.fatal_told, true) {
            self.cfg.fatal.call(&why);
        }
    }

    /// The log has failed: whoever still waits gets the error.
    fn refuse_all(&mut self) -> bool {
        let mut state = self.shared.state.lock();
        let items = std::mem::take(&mut state.queue);
        state.queue_bytes = 0;
        let why = io::Error::other(state.failed.clone().unwrap_or_default());
        drop(state);
        let worked = !items.is_empty();
        tell(items.into_iter().filter_map(Item::into_tell).collect(), Some(&why));
        worked
    }

    fn batch(&mut self, batch: &mut Batch) -> io::Result<()> {
        let moves = self.cleaner.next(&self.shared, self.header.segment, self.cfg.segment_bytes)?;
        let wanted = self.shared.state.lock().queue_bytes + moves.iter().map(|m| m.bytes.len()).sum::<usize>();
        let wanted = wanted.min(self.cfg.write_bytes) as u64;
        if wanted > 0 && self.end > self.start && self.end + wanted > self.cfg.segment_bytes {
            self.roll()?;
        }
        self.take(batch, moves);
        if !batch.records.is_empty() {
            self.write(BatchKind::Data, &batch.records)?;
            self.settle(batch);
        }
        self.cleaner.durable_through(batch.through);
        Ok(())
    }

    /// Takes what goes into the next batch, and gives every entry its place.
    fn take(&mut self, batch: &mut Batch, moves: Vec<Move>) {
        let state = &mut *self.shared.state.lock();
        let start = self.end + BATCH_HEADER as u64;
        let segment = self.header.segment;
        for one in moves {
            let place = Place { segment, offset: (start + batch.bytes as u64) as u32, len: one.bytes.len() as u32 };
            batch.add(one.group, Record::Moved(one.index, one.bytes.clone()));
            batch.moves.push((one, place));
        }
        let mut item = state.queued - state.queue.len() as u64;
        while let Some(next) = state.queue.pop_front() {
            let size = next.size();
            if size > 0 && batch.bytes > 0 && batch.bytes + size > self.cfg.write_bytes {
                state.queue.push_front(next);
                break;
            }
            item += 1;
            state.queue_bytes -= size;
            match next {
                Item::Tell(result, durable) => batch.tells.push((result, durable)),
                Item::Write(group, record) => {
                    if let (Record::Entry(index, bytes), Some(of)) = (&record, state.groups.get_mut(&group)) {
                        let offset = (start + batch.bytes as u64) as u32;
                        let place = Place { segment, offset, len: bytes.len() as u32 };
                        of.place(item, *index, place, &mut state.segments);
                    }
                    batch.add(group, record);
                }
            }
        }
        batch.through = item;
        if !batch.records.is_empty() {
            add_committed(state, batch);
        }
    }

    /// Writes one batch and waits until it is on disk.
    fn write(&mut self, kind: BatchKind, records: &[(GroupId, Record)]) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER, 0);
        for (group, record) in records {
            record.encode(*group, &mut self.buffer);
            apply(&mut self.written, *group, record).map_err(io::Error::other)?;
        }
        self.header.seal(kind, self.next_batch, &mut self.buffer);
        let written = self.file.write_at(self.end, &self.buffer).and_then(|()| self.file.sync_data());
        written.map_err(|e| {
            let path = segment_path(&self.dir, self.header.segment);
            io::Error::new(e.kind(), format!("{}, byte {}: {e}", path.display(), self.end))
        })?;
        self.end += self.buffer.len() as u64;
        self.next_batch += 1;
        // A vote that is forgotten is worse than an entry, and rare.
        if records.iter().any(|(_, record)| matches!(record, Record::Vote(_))) {
            self.promise(self.next_batch)?;
        }
        Ok(())
    }

    fn promise(&mut self, next: u64) -> io::Result<()> {
        let path = mark_path(&self.dir);
        let said = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        self.mark.promise(next).map_err(said)
    }

    /// The batch is on disk: moved entries are where they went, and memory is given back.
    fn settle(&mut self, batch: &mut Batch) {
        let state = &mut *self.shared.state.lock();
        state.stats.batches += 1;
        state.stats.moved += batch.moves.len() as u64;
        let State { groups, segments, .. } = state;
        if let Some(segment) = segments.get_mut(&self.header.segment) {
            segment.len = self.end;
        }
        for (one, place) in batch.moves.drain(..) {
            if let Some(group) = groups.get_mut(&one.group) {
                group.moved(one.index, one.old, place, segments);
            }
        }
        for group in &batch.touched {
            if let Some(group) = groups.get_mut(group) {
                group.forget(self.cfg.cache_bytes_per_group);
            }
        }
    }

    /// Starts the next segment. It has its name only once its checkpoint is on disk.
    fn roll(&mut self) -> io::Result<()> {
        let (segment, salt) = (self.header.segment + 1, self.cfg.rng.u64());
        let header = FileHeader { segment, salt, first_batch: self.next_batch, marked: true };
        let (file, end) = create(&*self.disk, &self.dir, &header, &self.written)?;
        self.next_batch += 1;
        self.promise(self.next_batch)?;
        (self.header, self.file, self.start, self.end) = (header, file.clone(), end, end);
        self.shared.state.lock().segments.insert(header.segment, Segment { file, len: end, live: 0 });
        Ok(())
    }

    /// Removes the oldest segment if nothing in it is live. Whether it did.
    fn clean_up(&mut self) -> io::Result<bool> {
        let Some(segment) = self.cleaner.dead_segment(&self.shared, self.header.segment) else { return Ok(false) };
        self.disk.remove(&segment_path(&self.dir, segment))?;
        // One at a time: were two removals to reach the disk in the wrong order, a segment would be missing.
        self.disk.sync_dir(&self.dir)?;
        Ok(true)
    }

    fn finish(&mut self, failed: bool) {
        self.finished = true;
        // The empty batch itself need not be there.
        let all = self.next_batch;
        let closed = if failed { Ok(()) } else { self.write(BatchKind::Closed, &[]).and_then(|()| self.promise(all)) };
        if let Err(e) = closed {
            self.fail(&e);
        }
    }
}

impl Batch {
    fn add(&mut self, group: GroupId, record: Record) {
        self.bytes += record.size();
        self.touched.insert(group);
        self.records.push((group, record));
    }
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Write(_, record) => record.size(),
            Item::Tell(..) => 0,
        }
    }

    fn into_tell(self) -> Option<(io::Result<()>, Durable)> {
        match self {
            Item::Tell(result, durable) => Some((result, durable)),
            Item::Write(..) => None,
        }
    }
}

fn tell(tells: Vec<(io::Result<()>, Durable)>, failed: Option<&io::Error>) {
    for (result, durable) in tells {
        let result = match (result, failed) {
            (Ok(()), Some(e)) => Err(io::Error::new(e.kind(), e.to_string())),
            (result, _) => result,
        };
        crate::log::tell(durable, result);
    }
}

/// Committed indexes travel with whatever is written next.
fn add_committed(state: &mut State, batch: &mut Batch) {
    for group in std::mem::take(&mut state.committed_unwritten) {
        if let Some(of) = state.groups.get(&group) {
            batch.add(group, Record::Committed(of.bounds.committed));
        }
    }
}

fn apply(written: &mut BTreeMap<GroupId, Bounds>, group: GroupId, record: &Record) -> Result<(), &'static str> {
    if matches!(record, Record::Remove) {
        written.remove(&group);
        return Ok(());
    }
    written.entry(group).or_default().apply(record)
}

/// Makes a segment with its checkpoint, durably. Gives the file and where the first batch of writes goes.
fn create(
    disk: &dyn crate::disk::Disk,
    dir: &Path,
    header: &FileHeader,
    written: &BTreeMap<GroupId, Bounds>,
) -> io::Result<(Arc<dyn DiskFile>, u64)> {
    let mut checkpoint = vec![0; BATCH_HEADER];
    for (group, bounds) in written {
        Record::Group(bounds.clone()).encode(*group, &mut checkpoint);
    }
    header.seal(BatchKind::Checkpoint, header.first_batch, &mut checkpoint);
    let mut bytes = Vec::with_capacity(checkpoint.len() + 64);
    header.encode(&mut bytes);
    bytes.append(&mut checkpoint);
    let path = segment_path(dir, header.segment);
    let unfinished = path.with_extension("seg.new");
    let file = disk.create(&unfinished)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)?;
    Ok((file, bytes.len() as u64))
}

/// Reads an entry where the index says it is, and checks that it is that entry.
pub(super) fn read_entry(file: &dyn DiskFile, group: GroupId, index: u64, place: Place) -> io::Result<Bytes> {
    let bad = |what: &str| {
        let Place { segment, offset, .. } = place;
        let what = format!("segment {segment:016x}.seg, byte {offset}, group {group}, entry {index}: {what}");
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let mut bytes = vec![0; ENTRY_HEADER + place.len as usize];
    file.read_at(u64::from(place.offset), &mut bytes)?;
    match Record::decode(&mut Reader::new(&bytes, false)).map_err(bad)? {
        (of, Record::Entry(at, entry) | Record::Moved(at, entry)) if of == group && at == index => Ok(entry),
        _ => Err(bad("another record is there")),
    }
}

/// Bytes of all segments.
pub(super) fn total(segments: &Segments) -> u64 {
    segments.values().map(|segment| segment.len).sum()
}
