//! Directories of the metadata log: sizes, and the swap after a compaction.
//!
//! `sled/` is the database. A compaction copies it to `sled.fresh/`, renames `sled/` to `sled.old/` and
//! `sled.fresh/` to `sled/`, then removes the old one. A crash between any two steps leaves one whole database,
//! which [`finish_swap`] finds: without `sled/`, it is `sled.old/`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Store, db_error};

pub(super) const DB: &str = "sled";
pub(super) const FRESH: &str = "sled.fresh";
const OLD: &str = "sled.old";

/// Bytes of all files under a directory.
pub(super) fn size(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // sled removes files while it runs: one that is gone by now takes no room.
        sum += if kind.is_dir() { size(&entry.path())? } else { entry.metadata().map_or(0, |m| m.len()) };
    }
    Ok(sum)
}

/// Makes the names in a directory, and its own, durable.
pub(super) fn sync_dirs(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Finishes or takes back a swap that a crash cut short.
pub(super) fn finish_swap(dir: &Path) -> io::Result<()> {
    let (db, old) = (dir.join(DB), dir.join(OLD));
    if !db.try_exists()? && old.try_exists()? {
        fs::rename(&old, &db)?;
        File::open(dir)?.sync_all()?;
    }
    remove_if_there(&old)?;
    remove_if_there(&dir.join(FRESH))
}

/// Copies every row, durably.
pub(super) fn copy(from: &Store, to: &Store) -> io::Result<()> {
    for (source, target) in [(&from.log, &to.log), (&from.meta, &to.meta)] {
        for row in source.iter() {
            let (key, value) = row.map_err(db_error)?;
            target.insert(key, value).map_err(db_error)?;
        }
    }
    to.sync()
}

/// Puts the fresh copy in the database's place. Both must be closed.
pub(super) fn swap(dir: &Path) -> io::Result<()> {
    sync_dirs(&dir.join(FRESH))?;
    // Every file of the copy, not just the one that the log's syncs cover.
    for entry in fs::read_dir(dir.join(FRESH))? {
        let path = entry?.path();
        if path.is_file() {
            File::open(path)?.sync_all()?;
        }
    }
    fs::rename(dir.join(DB), dir.join(OLD))?;
    File::open(dir)?.sync_all()?;
    fs::rename(dir.join(FRESH), dir.join(DB))?;
    File::open(dir)?.sync_all()?;
    remove_if_there(&dir.join(OLD))
}
