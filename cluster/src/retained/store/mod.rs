//! A table of retained messages that is on disk as well: an append-only file, one writer, one sync for all that was
//! queued meanwhile. The reasons are in `docs/design/0008-retained.md`.
//!
//! Rules:
//! 1. Everything is read from memory; the file is read once, at the start.
//! 2. What is queued is topics, not records: the writer takes what a topic holds when its turn comes, so a topic that
//!    changes all the time costs one entry a sync, and the queue is bounded by the table.
//! 3. Only the last batch can be torn, and is cut off. Damage that a sound batch follows is passed over, since records
//!    stand for themselves; but then the store is not [`Store::sound`], as what it once promised may be lost.
//! 4. After a failed write or sync the file is not trusted: all is written anew to another one, again and again until
//!    that succeeds. Nobody is told before.
//! 5. When more than half of the file is of no use, the table is written to a new one, a piece a turn.

mod format;
mod open;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use self::writer::Writer;
use super::{Bounds, Came, Cursor, Digests, Full, Page, Pages, Record, Table, Time, Took, Totals};
use crate::clock::{Moment, SharedClock, UnixMillis};
use crate::disk::SharedDisk;
use crate::ids::BrokerId;
use crate::limits;
use crate::log::LogOpenError;
use crate::rng::SharedRng;

/// Called once everything taken so far is on disk.
pub type Durable = Box<dyn FnOnce() + Send>;

/// Deleted brokers that are remembered, so that nothing is taken of them that was on its way. More than are deleted while
/// anything is.
const REMOVED: usize = 4096;
/// Pause after the disk refused, before all is written anew.
const RETRY: Duration = Duration::from_millis(500);

/// What a store is opened with.
#[derive(Clone)]
pub struct StoreConfig {
    /// Time.
    pub clock: SharedClock,
    /// For the files' salts.
    pub rng: SharedRng,
    /// No thread is started: somebody calls [`Store::turn`]. For tests.
    pub by_hand: bool,
    /// A file is written anew when it has more bytes than this, and twice as many as are of use.
    pub compact_least: u64,
}

impl StoreConfig {
    /// What a node uses.
    pub fn new(clock: SharedClock, rng: SharedRng) -> Self {
        Self { clock, rng, by_hand: false, compact_least: 8 << 20 }
    }
}

/// A record to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose topic.
    pub broker: BrokerId,
    /// The topic.
    pub topic: Arc<str>,
    /// The record.
    pub record: Record,
}

/// What a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Messages and tombstones that won over what was there.
    pub taken: u64,
    /// Batches written, each with one sync.
    pub batches: u64,
    /// Times the table was written to a new file.
    pub rewritten: u64,
    /// Times the disk refused a write or a sync.
    pub disk_errors: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Tombstones forgotten.
    pub buried: u64,
    /// Records of peers refused because their clock is ahead.
    pub refused_ahead: u64,
}

/// A peer's clock is ahead by more than `limits::RETAINED_CLOCK_AHEAD` (R15). Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender's clock is {0:?} ahead")]
pub struct Ahead(pub Duration);

/// The retained messages of this node. Cheap to clone; closed by [`Store::close`].
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<Writer>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    clock: SharedClock,
    table: RwLock<Table>,
    /// What those brokers may hold that have limits of their own.
    bounds: RwLock<BTreeMap<BrokerId, Bounds>>,
    removed: RwLock<Removed>,
    /// The last time that was given out or seen.
    time: AtomicU64,
    queue: Mutex<Queue>,
    wake: Condvar,
    sound: AtomicBool,
    complete: AtomicBool,
    caught_up: Mutex<Option<UnixMillis>>,
}

/// The last brokers that were deleted.
#[derive(Default)]
struct Removed {
    all: BTreeSet<BrokerId>,
    in_order: VecDeque<BrokerId>,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    waiters: Vec<Durable>,
    rewrite: bool,
    closing: bool,
    stats: StoreStats,
}

/// What waits for the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Topic(BrokerId, Arc<str>),
    Removed(BrokerId),
    CaughtUp,
}

impl Store {
    /// Opens the store in `dir` (made if missing): reads its file.
    ///
    /// # Errors
    /// `InUse`, or what the operating system says. Damage is no error, see [`Store::sound`].
    pub fn open(dir: &Path, disk: SharedDisk, config: StoreConfig) -> Result<Store, LogOpenError> {
        let opened = open::open(dir, &disk, &config)?;
        let shared = Arc::new(Shared {
            clock: config.clock.clone(),
            time: AtomicU64::new(opened.table.latest().0),
            table: RwLock::new(opened.table),
            bounds: RwLock::default(),
            removed: RwLock::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            sound: AtomicBool::new(opened.sound),
            complete: AtomicBool::new(false),
            caught_up: Mutex::new(opened.caught_up),
        });
        let by_hand = config.by_hand;
        let writer = Writer::new(dir, disk, config, Arc::clone(&shared), opened.file);
        let store = Store { shared, writer: Arc::new(Mutex::new(Some(writer))), thread: Arc::default() };
        if !by_hand {
            store.start().map_err(|e| LogOpenError::Io { path: dir.to_path_buf(), source: e })?;
        }
        Ok(store)
    }

    fn start(&self) -> io::Result<()> {
        let (shared, writer) = (Arc::clone(&self.shared), self.writer.lock().take());
        let Some(mut writer) = writer else { return Ok(()) };
        let run = move || {
            while !writer.finished() {
                match writer.turn() {
                    writer::Turn::Worked => {}
                    writer::Turn::Idle => shared.wait(),
                    writer::Turn::Refused => shared.pause(),
                }
            }
        };
        *self.thread.lock() = Some(std::thread::Builder::new().name("retained".into()).spawn(run)?);
        Ok(())
    }

    /// The time of a new write: later than all that this node has seen.
    pub fn next_time(&self) -> Time {
        let wall = self.shared.clock.wall();
        let next = |last| Some(Time(last).next(wall).0);
        // The closure always gives a value, so both arms hold the time before.
        let before = self.shared.time.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Time(before.unwrap_or_else(|before| before)).next(wall)
    }

    /// The latest time that was given out or seen.
    pub fn latest(&self) -> Time {
        Time(self.shared.time.load(Ordering::Acquire))
    }

    /// A peer has seen this time: what is written here from now on is later, as far as its clock is believed (R15).
    ///
    /// # Errors
    /// [`Ahead`] if that is not as far as the peer's time.
    pub fn follow(&self, theirs: Time) -> Result<(), Ahead> {
        let wall = self.shared.clock.wall();
        let ahead = theirs.ahead_of(wall);
        let latest = wall.0.saturating_add(limits::RETAINED_CLOCK_AHEAD.as_millis() as u64);
        self.shared.time.fetch_max(theirs.min(Time::at(UnixMillis(latest))).0, Ordering::AcqRel);
        if ahead > limits::RETAINED_CLOCK_AHEAD { Err(Ahead(ahead)) } else { Ok(()) }
    }

    /// Whether a time is one that may be taken from a peer (R15).
    ///
    /// # Errors
    /// [`Ahead`], and it is counted.
    pub fn check(&self, time: Time) -> Result<(), Ahead> {
        let ahead = time.ahead_of(self.shared.clock.wall());
        if ahead > limits::RETAINED_CLOCK_AHEAD {
            self.shared.queue.lock().stats.refused_ahead += 1;
            return Err(Ahead(ahead));
        }
        Ok(())
    }

    /// What the broker may hold from now on; what it holds stays. One entry for each broker that exists.
    pub fn bound(&self, broker: BrokerId, bounds: Bounds) {
        self.shared.bounds.write().insert(broker, bounds);
    }

    /// Whether the broker may have this message.
    ///
    /// # Errors
    /// [`Full`].
    pub fn room(&self, broker: BrokerId, topic: &str, bytes: usize) -> Result<(), Full> {
        let bounds = self.shared.bounds.read().get(&broker).copied().unwrap_or_default();
        self.shared.table.read().room(broker, topic, bytes, bounds)
    }

    /// Takes records and calls `post`, at one moment: no page is read between the two. `durable` is called once they, or
    /// what replaced them, are on disk.
    pub fn take(&self, writes: &[Write], came: Came, durable: Option<Durable>, post: impl FnOnce()) {
        let now = self.shared.clock.now();
        let mut table = self.shared.table.write();
        post();
        let removed = self.shared.removed.read();
        let mut items = Vec::new();
        let mut taken = 0;
        for Write { broker, topic, record } in writes.iter().filter(|write| !removed.all.contains(&write.broker)) {
            self.shared.time.fetch_max(record.stamp.time.0, Ordering::AcqRel);
            let forgettable = record.message.is_none() && !table.remembers(*broker, topic, Bounds::default());
            if !forgettable && table.merge(now, *broker, topic, record.clone(), came) {
                taken += 1;
                if table.queue(*broker, topic) {
                    items.push(Item::Topic(*broker, Arc::clone(topic)));
                }
            }
        }
        // Before the table is let go: who finds its record in the table finds its topic in the queue.
        self.shared.push(items, durable, taken);
    }

    /// Takes records that were copied from a peer; what became of them.
    ///
    /// # Errors
    /// [`Ahead`]: none was taken.
    pub fn copy(&self, writes: &[Write]) -> Result<Took, Ahead> {
        writes.iter().try_for_each(|write| self.check(write.record.stamp.time))?;
        let took = {
            let table = self.shared.table.read();
            let removed = |write: &Write| table.removes(write.broker, &write.topic, &write.record);
            let lacking = |write: &Write| table.lacks(write.broker, &write.topic, &write.record);
            Took { agrees: !writes.iter().any(removed), gained: writes.iter().any(lacking) }
        };
        self.take(writes, Came::Copied, None, || {});
        Ok(took)
    }

    /// Reads a page and hands it to `then`, at one moment: no record is taken between the two.
    pub fn page(&self, broker: BrokerId, filter: &str, after: Option<Cursor>, most: Pages, then: impl FnOnce(Page)) {
        let table = self.shared.table.read();
        then(table.page(broker, filter, after, self.shared.clock.wall(), most));
    }

    /// See [`Table::renew`].
    pub fn renew(&self, broker: BrokerId, page: &mut Page) {
        self.shared.table.read().renew(broker, page);
    }

    /// See [`Table::digests`].
    pub fn digests(&self, after: Option<BrokerId>, most: usize) -> Vec<(BrokerId, Digests)> {
        self.shared.table.read().digests(after, most)
    }

    /// See [`Table::digests_of`].
    pub fn digests_of(&self, broker: BrokerId) -> Digests {
        self.shared.table.read().digests_of(broker)
    }

    /// See [`Table::records`].
    pub fn records(
        &self,
        broker: BrokerId,
        mask: u64,
        after: Option<&str>,
        most: Pages,
    ) -> (Vec<(String, Record)>, Option<String>) {
        self.shared.table.read().records(broker, mask, after, most)
    }

    /// The broker was deleted: its messages go, here and on disk, and none is taken any more.
    pub fn remove(&self, broker: BrokerId) {
        self.shared.bounds.write().remove(&broker);
        let mut table = self.shared.table.write();
        self.shared.removed.write().add(broker);
        if table.remove(broker) {
            self.shared.push(vec![Item::Removed(broker)], None, 0);
        }
    }

    /// The brokers that have records.
    pub fn brokers(&self) -> Vec<BrokerId> {
        self.shared.table.read().brokers().collect()
    }

    /// Time passed: messages expire, and tombstones that every other member has had since `since` are forgotten.
    pub fn tick(&self, since: Option<Moment>) {
        let (now, wall) = (self.shared.clock.now(), self.shared.clock.wall());
        let (expired, buried) = {
            let mut table = self.shared.table.write();
            (table.expire(now, wall), table.bury(since, wall))
        };
        let mut queue = self.shared.queue.lock();
        queue.stats.expired += expired as u64;
        queue.stats.buried += buried as u64;
    }

    /// Whether the file holds all that this node ever said to be on disk here. Not if it was damaged, nor before the
    /// node has for the first time caught up with others.
    pub fn sound(&self) -> bool {
        self.shared.sound.load(Ordering::Acquire)
    }

    /// The node has everything that it promised, and what others did meanwhile; said again now and then.
    pub fn caught_up(&self) {
        if !self.shared.complete.swap(true, Ordering::AcqRel) && !self.sound() {
            self.shared.queue.lock().rewrite = true;
        }
        self.shared.sound.store(true, Ordering::Release);
        *self.shared.caught_up.lock() = Some(self.shared.clock.wall());
        self.shared.push(vec![Item::CaughtUp], None, 0);
    }

    /// Whether the node was away for so long that others have forgotten tombstones it lacks (R15).
    pub fn stale(&self) -> bool {
        let Some(last) = *self.shared.caught_up.lock() else { return false };
        // Half of it: nobody forgets one a moment after this was asked.
        let most = limits::TOMBSTONE_MOST.as_millis() / 2;
        u128::from(self.shared.clock.wall().0.saturating_sub(last.0)) > most
    }

    /// Forgets everything in memory, to copy afresh. The file keeps it until [`Store::caught_up`].
    pub fn set_aside(&self) {
        *self.shared.table.write() = Table::default();
        self.shared.sound.store(false, Ordering::Release);
    }

    /// What the table holds.
    pub fn totals(&self) -> Totals {
        self.shared.table.read().totals()
    }

    /// What one broker holds.
    pub fn totals_of(&self, broker: BrokerId) -> Totals {
        self.shared.table.read().totals_of(broker)
    }

    /// Counters since it was opened.
    pub fn stats(&self) -> StoreStats {
        self.shared.queue.lock().stats
    }

    /// Does one piece of work, where no thread does it (`by_hand`). False if there was nothing to do or the disk
    /// refused.
    pub fn turn(&self) -> bool {
        self.writer.lock().as_mut().is_some_and(|writer| matches!(writer.turn(), writer::Turn::Worked))
    }

    /// Makes what is queued durable if the disk takes it, ends the thread and lets go of the directory.
    pub fn close(&self) {
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there was a caller's: its own callback. Nothing is left to do about it here.
            let _ = thread.join();
        }
        if let Some(mut writer) = self.writer.lock().take() {
            while !writer.finished() && matches!(writer.turn(), writer::Turn::Worked) {}
        }
    }
}

impl Removed {
    fn add(&mut self, broker: BrokerId) {
        if !self.all.insert(broker) {
            return;
        }
        self.in_order.push_back(broker);
        if self.in_order.len() > REMOVED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

impl Shared {
    fn push(&self, items: Vec<Item>, durable: Option<Durable>, taken: u64) {
        let mut queue = self.queue.lock();
        queue.stats.taken += taken;
        queue.items.extend(items);
        queue.waiters.extend(durable);
        drop(queue);
        self.wake.notify_one();
    }

    fn wait(&self) {
        let mut queue = self.queue.lock();
        while queue.items.is_empty() && queue.waiters.is_empty() && !queue.rewrite && !queue.closing {
            self.wake.wait(&mut queue);
        }
    }

    /// After the disk refused.
    fn pause(&self) {
        let mut queue = self.queue.lock();
        if !queue.closing {
            self.wake.wait_for(&mut queue, RETRY);
        }
    }
}
