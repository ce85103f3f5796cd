//! Opening the metadata log: everything is read and checked before anyone may use it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::super::open_error::{LogOpenError, REJOIN};
use super::mark::Mark;
use super::rows::{self, Purged, Truncations};
use super::{Head, SledLogConfig, Store, db_error, files};

/// How long a database that was just dropped in this process may take to let go of its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Opens and checks the database under `dir`, compares it with what was promised, and compacts it if it has grown
/// out of proportion.
pub(super) fn store(dir: &Path, cfg: &SledLogConfig, mark: Option<&Mark>) -> Result<(Store, Head), LogOpenError> {
    files::finish_swap(dir).map_err(|e| LogOpenError::io(dir, e))?;
    let (db_dir, fresh) = (dir.join(files::DB), dir.join(files::FRESH));
    let store = open_db(&db_dir, cfg)?;
    let (head, live_bytes) = check(&store, &db_dir)?;
    match mark {
        Some(mark) => compare(&store, &head, mark, &db_dir)?,
        None if head.votes == 0 && head.is_pristine() => {}
        None => return Err(LogOpenError::damaged(dir, "the high-water mark", "there is a log, but no mark")),
    }
    // Rows that a purge which was cut short by a crash has left.
    store.remove_rows(0, head.floor()).map_err(|e| LogOpenError::io(&db_dir, e))?;
    let used = files::size(&db_dir).map_err(|e| LogOpenError::io(&db_dir, e))?;
    if used <= cfg.compact_above_bytes.max(live_bytes.saturating_mul(COMPACT_FACTOR)) {
        return Ok((store, head));
    }
    tracing::info!(used, live_bytes, "compacting the metadata log");
    let copy = open_db(&fresh, cfg)?;
    files::copy(&store, &copy).map_err(|e| LogOpenError::io(&fresh, e))?;
    let (copied, _) = check(&copy, &fresh)?;
    compare(&copy, &copied, &head.mark(), &fresh)?;
    drop((store, copy));
    files::swap(dir).map_err(|e| LogOpenError::io(dir, e))?;
    Ok((open_db(&db_dir, cfg)?, copied))
}

/// A database this many times as large as its rows is compacted.
const COMPACT_FACTOR: u64 = 8;

fn open_db(path: &Path, cfg: &SledLogConfig) -> Result<Store, LogOpenError> {
    let mut waited = Duration::ZERO;
    loop {
        let config = sled::Config::new().path(path).cache_capacity(cfg.cache_bytes);
        // sled panics on some kinds of damage instead of saying so.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = config.open()?;
            Ok::<_, sled::Error>((db.open_tree("log")?, db.open_tree("meta")?, db))
        }));
        match opened {
            Ok(Ok((log, meta, db))) => return Store::new(db, log, meta, path).map_err(|e| LogOpenError::io(path, e)),
            Ok(Err(e)) if is_lock(&e) && waited < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_RETRY);
                waited += LOCK_RETRY;
            }
            Ok(Err(e)) if is_lock(&e) => return Err(LogOpenError::InUse { path: path.join("db") }),
            Ok(Err(sled::Error::Io(e))) => return Err(LogOpenError::io(path, e)),
            Ok(Err(e)) => return Err(LogOpenError::damaged(&path.join("db"), "the database", e.to_string())),
            Err(_) => return Err(panicked(path)),
        }
    }
}

fn is_lock(e: &sled::Error) -> bool {
    matches!(e, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn panicked(path: &Path) -> LogOpenError {
    LogOpenError::damaged(&path.join("db"), "the database", "sled panicked while reading it")
}

/// Reads every row. Gives the head and the bytes that the rows hold.
fn check(store: &Store, path: &Path) -> Result<(Head, u64), LogOpenError> {
    let checked = catch_unwind(AssertUnwindSafe(|| Check { store, file: path.join("db") }.run()));
    checked.unwrap_or_else(|_| Err(panicked(path)))
}

struct Check<'a> {
    store: &'a Store,
    file: PathBuf,
}

impl Check<'_> {
    fn bad(&self, record: impl Into<String>, what: impl Into<String>) -> LogOpenError {
        LogOpenError::damaged(&self.file, record, what)
    }

    fn sled<T>(&self, result: sled::Result<T>) -> Result<T, LogOpenError> {
        result.map_err(|e| match e {
            sled::Error::Io(e) => LogOpenError::io(&self.file, e),
            e => self.bad("the database", e.to_string()),
        })
    }

    /// One row of `meta` (or of `log`, for the truncations), checked.
    fn row<T>(
        &self,
        tree: &sled::Tree,
        key: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, rows::Bad>,
    ) -> Result<Option<T>, LogOpenError> {
        let value = self.sled(tree.get(key))?;
        let decoded = value.map(|v| decode(&v)).transpose();
        decoded.map_err(|what| self.bad(format!("row {}", key.escape_ascii()), what))
    }

    fn run(&self) -> Result<(Head, u64), LogOpenError> {
        let Store { log, meta, .. } = self.store;
        let vote = self.row(meta, rows::VOTE, rows::decode_vote)?;
        let purged = self.row(meta, rows::PURGED, Purged::decode)?;
        let committed = self.row(meta, rows::COMMITTED, rows::decode_committed)?.flatten();
        let truncations = self.row(log, rows::TRUNCATIONS, Truncations::decode)?.unwrap_or(Truncations::NONE);
        let mut head = Head {
            votes: vote.as_ref().map_or(0, |(saved, _)| *saved),
            vote: vote.map(|(_, vote)| vote),
            committed,
            truncations,
            ..Head::default()
        };
        if let Some(purged) = purged {
            head.purge_to(purged);
        }
        let live_bytes = self.rows(&mut head)?;
        head.committed = head.committed.map(|c| c.min(head.end.saturating_sub(1)));
        Ok((head, live_bytes))
    }

    fn rows(&self, head: &mut Head) -> Result<u64, LogOpenError> {
        let mut live_bytes = 0;
        for row in self.store.log.range(&head.floor().to_be_bytes()[..]..rows::TRUNCATIONS) {
            let (key, value) = self.sled(row)?;
            let index = rows::decode_index(&key).map_err(|what| self.bad(key.escape_ascii().to_string(), what))?;
            let bad = |what: &str| self.bad(format!("row {index}"), what);
            let (chain, entry) = rows::decode_row(&key, &value).map_err(bad)?;
            if !head.is_pristine() && index != head.end {
                return Err(bad(&format!("row {} before it is missing", head.end)));
            }
            if chain != rows::chain(head.chain, index, &entry) {
                return Err(bad("it does not belong after the rows before it"));
            }
            head.push(index, chain);
            live_bytes += (key.len() + value.len()) as u64;
        }
        Ok(live_bytes)
    }
}

/// Compares what was found with what the node has promised.
fn compare(store: &Store, head: &Head, mark: &Mark, db_dir: &Path) -> Result<(), LogOpenError> {
    let behind = |found: String, promised: String| {
        Err(LogOpenError::BehindItself { file: db_dir.join("db"), found, promised, advice: REJOIN })
    };
    if head.votes < mark.votes {
        return behind(format!("vote number {}", head.votes), format!("vote number {}", mark.votes));
    }
    if head.truncations.count < mark.truncations {
        let (found, promised) = (head.truncations.count, mark.truncations);
        return behind(format!("{found} truncations"), format!("truncation number {promised}"));
    }
    let cut_since = head.truncations.count > mark.truncations;
    let promised = if cut_since { mark.end.min(head.truncations.lowest_end) } else { mark.end };
    if head.end < promised {
        return behind(format!("entries up to index {}", head.end), format!("all up to index {promised}"));
    }
    let damaged = |record: &str| {
        let file = db_dir.join("db");
        Err(LogOpenError::damaged(&file, record, "it is not the one that the high-water mark covers"))
    };
    if head.votes == mark.votes && mark.vote_crc != vote_crc(head.vote.as_ref()) {
        return damaged("the vote");
    }
    let gone = promised < mark.end || promised <= head.floor();
    if !gone && chain_at(store, mark.end - 1) != Some(mark.chain) {
        return damaged(&format!("row {}", mark.end - 1));
    }
    Ok(())
}

fn chain_at(store: &Store, index: u64) -> Option<u32> {
    let key = index.to_be_bytes();
    let value = store.log.get(key).ok()??;
    rows::decode_row(&key, &value).ok().map(|(chain, _)| chain)
}

/// CRC32C of a vote as the mark keeps it.
pub(super) fn vote_crc(vote: Option<&Bytes>) -> u32 {
    vote.map_or(0, |vote| crc32c::crc32c(vote))
}

impl Store {
    fn new(db: sled::Db, log: sled::Tree, meta: sled::Tree, path: &Path) -> std::io::Result<Store> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path.join("db"))?;
        let store = Store { db, log, meta, file: std::sync::Arc::new(file) };
        files::sync_dirs(path)?;
        store.sync()?;
        Ok(store)
    }

    /// Makes everything written so far durable. sled's own flush does not reach the disk (it asks for
    /// `sync_file_range`), so the same file is synced through a second descriptor.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.db.flush().map_err(db_error)?;
        self.file.sync_data()
    }

    /// Removes the rows of `from..end`, lowest first, in bounded steps.
    pub(super) fn remove_rows(&self, from: u64, end: u64) -> std::io::Result<()> {
        const STEP: usize = 1024;
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            for key in self.log.range(from.to_be_bytes()..end.to_be_bytes()).keys().take(STEP) {
                batch.remove(key.map_err(db_error)?);
                count += 1;
            }
            if count > 0 {
                self.log.apply_batch(batch).map_err(db_error)?;
            }
            if count < STEP {
                return Ok(());
            }
        }
    }
}
