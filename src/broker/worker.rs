//! A worker: one thread, one current-thread runtime, its sockets and its [`Core`]. Performs what the core decides.

mod handover;
mod loops;
mod mail;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::clock::{Moment, SharedClock};
use rookery_cluster::handle::{Holder, SendError};
use rookery_cluster::ids::{NodeId, NodeLife, WorkerId};
use tokio::runtime::LocalOptions;

use self::loops::{drain, flusher, ticker};
use self::mail::sweep;
use super::Accountant;
use super::Services;
use super::core::{Batch, ConnKey, Core, Effect, Input, Stats, Usage};
use super::mailbox::{Answer, Drained, LocalBatch, Mail, Mailbox};
use super::retained::Keeper;

/// What a worker is started with.
pub struct WorkerConfig {
    /// Which one.
    pub id: WorkerId,
    /// The node's life.
    pub life: NodeLife,
    /// The rest of the node.
    pub services: Arc<dyn Services>,
    /// The mailboxes of all workers of the node, this one's included, by id.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Time.
    pub clock: SharedClock,
    /// Secret of topic hashing.
    pub seed: u64,
    /// Adds up what this worker and its siblings keep.
    pub accountant: Arc<Accountant>,
    /// Counted up at least once per `PROGRESS_EVERY`: proof that the worker lives (R4).
    pub progress: Arc<AtomicU64>,
}

/// How often a worker without work shows that it lives; small against `limits::LEASE_RENEW_EVERY`.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// A running worker.
pub struct Worker {
    mailbox: Arc<Mailbox>,
    stats: Arc<Mutex<(Stats, usize)>>,
    thread: Option<JoinHandle<()>>,
}

/// A worker's counters and its number of connections, as of a moment ago. Cheap to clone.
#[derive(Clone)]
pub struct WorkerStats(Arc<Mutex<(Stats, usize)>>);

impl WorkerStats {
    /// Reads them.
    pub fn read(&self) -> (Stats, usize) {
        self.0.lock().clone()
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(config: WorkerConfig) -> io::Result<Self> {
        let mailbox = config.mailboxes[usize::from(config.id.0)].clone();
        let stats = Arc::new(Mutex::new((Stats::default(), 0)));
        let published = stats.clone();
        // Its runtime cannot leave the thread, so it is made there.
        let (tell, made) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("worker-{}", config.id)).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    drop(tell);
                    runtime.block_on(run(config, published));
                }
                // Who asked waits for it.
                Err(error) => drop(tell.send(error)),
            }
        })?;
        match made.recv() {
            Ok(error) => Err(error),
            Err(mpsc::RecvError) => Ok(Self { mailbox, stats, thread: Some(thread) }),
        }
    }

    /// Its mailbox.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Where its counters are read.
    pub fn stats(&self) -> WorkerStats {
        WorkerStats(self.stats.clone())
    }

    /// Waits for the thread after [`Mail::Stop`].
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker panicked");
        }
    }
}

/// What the tasks of one worker share. All on one thread: borrows are short and never held over an await.
pub(super) struct Shared {
    pub core: RefCell<Core>,
    pub buffer: RefCell<Vec<u8>>,
    effects: RefCell<Vec<Effect>>,
    dirty: RefCell<Vec<ConnKey>>,
    usage: RefCell<Vec<Usage>>,
    wakers: RefCell<BTreeMap<ConnKey, Waker>>,
    releases: RefCell<BTreeMap<ConnKey, Vec<Effect>>>,
    flusher: RefCell<Option<Waker>>,
    flush_due: Cell<bool>,
    /// Who asked for sessions that are kept here, until the core has answered, which it does at once.
    tickets: RefCell<BTreeMap<u64, Answer>>,
    /// Who waits until a destination is drained: at most `MAX_DRAINS`.
    drains: RefCell<BTreeMap<u64, Drained>>,
    next_ticket: Cell<u64>,
    /// Batches that the store has taken and not on disk.
    pub(super) storing: Cell<usize>,
    pub(super) config: WorkerConfig,
}

impl Shared {
    /// One step of the core, and all that follows from it.
    pub fn step(&self, input: Input<'_>) {
        let now = self.config.clock.now();
        {
            let mut effects = self.effects.borrow_mut();
            self.core.borrow_mut().step(now, input, self.config.services.view(), &mut effects);
        }
        self.perform();
        self.schedule_flush();
    }

    fn perform(&self) {
        loop {
            let effects = std::mem::take(&mut *self.effects.borrow_mut());
            if effects.is_empty() {
                break;
            }
            for effect in self.keep_retained(effects) {
                self.perform_one(effect);
            }
        }
        self.wake_dirty();
        self.settle();
    }

    /// Tells the node's accountant what it must know.
    pub fn settle(&self) {
        let mut core = self.core.borrow_mut();
        if !core.has_usage() {
            return;
        }
        let mut usage = self.usage.borrow_mut();
        core.take_usage(&mut usage);
        for usage in usage.drain(..) {
            core.account_stands(usage.broker, self.config.accountant.report(self.config.id, usage));
        }
    }

    pub(super) fn perform_one(&self, effect: Effect) {
        let services = &self.config.services;
        let worker = self.config.id;
        match effect {
            Effect::Authenticate { conn, request } => match services.recognise(&request) {
                Some(admitted) => self.go_on(Input::Authenticated { conn, result: Ok(admitted) }),
                None => services.clone().authenticate(self.mailbox(), conn, *request),
            },
            Effect::Claim(request) => services.claim(request),
            Effect::Abandon { broker, client, nonce } => services.abandon(broker, client, nonce),
            Effect::Release { broker, client, epoch, nonce, leave, after: None } => {
                services.release(broker, client, epoch, nonce, leave);
            }
            Effect::Release { after: Some(conn), .. } => {
                self.releases.borrow_mut().entry(conn).or_default().push(effect);
            }
            Effect::Subscribe { broker, filter, token } => services.subscribe(worker, broker, filter, token),
            Effect::Unsubscribe { broker, filter } => services.unsubscribe(worker, broker, filter),
            Effect::InterestSeen { token } => services.interest_seen(worker, token),
            Effect::Send { to: Holder::Worker(to), batch } => {
                let mail = Mail::Local(LocalBatch { from: worker, seq: batch.seq, runs: batch.runs });
                self.config.mailboxes[usize::from(to.0)].post(mail);
            }
            Effect::Send { to: Holder::Peer(peer), batch } => self.send(peer, batch),
            Effect::Send { to: Holder::Store, batch } => self.keep_batch(Vec::new(), batch),
            Effect::ReadRetained { conn, broker, filter, after, most } => {
                self.read_retained(conn, broker, filter, after, most);
            }
            Effect::Close { conn } => self.wake(conn),
            Effect::Persist { broker, client, epoch, nonce, token, changes } => {
                services.persist(broker, client, epoch, nonce, token, changes);
            }
            Effect::Recall { broker, client, nonce } => services.clone().recall(worker, broker, client, nonce),
            Effect::Fetch { conn, home, asked } => self.fetch(conn, home, asked),
            Effect::Answer { ticket, reply } => {
                if let Some(answer) = self.tickets.borrow_mut().remove(&ticket) {
                    answer(reply);
                }
            }
            Effect::Drained { ticket } => {
                if let Some(answer) = self.drains.borrow_mut().remove(&ticket) {
                    answer(true);
                }
            }
            Effect::TimeWill { token, time } => services.will_timed(token, time),
            Effect::WillPublished { token } => services.will_published(token),
            Effect::WillRefused { token } => services.will_refused(token),
        }
    }

    fn send(&self, peer: NodeId, batch: Batch) {
        let to = Holder::Peer(peer);
        let refused = if self.core.borrow().has_credit(to) {
            let Batch { seq, runs, bytes } = batch;
            match self.config.services.send(self.config.id, peer, runs) {
                Ok(sent) => {
                    // Core and stream count batches alike; if they ever differ, acknowledgements would be wrong.
                    if sent != seq {
                        tracing::error!(peer = %peer, sent, seq, "batch numbers differ");
                    }
                    return;
                }
                Err((SendError::NoCredit, runs)) => Input::NoCredit { to, batch: Batch { seq, runs, bytes } },
                Err((SendError::NotLive, _)) => Input::Expired { holder: to },
            }
        } else {
            Input::NoCredit { to, batch }
        };
        self.go_on(refused);
    }

    /// A step of the core that an effect leads to at once: its own effects are performed after those of the first.
    fn go_on(&self, input: Input<'_>) {
        let now = self.config.clock.now();
        let mut effects = self.effects.borrow_mut();
        self.core.borrow_mut().step(now, input, self.config.services.view(), &mut effects);
    }

    /// The connection's output is with the socket, or will never be: its claim may go back.
    pub fn flushed(&self, conn: ConnKey) {
        for effect in self.releases.borrow_mut().remove(&conn).into_iter().flatten() {
            if let Effect::Release { broker, client, epoch, nonce, leave, .. } = effect {
                self.config.services.release(broker, client, epoch, nonce, leave);
            }
        }
    }

    /// Remembers how to wake a connection's task.
    pub fn register(&self, conn: ConnKey, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if wakers.get(&conn).is_none_or(|known| !known.will_wake(waker)) {
            wakers.insert(conn, waker.clone());
        }
    }

    /// The connection's task ends.
    pub fn forget(&self, conn: ConnKey) {
        self.flushed(conn);
        self.wakers.borrow_mut().remove(&conn);
        self.step(Input::Closed { conn });
        self.flushed(conn);
    }

    fn wake(&self, conn: ConnKey) {
        if let Some(waker) = self.wakers.borrow().get(&conn) {
            waker.wake_by_ref();
        }
    }

    fn wake_dirty(&self) {
        let mut dirty = self.dirty.borrow_mut();
        self.core.borrow_mut().take_dirty(&mut dirty);
        let wakers = self.wakers.borrow();
        for conn in dirty.drain(..) {
            if let Some(waker) = wakers.get(&conn) {
                waker.wake_by_ref();
            }
        }
    }

    /// What goes to other workers and nodes leaves when the tasks that are ready now have run: the flusher is
    /// queued behind them.
    pub(super) fn schedule_flush(&self) {
        if self.core.borrow().has_batches()
            && !self.flush_due.replace(true)
            && let Some(waker) = self.flusher.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    pub(super) fn flush(&self) {
        let now = self.config.clock.now();
        self.core.borrow_mut().flush(now, &mut self.effects.borrow_mut());
        self.perform();
        self.schedule_flush();
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.config.clock.now()
    }

    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        self.config.mailboxes[usize::from(self.config.id.0)].clone()
    }
}

/// Bytes that one read takes at most.
const READ_BYTES: usize = 128 << 10;

async fn run(config: WorkerConfig, stats: Arc<Mutex<(Stats, usize)>>) {
    let mut core = Core::new(config.id, config.life, config.seed);
    core.share_quota(config.services.quota());
    if let Some(bulletin) = config.services.bulletin() {
        core.publish_figures(bulletin);
    }
    if let Some(keeper) = Keeper::of(&config) {
        core.retain(Arc::new(keeper));
    }
    let shared = Rc::new(Shared {
        core: RefCell::new(core),
        buffer: RefCell::new(vec![0; READ_BYTES]),
        effects: RefCell::default(),
        dirty: RefCell::default(),
        usage: RefCell::default(),
        wakers: RefCell::default(),
        releases: RefCell::default(),
        flusher: RefCell::default(),
        flush_due: Cell::new(false),
        tickets: RefCell::default(),
        drains: RefCell::default(),
        next_ticket: Cell::new(0),
        storing: Cell::new(0),
        config,
    });
    spawn(flusher(shared.clone()));
    spawn(ticker(shared.clone(), stats));
    let mut mail = Vec::new();
    loop {
        shared.mailbox().collect(&mut mail).await;
        if let Some(stop) = sweep(&shared, &mut mail) {
            shared.step(Input::CloseAll { reason: stop });
            drain(&shared).await;
            return;
        }
        if !shared.mailbox().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tasks of a worker live and die with its runtime")]
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}
