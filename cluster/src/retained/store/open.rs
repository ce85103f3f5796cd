//! Reading the file at the start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreConfig;
use super::format::{BATCH_HEADER, Entry, FILE_HEADER, batch, header, next_batch};
use crate::clock::UnixMillis;
use crate::disk::{Disk, DiskFile, DiskLock, SharedDisk, read_all};
use crate::log::LogOpenError;
use crate::retained::{Came, Table};

/// What was found.
pub(super) struct Opened {
    pub(super) table: Table,
    pub(super) file: Files,
    /// Whether all is there that was ever promised.
    pub(super) sound: bool,
    pub(super) caught_up: Option<UnixMillis>,
}

/// The directory as it is.
pub(super) struct Files {
    pub(super) lock: Box<dyn DiskLock>,
    /// The number of the newest file that there ever was; 0 before the first.
    pub(super) number: u64,
    /// The file to append to; `None` if one is to be made.
    pub(super) current: Option<Current>,
}

pub(super) struct Current {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: u64,
    pub(super) len: u64,
    pub(super) next_batch: u64,
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.retained"))
}

pub(super) fn open(dir: &Path, disk: &SharedDisk, config: &StoreConfig) -> Result<Opened, LogOpenError> {
    let io = |source| LogOpenError::Io { path: dir.to_path_buf(), source };
    disk.create_dir_all(dir).map_err(io)?;
    let lock_path = dir.join("lock");
    let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => LogOpenError::InUse { path: lock_path.clone() },
        _ => LogOpenError::Io { path: lock_path.clone(), source },
    })?;
    let number = newest(dir, &**disk).map_err(io)?;
    let mut opened = Opened {
        table: Table::default(),
        file: Files { lock, number: number.unwrap_or(0), current: None },
        sound: false,
        caught_up: None,
    };
    if let Some(number) = number {
        let path = path(dir, number);
        let file = disk.open(&path).map_err(io)?;
        read(&path, file, &mut opened, config).map_err(io)?;
    }
    Ok(opened)
}

/// The number of the newest file. What else is there is of an interrupted rewrite, and goes.
fn newest(dir: &Path, disk: &dyn Disk) -> io::Result<Option<u64>> {
    let names = disk.list(dir)?;
    let newest = names.iter().filter_map(|name| name.strip_suffix(".retained")?.parse::<u64>().ok()).max();
    for name in names {
        let old = name.strip_suffix(".retained").and_then(|n| n.parse().ok()).is_some_and(|n: u64| Some(n) < newest);
        if old || name.ends_with(".new") {
            disk.remove(&dir.join(name))?;
        }
    }
    disk.sync_dir(dir)?;
    Ok(newest)
}

fn read(path: &Path, file: Arc<dyn DiskFile>, opened: &mut Opened, config: &StoreConfig) -> io::Result<()> {
    let bytes = read_all(&*file)?;
    let Some(salt) = header(&bytes) else {
        tracing::error!(file = %path.display(), "the file of retained messages has no sound header; all is copied from other nodes");
        return Ok(());
    };
    let (mut at, mut last, mut damaged) = (FILE_HEADER, None, false);
    loop {
        let sound = batch(&bytes[at..], salt).filter(|(number, _)| last.is_none_or(|(before, _)| *number > before));
        if let Some((number, body)) = sound {
            damaged |= last.is_some_and(|(before, _)| number != before + 1);
            last = Some((number, at));
            replay(body, opened, config);
            at += BATCH_HEADER + body.len();
            continue;
        }
        match next_batch(&bytes, salt, at, last.map(|(number, _)| number)) {
            Some(next) => {
                tracing::error!(file = %path.display(), byte = at, "retained messages are damaged on disk; what is lost is copied from other nodes");
                damaged = true;
                at = next;
            }
            None => break,
        }
    }
    opened.sound = opened.caught_up.is_some() && !damaged;
    if damaged {
        opened.caught_up = None;
        return Ok(());
    }
    // What follows the last sound batch was torn by a crash. The last batch itself may be in the page cache only, and
    // is shown from now on, so it is written again.
    file.set_len(at as u64)?;
    if let Some((_, start)) = last {
        file.write_at(start as u64, &bytes[start..at])?;
    }
    file.sync_data()?;
    let next_batch = last.map_or(1, |(number, _)| number + 1);
    opened.file.current = Some(Current { file, salt, len: at as u64, next_batch });
    Ok(())
}

fn replay(mut body: &[u8], opened: &mut Opened, config: &StoreConfig) {
    let now = config.clock.now();
    while let Some(entry) = Entry::take(&mut body) {
        match entry {
            Entry::Record(broker, topic, record) => {
                opened.table.merge(now, broker, &topic, record, Came::Copied);
            }
            Entry::Removed(broker) => {
                opened.table.remove(broker);
            }
            Entry::CaughtUp(at) => opened.caught_up = Some(at),
        }
    }
}
