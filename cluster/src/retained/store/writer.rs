//! The one that writes: appends what is queued, and writes the table to a new file when the old one is of little use.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::format::{ENTRY_OVERHEAD, Entry, put_batch, put_header, put_record};
use super::open::{Current, Files, path};
use super::{Durable, Item, Shared, StoreConfig};
use crate::disk::{DiskLock, SharedDisk};
use crate::ids::BrokerId;
use crate::retained::Pages;

/// Entries of one batch, bytes, about: more go into the next one.
const BATCH_BYTES: usize = 1 << 20;
/// Topics that are looked up under one lock of the table.
const TOPICS_AT_ONCE: usize = 256;
/// What one turn copies of the table to a new file.
const PIECE: Pages = Pages { messages: 2048, bytes: 1 << 20, steps: 4096 };

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Worked,
    Idle,
    /// The disk did.
    Refused,
}

pub(super) struct Writer {
    dir: PathBuf,
    disk: SharedDisk,
    config: StoreConfig,
    shared: Arc<Shared>,
    _lock: Box<dyn DiskLock>,
    number: u64,
    /// The file that is appended to; `None` once it is not trusted any more.
    current: Option<Current>,
    rewrite: Option<Rewrite>,
    /// What a new file must say beside the copy of the table.
    owed: Owed,
    /// Told with the next batch, or the next file.
    waiters: Vec<Durable>,
    closed: bool,
}

/// What changed since the copy of the table began. Bounded by what there is.
#[derive(Default)]
struct Owed {
    removed: BTreeSet<BrokerId>,
    topics: BTreeSet<(BrokerId, Arc<str>)>,
}

/// A new file in the making.
struct Rewrite {
    new: Current,
    temporary: PathBuf,
    /// Where the copy of the table stands: this broker, after this topic.
    broker: Option<BrokerId>,
    after: Option<String>,
}

impl Owed {
    fn add(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Topic(broker, topic) => drop(self.topics.insert((*broker, Arc::clone(topic)))),
                Item::Removed(broker) => drop(self.removed.insert(*broker)),
                Item::CaughtUp => {}
            }
        }
    }

    /// A topic is written as it is now, so all removals may come first.
    fn items(&self) -> Vec<Item> {
        let removed = self.removed.iter().map(|broker| Item::Removed(*broker));
        removed.chain(self.topics.iter().map(|(broker, topic)| Item::Topic(*broker, Arc::clone(topic)))).collect()
    }
}

impl Writer {
    pub(super) fn new(dir: &Path, disk: SharedDisk, config: StoreConfig, shared: Arc<Shared>, files: Files) -> Self {
        Self {
            dir: dir.to_path_buf(),
            disk,
            config,
            shared,
            _lock: files.lock,
            number: files.number,
            current: files.current,
            rewrite: None,
            owed: Owed::default(),
            waiters: Vec::new(),
            closed: false,
        }
    }

    /// Whether it was closed and nothing is left.
    pub(super) fn finished(&self) -> bool {
        self.closed
    }

    /// Writes what is queued, then a piece of a new file if one is in the making.
    pub(super) fn turn(&mut self) -> Turn {
        let (items, closing) = self.take_queue();
        if items.is_empty() && self.waiters.is_empty() && self.rewrite.is_none() && self.current.is_some() {
            self.closed = closing;
            return Turn::Idle;
        }
        match self.work(items) {
            Ok(()) => Turn::Worked,
            Err(error) => {
                tracing::error!(%error, "the disk refuses retained messages; publishes wait for it, and all is written anew");
                self.shared.queue.lock().stats.disk_errors += 1;
                self.distrust();
                self.closed = closing;
                Turn::Refused
            }
        }
    }

    fn take_queue(&mut self) -> (Vec<Item>, bool) {
        let mut queue = self.shared.queue.lock();
        self.waiters.append(&mut queue.waiters);
        if std::mem::take(&mut queue.rewrite) {
            self.current = None;
            self.rewrite = None;
        }
        (std::mem::take(&mut queue.items), queue.closing)
    }

    /// Whatever is half done is done anew.
    fn distrust(&mut self) {
        self.current = None;
        if let Some(rewrite) = self.rewrite.take() {
            // It is removed at the next start otherwise.
            let _ = self.disk.remove(&rewrite.temporary);
        }
    }

    fn work(&mut self, items: Vec<Item>) -> io::Result<()> {
        if self.rewrite.is_some() || self.current.is_none() {
            self.owed.add(&items);
        }
        if let Some(current) = &mut self.current {
            let written = append(&self.shared, current, &items, true);
            if written.is_err() {
                self.owed.add(&items);
            }
            self.shared.queue.lock().stats.batches += written?;
            for durable in self.waiters.drain(..) {
                durable();
            }
        }
        if self.rewrite.is_none() {
            if self.current.is_none() || self.worn() {
                self.rewrite = Some(self.begin()?);
            }
            return Ok(());
        }
        let Some(rewrite) = &mut self.rewrite else { return Ok(()) };
        if rewrite.copy(&self.shared)? {
            self.switch()?;
        }
        Ok(())
    }

    /// Whether more than half of the file is of no use.
    fn worn(&self) -> bool {
        let Some(current) = &self.current else { return false };
        // A damaged file is kept until the node has caught up: it is the proof that it must.
        let allowed = self.shared.sound.load(Ordering::Acquire) || self.shared.complete.load(Ordering::Acquire);
        let totals = self.shared.table.read().totals();
        let of_use = totals.bytes + totals.records * ENTRY_OVERHEAD;
        allowed && current.len > self.config.compact_least && current.len > 2 * of_use as u64
    }

    fn begin(&mut self) -> io::Result<Rewrite> {
        self.number += 1;
        let salt = self.config.rng.u64();
        let mut temporary = path(&self.dir, self.number).into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let file = self.disk.create(&temporary)?;
        let mut head = Vec::new();
        put_header(&mut head, salt);
        file.write_at(0, &head)?;
        let new = Current { file, salt, len: head.len() as u64, next_batch: 1 };
        Ok(Rewrite { new, temporary, broker: None, after: None })
    }

    /// The new file is whole: it takes the old one's place.
    fn switch(&mut self) -> io::Result<()> {
        let Some(rewrite) = &mut self.rewrite else { return Ok(()) };
        append(&self.shared, &mut rewrite.new, &self.owed.items(), false)?;
        if self.shared.complete.load(Ordering::Acquire) {
            append(&self.shared, &mut rewrite.new, &[Item::CaughtUp], false)?;
        }
        rewrite.new.file.sync_data()?;
        self.disk.rename(&rewrite.temporary, &path(&self.dir, self.number))?;
        self.disk.sync_dir(&self.dir)?;
        let Some(rewrite) = self.rewrite.take() else { return Ok(()) };
        self.current = Some(rewrite.new);
        self.owed = Owed::default();
        self.shared.queue.lock().stats.rewritten += 1;
        for durable in self.waiters.drain(..) {
            durable();
        }
        let old = (1..self.number).rev().map(|n| path(&self.dir, n)).take_while(|old| self.disk.remove(old).is_ok());
        old.for_each(drop);
        Ok(())
    }
}

impl Rewrite {
    /// Copies a piece of the table; whether it was the last.
    fn copy(&mut self, shared: &Shared) -> io::Result<bool> {
        let table = shared.table.read();
        let broker = match self.broker {
            Some(broker) => broker,
            None => match table.digests(None, 1).first() {
                Some((first, _)) => *first,
                None => return Ok(true),
            },
        };
        let (records, next) = table.records(broker, u64::MAX, self.after.as_deref(), PIECE);
        let following = table.digests(Some(broker), 1).first().map(|(next, _)| *next);
        drop(table);
        let mut body = Vec::new();
        records.iter().for_each(|(topic, record)| put_record(&mut body, broker, topic, record));
        write(&mut self.new, &body, false)?;
        (self.broker, self.after) = (Some(broker), next);
        if self.after.is_none() {
            match following {
                Some(next) => self.broker = Some(next),
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// Appends what the topics hold now; how many batches that made. With `synced` each is on disk before the next is
/// written, so that only the last can be torn.
fn append(shared: &Shared, to: &mut Current, items: &[Item], synced: bool) -> io::Result<u64> {
    let first = to.next_batch;
    let mut body = Vec::new();
    for some in items.chunks(TOPICS_AT_ONCE) {
        for entry in entries(shared, some) {
            entry.put(&mut body);
            if body.len() >= BATCH_BYTES {
                write(to, &body, synced)?;
                body.clear();
            }
        }
    }
    write(to, &body, synced)?;
    Ok(to.next_batch - first)
}

fn entries(shared: &Shared, items: &[Item]) -> Vec<Entry> {
    let mut table = shared.table.write();
    let entry = |item: &Item| match item {
        Item::Topic(broker, topic) => {
            let record = table.unqueue(*broker, topic)?;
            Some(Entry::Record(*broker, topic.to_string(), record))
        }
        Item::Removed(broker) => Some(Entry::Removed(*broker)),
        Item::CaughtUp => Some(Entry::CaughtUp(shared.clock.wall())),
    };
    items.iter().filter_map(entry).collect()
}

fn write(to: &mut Current, body: &[u8], synced: bool) -> io::Result<()> {
    if body.is_empty() {
        return Ok(());
    }
    let mut batch = Vec::with_capacity(body.len() + 64);
    put_batch(&mut batch, to.salt, to.next_batch, body);
    to.file.write_at(to.len, &batch)?;
    if synced {
        to.file.sync_data()?;
    }
    to.len += batch.len() as u64;
    to.next_batch += 1;
    Ok(())
}
