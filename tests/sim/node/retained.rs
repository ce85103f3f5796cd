//! The glue of retained messages: a store on a disk that may fail, the turns of its writer, and what workers do with it,
//! as `broker::retained` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rookery::broker::core::{Batch, ConnKey, Input, Retaining};
use rookery_cluster::clock::{Clock, Moment, UnixMillis};
use rookery_cluster::disk::MemDisk;
use rookery_cluster::handle::{Holder, Replicas, Run};
use rookery_cluster::ids::{BrokerId, NodeId, NodeLife};
use rookery_cluster::retained::store::{Durable, Store, StoreConfig, Write};
use rookery_cluster::retained::{Came, Cursor, Full, Page, Pages, Record, Replication, Time, Took};

use super::worker::Mail;
use crate::client::SockId;
use crate::rng::Rng;
use crate::world::{BROKER, Sabotage, World};

/// The wall clock when the world begins.
const BEGINNING: u64 = 1_700_000_000_000;
/// How far a wall clock that nothing is wrong with is off, milliseconds.
const USUAL: u64 = 150;
/// As the store's own thread pauses after its disk refused.
const RETRY: Duration = Duration::from_millis(500);
/// Pages are small, so that few messages make several.
const PAGE_MESSAGES: usize = 2;

/// What a node has for its retained messages, from process to process.
pub struct Shelf {
    pub disk: MemDisk,
    /// What every turn of the writer takes longer.
    pub slow: Duration,
    /// How far the wall clock is ahead of the truth, milliseconds.
    pub ahead: i64,
    pub store: Option<Store>,
    /// What the disk is known to have, by topic.
    pub durable: BTreeMap<String, Record>,
    dials: Arc<Dials>,
    told: Arc<Mutex<Vec<Told>>>,
    turn_due: bool,
    opened: u64,
}

/// What one life knows of the others.
pub struct Copying {
    pub replication: Replication,
    /// It has everything, and its workers may have heard.
    pub complete: bool,
    replicas: Arc<RwLock<Arc<Replicas>>>,
}

/// What comes to a worker from the store.
pub enum News {
    Stored {
        batches: usize,
        through: u64,
    },
    Page {
        conn: ConnKey,
        broker: BrokerId,
        filter: Arc<str>,
        page: Page,
    },
    /// All that was in the mailbox when the last page was read has been performed.
    Read {
        sock: SockId,
        filter: Arc<str>,
    },
    InStep,
    Complete,
}

/// What the store says once something is on disk.
enum Told {
    Stored { life: NodeLife, worker: u16, through: u64 },
    Receipt { life: NodeLife, receipt: u64 },
    Topics(BTreeSet<Arc<str>>),
}

/// A node's clocks as its store reads them: set before each call.
#[derive(Default)]
struct Dials {
    now: AtomicU64,
    wall: AtomicU64,
}

impl Clock for Dials {
    fn now(&self) -> Moment {
        Moment(Duration::from_nanos(self.now.load(Ordering::Relaxed)))
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::Relaxed))
    }
}

/// Salts of files.
struct Salts(Mutex<Rng>);

impl rookery_cluster::rng::Rng for Salts {
    fn fill(&self, out: &mut [u8]) {
        let mut rng = self.0.lock().expect("nobody panicked");
        out.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()]));
    }
}

/// What a core asks of the store.
struct Keeper {
    store: Store,
    dials: Arc<Dials>,
    replicas: Arc<RwLock<Arc<Replicas>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Retaining for Keeper {
    fn replicas(&self) -> Arc<Replicas> {
        self.replicas.read().expect("nobody panicked").clone()
    }
    fn time(&self) -> Time {
        self.store.next_time()
    }
    fn admit(&self, broker: BrokerId, topic: &str, bytes: Option<usize>) -> Result<(Time, UnixMillis), Full> {
        if let Some(bytes) = bytes {
            self.store.room(broker, topic, bytes)?;
        }
        Ok((self.store.next_time(), self.dials.wall()))
    }
}

impl Shelf {
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            disk: MemDisk::new(rng.next()),
            slow: Duration::ZERO,
            ahead: rng.below(2 * USUAL) as i64 - USUAL as i64,
            store: None,
            durable: BTreeMap::new(),
            dials: Arc::default(),
            told: Arc::default(),
            turn_due: false,
            opened: 0,
        }
    }
}

impl Copying {
    pub fn new(own: NodeId) -> Self {
        Self { replication: Replication::new(own), complete: false, replicas: Arc::default() }
    }

    /// Who must take what is published from now on.
    pub fn others_changed(&mut self, change: impl FnOnce(&mut Replication)) {
        change(&mut self.replication);
        let replicas = Replicas { peers: self.replication.peers().to_vec(), needed: self.replication.needed() };
        *self.replicas.write().expect("nobody panicked") = Arc::new(replicas);
    }
}

impl World {
    /// A node's wall clock.
    pub fn wall(&mut self, node: NodeId) -> UnixMillis {
        let truth = (BEGINNING + self.now.as_millis() as u64) as i64;
        UnixMillis((truth + self.node(node).shelf.ahead) as u64)
    }

    /// A node's store, whose clock shows the present.
    pub fn store(&mut self, node: NodeId) -> Option<Store> {
        let (now, wall) = (self.local(node), self.wall(node));
        let shelf = &self.node(node).shelf;
        shelf.dials.now.store(now.0.as_nanos() as u64, Ordering::Relaxed);
        shelf.dials.wall.store(wall.0, Ordering::Relaxed);
        shelf.store.clone()
    }

    /// All records of a node.
    pub fn records(&mut self, node: NodeId) -> BTreeMap<String, Record> {
        let all = Pages { messages: usize::MAX, bytes: usize::MAX, steps: usize::MAX };
        self.store(node)
            .map(|store| store.records(BROKER, u64::MAX, None, all).0.into_iter().collect())
            .unwrap_or_default()
    }

    // ---- processes ----

    /// A process starts: it reads the file, unless the one before did and goes on. False if the disk refuses.
    pub fn open_store(&mut self, id: NodeId) -> bool {
        if self.node(id).shelf.store.is_some() {
            return true;
        }
        self.store(id);
        let salts = Arc::new(Salts(Mutex::new(Rng::new(self.rng.next()))));
        let shelf = &mut self.node(id).shelf;
        let config = StoreConfig { by_hand: true, compact_least: 3000, ..StoreConfig::new(shelf.dials.clone(), salts) };
        let opened = Store::open(Path::new("/retained"), Arc::new(shelf.disk.clone()), config);
        let Ok(store) = opened else { return false };
        shelf.store = Some(store);
        shelf.opened += 1;
        shelf.turn_due = false;
        self.p09_reopened(id);
        self.store_turn_soon(id);
        true
    }

    /// The process is gone. The disk may have lost its power with it, in the middle of a write.
    pub fn lose_store(&mut self, id: NodeId, power: bool) {
        let changes = self.rng.below(5);
        let Some(store) = self.store(id) else { return };
        let shelf = &mut self.node(id).shelf;
        if power {
            shelf.disk.power_fails_in(changes);
            while store.turn() {}
        }
        shelf.store = None;
        drop(store);
        shelf.told.lock().expect("nobody panicked").clear();
        if power {
            shelf.disk.crash();
        }
    }

    /// As the node's composition root has it: what this life begins with.
    pub fn begin_retained(&mut self, life: NodeLife) {
        let Some(store) = self.store(life.node) else { return };
        if store.stale() {
            self.note(|| format!("node {}: copies its retained messages afresh", life.node));
            self.node(life.node).shelf.durable.clear();
            store.set_aside();
        }
        let node = self.node(life.node);
        let members = node.meta.nodes().map(|node| node.id).collect();
        let dials = node.shelf.dials.clone();
        let Some(broker) = &mut node.broker else { return };
        broker.copying.others_changed(|replication| replication.on_members(members));
        for worker in &mut broker.workers {
            let (store, dials, replicas) = (store.clone(), dials.clone(), broker.copying.replicas.clone());
            worker.core.retain(Arc::new(Keeper { store, dials, replicas }));
        }
        self.check_gate(life);
    }

    // ---- the writer ----

    /// Takes records, together with `post`; `told` is said once they are on disk.
    fn take(&mut self, node: NodeId, writes: &[Write], came: Came, told: Option<Told>) {
        let Some(store) = self.store(node) else { return };
        let topics = writes.iter().map(|write| write.topic.clone()).collect();
        let all = self.node(node).shelf.told.clone();
        let tell: Durable = Box::new(move || {
            let mut all = all.lock().expect("nobody panicked");
            all.push(Told::Topics(topics));
            all.extend(told);
        });
        store.take(writes, came, Some(tell), || {});
        self.store_turn_soon(node);
    }

    /// Takes what was copied from a peer; what became of it, nothing if it is refused.
    pub fn take_copied(&mut self, node: NodeId, writes: &[Write]) -> Option<Took> {
        let store = self.store(node)?;
        let took = store.copy(writes).ok()?;
        self.p09_taken(node, writes);
        self.take(node, &[], Came::Copied, Some(Told::Topics(writes.iter().map(|w| w.topic.clone()).collect())));
        Some(took)
    }

    pub fn store_turn_soon(&mut self, node: NodeId) {
        let delay = self.rng.micros(100, 4000) + self.node(node).shelf.slow;
        self.store_turn_after(node, delay);
    }

    fn store_turn_after(&mut self, node: NodeId, delay: Duration) {
        let shelf = &mut self.node(node).shelf;
        if shelf.store.is_none() || std::mem::replace(&mut shelf.turn_due, true) {
            return;
        }
        let opened = shelf.opened;
        self.after(delay, move |w| {
            if w.node(node).shelf.opened == opened {
                w.store_turn(node);
            }
        });
    }

    fn store_turn(&mut self, node: NodeId) {
        self.node(node).shelf.turn_due = false;
        let Some(store) = self.store(node) else { return };
        let errors = store.stats().disk_errors;
        let worked = store.turn();
        let refused = store.stats().disk_errors > errors;
        let told = std::mem::take(&mut *self.node(node).shelf.told.lock().expect("nobody panicked"));
        told.into_iter().for_each(|told| self.told(node, told));
        if refused {
            self.store_turn_after(node, RETRY);
        } else if worked {
            self.store_turn_soon(node);
        }
    }

    fn told(&mut self, node: NodeId, told: Told) {
        match told {
            Told::Stored { life, worker, through } => {
                self.post(life, worker, Mail::Retained(News::Stored { batches: 1, through }));
            }
            Told::Receipt { life, receipt } => self.receipt(life, receipt),
            Told::Topics(topics) => {
                let records = self.records(node);
                let now = records.into_iter().filter(|(topic, _)| topics.contains(topic.as_str()));
                self.node(node).shelf.durable.extend(now);
            }
        }
    }

    // ---- workers ----

    /// A worker has a batch kept. What it sent its siblings before is with them.
    pub fn keep_batch(&mut self, life: NodeLife, worker: u16, batch: Batch) {
        let writes = writes(&batch.runs, life.node);
        let through = batch.seq;
        let durable = durable(&batch.runs);
        let early = self.cfg.sabotage == Sabotage::StoredWhenTaken;
        let Some(it) = self.worker(life, worker) else { return };
        // Acceptance is in order: QoS 0 alone waits for no disk, but not before what came first.
        let waits = durable || it.storing > 0;
        it.storing += usize::from(waits && !early);
        if waits && !early {
            return self.take(life.node, &writes, Came::Published, Some(Told::Stored { life, worker, through }));
        }
        self.take(life.node, &writes, Came::Published, None);
        self.post(life, worker, Mail::Retained(News::Stored { batches: 0, through }));
    }

    /// A node has what came from a peer kept, and then gives its receipt.
    pub fn keep_arrived(&mut self, own: NodeLife, from: NodeLife, runs: &[Run], receipt: u64) {
        let writes = writes(runs, from.node);
        self.p09_taken(own.node, &writes);
        if durable(runs) && self.cfg.sabotage != Sabotage::StoredWhenTaken {
            return self.take(own.node, &writes, Came::Published, Some(Told::Receipt { life: own, receipt }));
        }
        self.take(own.node, &writes, Came::Published, None);
        self.receipt(own, receipt);
    }

    /// R15: a peer whose clock is ahead is refused, until the time has come.
    pub fn ahead(&mut self, node: NodeId, runs: &[Run]) -> bool {
        let Some(store) = self.store(node) else { return false };
        let refused = runs.iter().flat_map(|run| &run.retained).any(|kept| store.check(kept.time).is_err());
        refused && self.cfg.sabotage != Sabotage::TrustClocks
    }

    pub fn read_retained(
        &mut self,
        life: NodeLife,
        worker: u16,
        conn: ConnKey,
        filter: Arc<str>,
        after: Option<Cursor>,
        most: Pages,
    ) {
        let most = Pages { messages: most.messages.min(PAGE_MESSAGES), ..most };
        let (mut found, Some(store)) = (Page::default(), self.store(life.node)) else { return };
        store.page(BROKER, &filter, after, most, |page| found = page);
        self.post(life, worker, Mail::Retained(News::Page { conn, broker: BROKER, filter, page: found }));
    }

    pub fn retained_news(&mut self, life: NodeLife, worker: u16, news: News) {
        match news {
            News::InStep => self.input(life, worker, Input::RetainedInStep),
            News::Complete => self.input(life, worker, Input::RetainedComplete),
            News::Stored { batches, through } => {
                let Some(it) = self.worker(life, worker) else { return };
                it.storing -= batches;
                self.input(life, worker, Input::Accepted { from: Holder::Store, through });
            }
            News::Page { conn, broker, filter, mut page } => {
                if self.cfg.sabotage != Sabotage::StalePages {
                    // What this worker took since is in the store after this.
                    self.flush(life, worker);
                    if let Some(store) = self.store(life.node) {
                        store.renew(broker, &mut page);
                    }
                }
                let last = page.next.is_none();
                let sock = self.worker(life, worker).and_then(|it| it.socks.get(&conn).copied());
                self.input(life, worker, Input::Retained { conn, filter: &filter, page });
                if let Some(sock) = sock.filter(|_| last) {
                    // What replaced messages of the page is in the mailbox by now.
                    self.post(life, worker, Mail::Retained(News::Read { sock, filter }));
                }
            }
            News::Read { sock, filter } => self.p09_read(sock, &filter),
        }
    }
}

fn durable(runs: &[Run]) -> bool {
    runs.iter().flat_map(|run| &run.retained).any(|kept| kept.durable)
}

fn writes(runs: &[Run], node: NodeId) -> Vec<Write> {
    let of = |run: &Run| {
        let broker = run.broker;
        run.records(node).map(move |(topic, record)| Write { broker, topic, record }).collect::<Vec<_>>()
    };
    runs.iter().flat_map(of).collect()
}
