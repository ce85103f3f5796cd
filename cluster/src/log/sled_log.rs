//! The metadata group's log, on sled.
//!
//! sled holds the rows; durability is our own: one thread makes everything queued meanwhile durable with one
//! flush and one fdatasync, raises the high-water mark, and then tells the callers in the order of their calls.
//! `docs/design/0002-metadata-log.md` says why each step is there.

mod files;
pub mod fuzz;
mod mark;
mod open;
mod rows;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::mark::{Mark, MarkFile};
use self::rows::{Purged, Truncations};
use super::{Durable, FatalHook, GroupLog, LogOpenError, LogState};
use crate::disk::{Disk, DiskLock, SharedDisk, SystemDisk};
use crate::ids::LogIndex;

/// Rows must be smaller: sled puts large values into files that it never syncs.
const MAX_ROW_BYTES: usize = 64 << 10;

/// Settings of the metadata log.
#[derive(Clone)]
pub struct SledLogConfig {
    /// Memory that sled may use for its cache, bytes.
    pub cache_bytes: u64,
    /// A database larger than this, and many times as large as its rows, is compacted when it is opened; bytes.
    pub compact_above_bytes: u64,
    /// The high-water mark; `mark` in the log's directory if not given. Another disk is even better.
    pub mark: Option<PathBuf>,
    /// Told once when the disk fails: the process must end, since what is on disk is unknown from then on.
    pub fatal: FatalHook,
}

impl Default for SledLogConfig {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, compact_above_bytes: 64 << 20, mark: None, fatal: FatalHook::default() }
    }
}

/// A [`GroupLog`] on sled. Closed by [`SledLog::close`] or when dropped.
pub struct SledLog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dir: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    fatal: FatalHook,
}

struct State {
    store: Option<Store>,
    head: Head,
    /// Bounded by what the Raft layer has in flight: nobody could wait for room here.
    queue: Vec<(io::Result<()>, Durable)>,
    closing: bool,
    failed: Option<String>,
    _lock: Option<Box<dyn DiskLock>>,
}

/// The open database.
#[derive(Clone)]
struct Store {
    db: sled::Db,
    log: sled::Tree,
    meta: sled::Tree,
    /// The same file as sled writes, to sync it.
    file: Arc<File>,
}

/// What the log holds, beside the entries.
#[derive(Clone, Debug)]
struct Head {
    vote: Option<Bytes>,
    votes: u64,
    committed: Option<u64>,
    purged: Option<Purged>,
    /// Index of the first entry, if there is one.
    first: u64,
    /// Index after the last entry or the purge point.
    end: u64,
    /// The log's sum up to `end`.
    chain: u32,
    truncations: Truncations,
}

impl Default for Head {
    fn default() -> Self {
        let truncations = Truncations::NONE;
        Head { vote: None, votes: 0, committed: None, purged: None, first: 0, end: 0, chain: 0, truncations }
    }
}

impl Head {
    /// Neither entries nor a purge point: the log may start at any index.
    fn is_pristine(&self) -> bool {
        self.purged.is_none() && self.first == self.end
    }

    /// Index after the purge point.
    fn floor(&self) -> u64 {
        self.purged.as_ref().map_or(0, |p| p.upto + 1)
    }

    fn push(&mut self, index: u64, chain: u32) {
        if self.first == self.end {
            self.first = index;
        }
        self.end = index + 1;
        self.chain = chain;
    }

    fn purge_to(&mut self, purged: Purged) {
        self.first = self.first.max(purged.upto + 1);
        if self.end <= purged.upto + 1 {
            self.end = purged.upto + 1;
            self.chain = purged.chain;
        }
        self.purged = Some(purged);
    }

    fn mark(&self) -> Mark {
        Mark {
            serial: 0,
            votes: self.votes,
            vote_crc: open::vote_crc(self.vote.as_ref()),
            end: self.end,
            chain: self.chain,
            truncations: self.truncations.count,
        }
    }
}

fn db_error(e: sled::Error) -> io::Error {
    match e {
        sled::Error::Io(e) => e,
        e => io::Error::other(e),
    }
}

impl SledLog {
    /// Opens the log in `dir` (made if missing), reads and checks every row, and compares it with the high-water
    /// mark, which is kept on `disk`. sled itself always uses the machine's disk.
    pub fn open(dir: &Path, disk: SharedDisk, cfg: SledLogConfig) -> Result<SledLog, LogOpenError> {
        let io = |e| LogOpenError::io(dir, e);
        SystemDisk.create_dir_all(dir).map_err(io)?;
        let lock_path = dir.join("lock");
        let lock = SystemDisk.lock(&lock_path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => LogOpenError::InUse { path: lock_path.clone() },
            _ => LogOpenError::io(&lock_path, e),
        })?;
        let mark_path = cfg.mark.clone().unwrap_or_else(|| dir.join("mark"));
        let found = MarkFile::open(&*disk, &mark_path)?;
        let (store, head) = open::store(dir, &cfg, found.as_ref().map(|(_, mark)| mark))?;
        let mut mark = match found {
            Some((file, _)) => file,
            None => MarkFile::create(&*disk, &mark_path).map_err(|e| LogOpenError::io(&mark_path, e))?,
        };
        // What was found is shown to the Raft layer, so it is promised from now on.
        mark.write(head.mark()).map_err(|e| LogOpenError::io(&mark_path, e))?;
        Self::start(dir, store, head, mark, lock, cfg.fatal).map_err(io)
    }

    fn start(
        dir: &Path,
        store: Store,
        head: Head,
        mark: MarkFile,
        lock: Box<dyn DiskLock>,
        fatal: FatalHook,
    ) -> io::Result<SledLog> {
        let state = State {
            store: Some(store),
            head: Head { truncations: Truncations { lowest_end: u64::MAX, ..head.truncations }, ..head },
            queue: Vec::new(),
            closing: false,
            failed: None,
            _lock: Some(lock),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), fatal });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("meta-log-sync".into()).spawn(move || of_thread.run(mark))?;
        Ok(SledLog { shared, thread: Mutex::new(Some(thread)), dir: dir.to_path_buf() })
    }

    /// Bytes that the database takes on disk, which is more than its rows: sled loses room at every kill.
    pub fn size_on_disk(&self) -> io::Result<u64> {
        files::size(&self.dir.join(files::DB))
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
        let state = &mut *self.shared.state.lock();
        state.store = None;
        state._lock = None;
    }

    /// Changes rows with `act`, which must leave `Head` as the rows are, then queues the caller for the sync.
    fn write(&self, durable: Durable, act: impl FnOnce(&Store, &mut Head) -> io::Result<()>) {
        let mut state = self.shared.state.lock();
        let store = match state.store.clone() {
            Some(store) if !state.closing => store,
            _ => {
                drop(state);
                return durable(Err(io::Error::other("the log is closed")));
            }
        };
        let result = match &state.failed {
            Some(why) => Err(io::Error::other(why.clone())),
            None => act(&store, &mut state.head),
        };
        if let Err(e) = &result
            && e.kind() != io::ErrorKind::InvalidInput
        {
            state.failed.get_or_insert_with(|| e.to_string());
        }
        state.queue.push((result, durable));
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self, mut mark: MarkFile) {
        let mut told = false;
        loop {
            let mut state = self.state.lock();
            while state.queue.is_empty() && !state.closing {
                self.wake.wait(&mut state);
            }
            let batch = std::mem::take(&mut state.queue);
            if batch.is_empty() {
                return;
            }
            let promised = state.head.mark();
            let failed = state.failed.clone();
            let store = state.store.clone();
            drop(state);
            let synced = match (failed, store) {
                (None, Some(store)) => store.sync().and_then(|()| mark.write(promised)),
                (why, _) => Err(io::Error::other(why.unwrap_or_default())),
            };
            let failed = self.tell(batch, synced, promised);
            if let Some(why) = failed.filter(|_| !std::mem::replace(&mut told, true)) {
                self.fatal.call(&why);
            }
        }
    }

    /// Calls everyone back; gives the error that ends this log, if there is one.
    fn tell(&self, batch: Vec<(io::Result<()>, Durable)>, synced: io::Result<()>, promised: Mark) -> Option<String> {
        let mut state = self.state.lock();
        let failed_now = match &synced {
            Ok(()) => {
                let truncations = &mut state.head.truncations;
                if truncations.count == promised.truncations {
                    truncations.lowest_end = u64::MAX;
                }
                None
            }
            Err(e) => Some(state.failed.get_or_insert_with(|| e.to_string()).clone()),
        };
        drop(state);
        for (result, durable) in batch {
            let failed = failed_now.as_ref().map(|why| io::Error::other(why.clone()));
            super::tell(durable, result.and(failed.map_or(Ok(()), Err)));
        }
        failed_now
    }
}

impl GroupLog for SledLog {
    fn state(&self) -> LogState {
        let head = &self.shared.state.lock().head;
        LogState {
            vote: head.vote.clone(),
            committed: head.committed.map(LogIndex),
            purged: head.purged.as_ref().map(|p| (LogIndex(p.upto), p.log_id.clone())),
            last: (head.first < head.end).then(|| LogIndex(head.end - 1)),
        }
    }

    fn append(&self, entries: Vec<(LogIndex, Bytes)>, durable: Durable) {
        self.write(durable, |store, head| {
            let next = if head.is_pristine() { entries.first().map_or(0, |e| e.0.0) } else { head.end };
            super::check_consecutive(next, &entries)?;
            super::check_sizes(MAX_ROW_BYTES - 64, &entries)?;
            let mut batch = sled::Batch::default();
            let mut after = head.clone();
            for (LogIndex(index), entry) in &entries {
                after.push(*index, rows::chain(after.chain, *index, entry));
                batch.insert(&index.to_be_bytes(), rows::encode_row(*index, after.chain, entry));
            }
            if !entries.is_empty() {
                store.log.apply_batch(batch).map_err(db_error)?;
            }
            *head = after;
            Ok(())
        });
    }

    fn save_vote(&self, vote: Bytes, durable: Durable) {
        self.write(durable, |store, head| {
            store.meta.insert(rows::VOTE, rows::encode_vote(head.votes + 1, &vote)).map_err(db_error)?;
            head.votes += 1;
            head.vote = Some(vote);
            Ok(())
        });
    }

    fn save_committed(&self, committed: Option<LogIndex>) {
        let mut state = self.shared.state.lock();
        state.head.committed = committed.map(|c| c.0);
        let Some(store) = state.store.as_ref().filter(|_| state.failed.is_none()) else { return };
        if let Err(e) = store.meta.insert(rows::COMMITTED, rows::encode_committed(committed.map(|c| c.0))) {
            tracing::warn!(error = %e, "the committed index could not be saved");
        }
    }

    fn read(&self, from: LogIndex, to: LogIndex) -> io::Result<Vec<(LogIndex, Bytes)>> {
        let store = self.shared.state.lock().store.clone().ok_or_else(|| io::Error::other("the log is closed"))?;
        let mut out: Vec<(LogIndex, Bytes)> = Vec::new();
        if from >= to {
            return Ok(out);
        }
        for row in store.log.range(from.0.to_be_bytes()..to.0.to_be_bytes()) {
            let (key, value) = row.map_err(db_error)?;
            let bad = |what: &str| {
                let file = self.dir.join(files::DB).join("db");
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: row {}: {what}", file.display(), key.escape_ascii()),
                )
            };
            let index = rows::decode_index(&key).map_err(bad)?;
            if out.last().is_some_and(|(before, _)| before.0 + 1 != index) {
                return Err(bad("the row before it is missing"));
            }
            out.push((LogIndex(index), rows::decode_row(&key, &value).map_err(bad)?.1));
        }
        Ok(out)
    }

    fn truncate_after(&self, last: Option<LogIndex>, durable: Durable) {
        self.write(durable, |store, head| {
            let end = last.map_or(0, |l| l.0.saturating_add(1)).max(head.first);
            if end >= head.end {
                return Ok(());
            }
            let chain = match (end > head.first, &head.purged) {
                (true, _) => stored_chain(store, end - 1)?,
                (false, purged) => purged.as_ref().map_or(0, |p| p.chain),
            };
            let truncations = Truncations {
                count: head.truncations.count + 1,
                lowest_end: head.truncations.lowest_end.min(if end > head.first { end } else { head.floor() }),
            };
            let mut batch = sled::Batch::default();
            batch.insert(rows::TRUNCATIONS, truncations.encode());
            for index in end..head.end {
                batch.remove(&index.to_be_bytes());
            }
            store.log.apply_batch(batch).map_err(db_error)?;
            (head.end, head.chain, head.truncations) = (end, chain, truncations);
            if head.purged.is_none() && head.end == head.first {
                (head.first, head.end) = (0, 0);
            }
            Ok(())
        });
    }

    fn purge(&self, upto: LogIndex, log_id: Bytes, durable: Durable) {
        self.write(durable, |store, head| {
            if head.purged.as_ref().is_some_and(|p| p.upto >= upto.0) {
                return Ok(());
            }
            if head.purged.is_none() && head.first < head.end && upto.0 + 1 < head.first {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the purge would leave a hole before the log"));
            }
            let held = (head.first..head.end).contains(&upto.0);
            let chain = if held { stored_chain(store, upto.0)? } else { rows::chain(0, upto.0, &log_id) };
            let purged = Purged { upto: upto.0, chain, log_id };
            store.meta.insert(rows::PURGED, purged.encode()).map_err(db_error)?;
            store.remove_rows(head.first, upto.0.saturating_add(1))?;
            head.purge_to(purged);
            Ok(())
        });
    }
}

fn stored_chain(store: &Store, index: u64) -> io::Result<u32> {
    let key = index.to_be_bytes();
    let value = store.log.get(key).map_err(db_error)?;
    let row = value.ok_or("it is missing").and_then(|v| rows::decode_row(&key, &v));
    row.map(|(chain, _)| chain)
        .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, format!("row {index}: {what}")))
}
