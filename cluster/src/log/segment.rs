//! One log for all session shards of a node, in segment files: whatever all groups queued meanwhile is one write
//! and one fdatasync.
//!
//! Rules, each with its reason:
//! 1. One writer, one batch in flight: so only the last batch can be torn, and damage that a sound batch follows
//!    is damage. Such a log does not open.
//! 2. Checksums start from the segment's id, a random salt and the batch's number: old bytes never look sound, and
//!    nobody can publish a message that does.
//! 3. Votes, purge points and truncations are records of the same log, and each segment starts with all of them.
//! 4. Segments go oldest first, once nothing in them is live. The last live entries of a segment that pins too
//!    much room are written again.
//! 5. After a failed write or sync the log is dead: every later write fails and the process is told to end.
//! 6. A caller is told in the order of the calls, once the batch is on disk.
//! 7. A high-water mark beside the directory says up to which batch the log was surely on disk: a log that ends before
//!    does not open. It is written with votes, new segments and a clean end only, as it costs a sync.
//! 8. Files come in through [`crate::disk`], so that tests can tear, flip and lose.

mod bounds;
mod cleaner;
mod format;
mod group;
mod mark;
mod replay;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::format::Record;
use self::group::{Found, Group, Groups, Segments};
use self::mark::{Mark, mark_path};
use self::writer::{Start, Writer};
use super::{Durable, FatalHook, GroupLog, LogOpenError, LogState};
use crate::disk::{DiskFile, DiskLock, SharedDisk};
use crate::ids::{GroupId, LogIndex};
use crate::rng::{SharedRng, SystemRng};

/// Largest entry, bytes: half of what one write may hold.
const MAX_ENTRY_BYTES: usize = 2 << 20;

/// Settings of the segment log.
#[derive(Clone)]
pub struct SegmentLogConfig {
    /// A segment that has this many bytes is followed by a new one; between 4 KiB and 1 GiB.
    pub segment_bytes: u64,
    /// The latest entries of each group that are kept in memory for readers, bytes.
    pub cache_bytes_per_group: usize,
    /// One write (and one fdatasync) carries at most this much, bytes, so that no caller waits long for others.
    pub write_bytes: usize,
    /// No thread is started: somebody calls [`SegmentLog::turn`]. For the simulator.
    pub by_hand: bool,
    /// Told once when the disk fails: the process must end, since what is on disk is unknown from then on.
    pub fatal: FatalHook,
    /// For the segments' salts.
    pub rng: SharedRng,
}

impl Default for SegmentLogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes_per_group: 1 << 20,
            write_bytes: 4 << 20,
            by_hand: false,
            fatal: FatalHook::default(),
            rng: Arc::new(SystemRng),
        }
    }
}

/// What the log takes on disk, and what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentLogStats {
    /// Segment files.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes of entries that are neither purged nor truncated.
    pub live_bytes: u64,
    /// Batches written (each one write and one fdatasync) since the log was opened.
    pub batches: u64,
    /// Entries written again to free a segment, since the log was opened.
    pub moved: u64,
}

/// The log of all session shards of this node. Closed by [`SegmentLog::close`] or when dropped; the groups' logs
/// that it gave out then fail.
pub struct SegmentLog {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<Writer>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    groups: Groups,
    segments: Segments,
    /// Bounded by what the groups' Raft layers have in flight: nobody could wait for room here.
    queue: VecDeque<Item>,
    /// Bytes that the queue takes in batches, about.
    queue_bytes: usize,
    /// Items ever queued; the number of the last.
    queued: u64,
    committed_unwritten: BTreeSet<GroupId>,
    closing: bool,
    failed: Option<String>,
    stats: SegmentLogStats,
    lock: Option<Box<dyn DiskLock>>,
}

/// What waits for the writer.
enum Item {
    /// A change, to be written.
    Write(GroupId, Record),
    /// Everything before it must be durable before this caller is told.
    Tell(io::Result<()>, Durable),
}

/// An open segment.
struct Segment {
    file: Arc<dyn DiskFile>,
    len: u64,
    /// Bytes of its records that are live entries.
    live: u64,
}

impl SegmentLog {
    /// Opens the log in `dir` (made if missing): reads and checks every segment.
    pub fn open(dir: &Path, disk: SharedDisk, cfg: SegmentLogConfig) -> Result<SegmentLog, LogOpenError> {
        let io = |e| LogOpenError::io(dir, e);
        disk.create_dir_all(dir).map_err(io)?;
        let lock_path = dir.join("lock");
        let lock = disk.lock(&lock_path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => LogOpenError::InUse { path: lock_path.clone() },
            _ => LogOpenError::io(&lock_path, e),
        })?;
        let path = mark_path(dir);
        let promised = Mark::open(&*disk, &path)?;
        let found = replay::replay(dir, &*disk)?;
        let mark = match promised {
            Some((mark, next)) => {
                mark::check(dir, found.next_batch, next)?;
                mark
            }
            None if found.marked => {
                return Err(LogOpenError::damaged(&path, "the high-water mark", "it is missing, and there is a log"));
            }
            None => Mark::create(&*disk, &path).map_err(|e| LogOpenError::io(&path, e))?,
        };
        let state = State {
            groups: found.groups,
            segments: found.segments,
            queue: VecDeque::new(),
            queue_bytes: 0,
            queued: 0,
            committed_unwritten: BTreeSet::new(),
            closing: false,
            failed: None,
            stats: SegmentLogStats::default(),
            lock: Some(lock),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
        let by_hand = cfg.by_hand;
        let (written, current, next_batch) = (found.written, found.current, found.next_batch);
        let start = Start { written, current, next_batch, mark };
        let writer = Writer::new(dir, disk, cfg, shared.clone(), start).map_err(io)?;
        let log = SegmentLog { shared, writer: Arc::new(Mutex::new(Some(writer))), thread: Mutex::new(None) };
        if !by_hand {
            log.start().map_err(io)?;
        }
        Ok(log)
    }

    fn start(&self) -> io::Result<()> {
        let (shared, writer) = (self.shared.clone(), self.writer.lock().take());
        let Some(mut writer) = writer else { return Ok(()) };
        let run = move || {
            while !writer.finished() {
                if !writer.turn() {
                    shared.wait();
                }
            }
        };
        *self.thread.lock() = Some(std::thread::Builder::new().name("segment-log".into()).spawn(run)?);
        Ok(())
    }

    /// The log of one group; of an unknown group it is empty.
    pub fn group(&self, group: GroupId) -> Arc<dyn GroupLog> {
        Arc::new(GroupHandle { shared: self.shared.clone(), group })
    }

    /// The groups that hold anything.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.state.lock().groups.keys().copied().collect()
    }

    /// Forgets a group and all it holds: its replica has left this node.
    pub fn remove(&self, group: GroupId, durable: Durable) {
        self.shared.write(durable, |state| {
            let State { groups, segments, .. } = state;
            if let Some(gone) = groups.remove(&group) {
                gone.release(segments);
                state.push(group, Record::Remove);
            }
            Ok(())
        });
    }

    /// What the log takes and did.
    pub fn stats(&self) -> SegmentLogStats {
        let state = self.shared.state.lock();
        let sum = |of: fn(&Segment) -> u64| state.segments.values().map(of).sum();
        SegmentLogStats {
            segments: state.segments.len() as u64,
            bytes: sum(|s| s.len),
            live_bytes: sum(|s| s.live),
            ..state.stats
        }
    }

    /// Does one batch of work, where no thread does it (`by_hand`). False if there was nothing to do.
    pub fn turn(&self) -> bool {
        self.writer.lock().as_mut().is_some_and(Writer::turn)
    }

    /// Makes what is queued durable, ends the thread and lets go of the directory. Later writes fail.
    pub fn close(&self) {
        self.shared.state.lock().closing = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // A panic there was a caller's: its own callback. Nothing is left to do about it here.
            let _ = thread.join();
        }
        if let Some(writer) = self.writer.lock().as_mut() {
            while !writer.finished() {
                writer.turn();
            }
        }
        self.shared.state.lock().lock = None;
    }
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Waits until there is something for the writer.
    fn wait(&self) {
        let mut state = self.state.lock();
        while state.queue.is_empty() && !state.closing {
            self.wake.wait(&mut state);
        }
    }

    /// Makes a change that readers see at once, and queues its caller.
    fn write(&self, durable: Durable, act: impl FnOnce(&mut State) -> io::Result<()>) {
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            return durable(Err(io::Error::other("the log is closed")));
        }
        let result = match &state.failed {
            Some(why) => Err(io::Error::other(why.clone())),
            None => act(&mut state),
        };
        state.queued += 1;
        state.queue.push_back(Item::Tell(result, durable));
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    /// Queues a change; gives its number.
    fn push(&mut self, group: GroupId, record: Record) -> u64 {
        self.queued += 1;
        self.queue_bytes += record.size();
        self.queue.push_back(Item::Write(group, record));
        self.queued
    }
}

/// The log of one group.
struct GroupHandle {
    shared: Arc<Shared>,
    group: GroupId,
}

impl GroupLog for GroupHandle {
    fn state(&self) -> LogState {
        let state = self.shared.state.lock();
        let Some(Group { bounds, .. }) = state.groups.get(&self.group) else { return LogState::default() };
        LogState {
            vote: bounds.vote.clone(),
            committed: bounds.committed.map(LogIndex),
            purged: bounds.purged.as_ref().map(|(upto, id)| (LogIndex(*upto), id.clone())),
            last: (bounds.first < bounds.end).then(|| LogIndex(bounds.end - 1)),
        }
    }

    fn append(&self, entries: Vec<(LogIndex, Bytes)>, durable: Durable) {
        self.shared.write(durable, |state| {
            let bounds = state.groups.get(&self.group).map(|g| &g.bounds);
            let next = bounds.filter(|b| !b.is_pristine()).map(|b| b.end);
            super::check_consecutive(next.unwrap_or(entries.first().map_or(0, |e| e.0.0)), &entries)?;
            super::check_sizes(MAX_ENTRY_BYTES, &entries)?;
            for (LogIndex(index), bytes) in entries {
                let record = Record::Entry(index, bytes.clone());
                let item = state.push(self.group, record.clone());
                state.groups.entry(self.group).or_default().push(item, &record, &bytes);
            }
            Ok(())
        });
    }

    fn save_vote(&self, vote: Bytes, durable: Durable) {
        self.shared.write(durable, |state| {
            state.groups.entry(self.group).or_default().bounds.vote = Some(vote.clone());
            state.push(self.group, Record::Vote(vote));
            Ok(())
        });
    }

    fn save_committed(&self, committed: Option<LogIndex>) {
        let state = &mut *self.shared.state.lock();
        state.groups.entry(self.group).or_default().bounds.committed = committed.map(|c| c.0);
        state.committed_unwritten.insert(self.group);
    }

    fn read(&self, from: LogIndex, to: LogIndex) -> io::Result<Vec<(LogIndex, Bytes)>> {
        let state = self.shared.state.lock();
        let Some(group) = state.groups.get(&self.group) else { return Ok(Vec::new()) };
        let found = group.find(from.0, to.0);
        // A segment that is removed meanwhile can still be read through its open file.
        let file_of = |found: &Found| match found {
            Found::At(place) => state.segments.get(&place.segment).map(|s| s.file.clone()),
            Found::Here(_) => None,
        };
        let found: Vec<_> = found.into_iter().map(|(index, found)| (index, file_of(&found), found)).collect();
        drop(state);
        let mut out = Vec::with_capacity(found.len());
        for (index, file, found) in found {
            let bytes = match (found, file) {
                (Found::Here(bytes), _) => bytes,
                (Found::At(place), Some(file)) => writer::read_entry(&*file, self.group, index, place)?,
                (Found::At(place), None) => return Err(no_segment(place.segment)),
            };
            out.push((LogIndex(index), bytes));
        }
        Ok(out)
    }

    fn truncate_after(&self, last: Option<LogIndex>, durable: Durable) {
        self.shared.write(durable, |state| {
            let end = last.map_or(0, |last| last.0.saturating_add(1));
            let State { groups, segments, .. } = state;
            if let Some(group) = groups.get_mut(&self.group).filter(|g| end < g.bounds.end) {
                group.truncate(end, segments);
                state.push(self.group, Record::Truncate(end));
            }
            Ok(())
        });
    }

    fn purge(&self, upto: LogIndex, log_id: Bytes, durable: Durable) {
        self.shared.write(durable, |state| {
            let State { groups, segments, .. } = state;
            let group = groups.entry(self.group).or_default();
            if group.bounds.may_purge(upto.0)? {
                group.purge(upto.0, &log_id, segments);
                state.push(self.group, Record::Purge(upto.0, log_id));
            }
            Ok(())
        });
    }
}

fn no_segment(segment: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {segment} is not there"))
}
