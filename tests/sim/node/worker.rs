//! The glue of a worker: its mailbox, its turns and what its core tells it to do, as `broker::worker` has it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rookery::broker::core::{
    Admitted, AuthRequest, Batch, ConnKey, Core, Effect, Fetched, Input, Settings, Transport, Via, View, origin,
};
use rookery::mqtt::codec::ReasonCode;
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::handle::{ClaimEvent, FiringWill, Holder, InterestChange, Run, SendError};
use rookery_cluster::ids::{BrokerId, NodeId, NodeLife, WorkerId};
use rookery_cluster::interest::{self, Interest};
use rookery_cluster::metadata::State;

use super::Node;
use super::kept::Asked;
use super::retained::News;
use crate::client::SockId;
use crate::net::Once;
use crate::world::{BROKER, Sabotage, World};

const PROGRESS_EVERY: Duration = Duration::from_millis(250);

pub struct Worker {
    pub core: Core,
    mail: VecDeque<Mail>,
    turn_due: bool,
    /// It does nothing before this.
    pub stalled_until: Duration,
    pub progress: u64,
    /// Claims that go back once a connection is flushed.
    pub releases: BTreeMap<ConnKey, Vec<Effect>>,
    pub socks: BTreeMap<ConnKey, SockId>,
    /// Batches that the store has taken and not on disk.
    pub storing: usize,
    /// Who asked for sessions that are kept here, until the core has answered.
    pub tickets: BTreeMap<u64, (Asked, Once<Fetched>)>,
    pub drains: BTreeMap<u64, Once<()>>,
    pub next_ticket: u64,
}

pub enum Mail {
    Adopt(SockId),
    Authenticated { conn: ConnKey, result: Result<Admitted, ReasonCode> },
    Claim(ClaimEvent),
    Local { from: u16, seq: u64, runs: Vec<Run> },
    LocalAccepted { from: u16, through: u64 },
    Forwarded { origin: u64, workers: Rc<Vec<WorkerId>>, seq: u64, runs: Rc<Vec<Run>>, receipt: u64 },
    Accepted { peer: NodeId, through: u64 },
    Room { peer: NodeId },
    PeerExpired { peer: NodeId },
    Interest { token: u64, changes: Arc<[InterestChange]> },
    Barrier { token: u64, seen: bool },
    Complete,
    Retained(News),
    Asked { asked: Asked, answer: Once<Fetched> },
    Fetched { conn: ConnKey, reply: Fetched },
    Drain { broker: BrokerId, to: Holder, done: Once<()> },
    Will { token: u64, broker: BrokerId, will: FiringWill },
    Recheck,
    Sync(Once<()>),
}

struct Sight<'a> {
    until: Moment,
    wall: UnixMillis,
    meta: &'a State,
}

impl View for Sight<'_> {
    fn serving_until(&self) -> Moment {
        self.until
    }
    fn elsewhere(&self, _: Transport) -> Option<String> {
        None
    }

    fn wall(&self) -> UnixMillis {
        self.wall
    }
    fn admits(&self, admitted: &Admitted) -> Result<(), ReasonCode> {
        let good = rookery::auth::admits(self.meta, admitted.broker, &admitted.jti, None, self.wall);
        good.map_err(|_| ReasonCode::NOT_AUTHORIZED)
    }
}

impl Worker {
    pub fn new(id: u16, life: NodeLife, seed: u64) -> Self {
        Self {
            core: Core::new(WorkerId(id), life, seed),
            mail: VecDeque::new(),
            turn_due: false,
            stalled_until: Duration::ZERO,
            progress: 0,
            releases: BTreeMap::new(),
            socks: BTreeMap::new(),
            storing: 0,
            tickets: BTreeMap::new(),
            drains: BTreeMap::new(),
            next_ticket: 0,
        }
    }
}

impl World {
    /// The worker, if that life still serves.
    pub fn worker(&mut self, life: NodeLife, worker: u16) -> Option<&mut Worker> {
        let node = self.node(life.node);
        if !node.serves_as(life) {
            return None;
        }
        node.broker.as_mut().map(|b| &mut b.workers[usize::from(worker)])
    }

    pub fn start_worker(&mut self, life: NodeLife, worker: u16) {
        self.after(Duration::from_micros(10), move |w| w.tick_worker(life, worker));
    }

    pub fn post(&mut self, life: NodeLife, worker: u16, mail: Mail) {
        if let Some(it) = self.worker(life, worker) {
            it.mail.push_back(mail);
            self.turn_soon(life, worker);
        }
    }

    /// The worker has something to do.
    pub fn turn_soon(&mut self, life: NodeLife, worker: u16) {
        let delay = if self.cfg.dawdle { self.rng.micros(2, 700) } else { self.rng.micros(2, 30) };
        let now = self.now;
        let Some(it) = self.worker(life, worker) else { return };
        if std::mem::replace(&mut it.turn_due, true) {
            return;
        }
        let delay = delay.max(it.stalled_until.saturating_sub(now));
        self.after(delay, move |w| w.turn(life, worker));
    }

    fn stalled(&mut self, life: NodeLife, worker: u16) -> Option<Duration> {
        let now = self.now;
        let left = self.worker(life, worker)?.stalled_until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    fn turn(&mut self, life: NodeLife, worker: u16) {
        if let Some(left) = self.stalled(life, worker) {
            return self.after(left, move |w| w.turn(life, worker));
        }
        // Sockets and mailbox are looked at in any order: what is sent after mail was posted may be read before it.
        let reads_first = self.cfg.dawdle && self.rng.percent(40);
        let Some(it) = self.worker(life, worker) else { return };
        it.turn_due = false;
        let mail = std::mem::take(&mut it.mail);
        if reads_first {
            self.read_socks(life, worker);
        }
        let mut accepted: BTreeMap<u16, u64> = BTreeMap::new();
        for item in mail {
            if let Mail::Local { from, seq, .. } = &item {
                accepted.insert(*from, *seq);
            }
            self.open_mail(life, worker, item);
        }
        for (to, through) in accepted {
            self.post(life, to, Mail::LocalAccepted { from: worker, through });
        }
        self.read_socks(life, worker);
        self.flush(life, worker);
    }

    fn tick_worker(&mut self, life: NodeLife, worker: u16) {
        if let Some(left) = self.stalled(life, worker) {
            return self.after(left, move |w| w.tick_worker(life, worker));
        }
        let Some(it) = self.worker(life, worker) else { return };
        it.progress += 1;
        self.input(life, worker, Input::Tick);
        self.flush(life, worker);
        self.read_socks(life, worker);
        let now = self.local(life.node);
        let Some(it) = self.worker(life, worker) else { return };
        let wait = it.core.next_wakeup().since(now).clamp(Duration::from_millis(1), PROGRESS_EVERY);
        let wait = self.node(life.node).clock.truth_of(wait);
        self.after(wait, move |w| w.tick_worker(life, worker));
    }

    fn open_mail(&mut self, life: NodeLife, worker: u16, mail: Mail) {
        match mail {
            Mail::Adopt(sock) => self.adopt(life, worker, sock),
            Mail::Authenticated { conn, result } => self.input(life, worker, Input::Authenticated { conn, result }),
            Mail::Claim(event) => self.input(life, worker, Input::Claim(event)),
            Mail::Local { from, runs, .. } => {
                let origin = self.known_by(origin(life, WorkerId(from)));
                self.input(life, worker, Input::Forwarded { origin, via: Via::Worker, runs: &runs })
            }
            Mail::LocalAccepted { from, through } => {
                self.input(life, worker, Input::Accepted { from: Holder::Worker(WorkerId(from)), through });
            }
            Mail::Forwarded { origin, runs, workers, seq, receipt } => {
                let origin = self.known_by(origin);
                let wrong = match self.cfg.sabotage {
                    Sabotage::AllServeShares => Some([WorkerId(worker)]),
                    Sabotage::NobodyServesShares => Some([WorkerId(worker + 1)]),
                    _ => None,
                };
                let via = Via::Node { workers: wrong.as_ref().map_or(&workers, |wrong| wrong), seq };
                self.input(life, worker, Input::Forwarded { origin, via, runs: &runs });
                self.receipt(life, receipt);
            }
            Mail::Accepted { peer, through } => {
                self.input(life, worker, Input::Accepted { from: Holder::Peer(peer), through });
            }
            Mail::Room { peer } => self.input(life, worker, Input::Room { to: Holder::Peer(peer) }),
            Mail::PeerExpired { peer } => {
                self.shared_expired();
                self.input(life, worker, Input::Expired { holder: Holder::Peer(peer) });
            }
            Mail::Interest { token, changes } => {
                self.input(life, worker, Input::Interest { token, changes: &changes });
            }
            Mail::Barrier { token, seen } => self.input(life, worker, Input::Barrier { token, seen }),
            Mail::Complete => self.input(life, worker, Input::InterestComplete),
            Mail::Retained(news) => self.retained_news(life, worker, news),
            Mail::Asked { asked, answer } => self.asked(life, worker, asked, answer),
            Mail::Drain { broker, to, done } => self.drain(life, worker, broker, to, done),
            Mail::Fetched { conn, reply } => self.input(life, worker, Input::Fetched { conn, reply }),
            Mail::Will { token, broker, will } => self.open_will(life, worker, token, broker, &will),
            Mail::Recheck => self.input(life, worker, Input::Recheck { broker: Some(BROKER) }),
            Mail::Sync(done) => done.call(self, ()),
        }
    }

    fn known_by(&mut self, origin: u64) -> u64 {
        if self.cfg.sabotage == Sabotage::NoMarks { self.rng.next() >> 16 } else { origin }
    }

    /// One step of the core, and all that follows from it.
    pub fn input(&mut self, life: NodeLife, worker: u16, input: Input<'_>) {
        let effects = self.core_step(life, worker, input);
        self.perform(life, worker, effects);
        self.look_at_dirty(life, worker);
    }

    pub fn core_step(&mut self, life: NodeLife, worker: u16, input: Input<'_>) -> VecDeque<Effect> {
        let (now, wall) = (self.now, self.wall(life.node));
        self.store(life.node);
        let mut out = Vec::new();
        let Node { broker, meta, lease, clock, .. } = self.node(life.node);
        if let Some(broker) = broker.as_mut().filter(|b| b.life == life) {
            let sight = Sight { until: lease.until, wall, meta };
            broker.workers[usize::from(worker)].core.step(clock.now(now), input, &sight, &mut out);
        }
        out.into()
    }

    pub fn flush(&mut self, life: NodeLife, worker: u16) {
        let now = self.local(life.node);
        let Some(it) = self.worker(life, worker) else { return };
        let mut out = Vec::new();
        it.core.flush(now, &mut out);
        self.perform(life, worker, out.into());
        self.look_at_dirty(life, worker);
        if self.worker(life, worker).is_some_and(|it| it.core.has_batches()) {
            self.turn_soon(life, worker);
        }
    }

    pub fn perform(&mut self, life: NodeLife, worker: u16, mut effects: VecDeque<Effect>) {
        while let Some(effect) = effects.pop_front() {
            if let Effect::Send { to: Holder::Peer(peer), batch } = effect {
                effects.extend(self.send_to_peer(life, worker, peer, batch));
            } else {
                self.perform_one(life, worker, effect);
            }
        }
    }

    fn perform_one(&mut self, life: NodeLife, worker: u16, effect: Effect) {
        let node = life.node;
        match effect {
            Effect::Authenticate { conn, request } => self.authenticate(life, worker, conn, *request),
            Effect::Claim(request) => self.claim(node, request),
            Effect::Abandon { broker, client, nonce } => self.abandon_claim(node, broker, client, nonce),
            Effect::Release { broker, client, epoch, nonce, leave, after } => {
                if let Some(home) = leave.keep.and_then(|keep| keep.home) {
                    self.kept_is_named(&client, home.life);
                }
                match after {
                    Some(conn) if self.cfg.sabotage != Sabotage::ReleaseBeforeFlush => {
                        let release = Effect::Release { broker, client, epoch, nonce, leave, after };
                        if let Some(it) = self.worker(life, worker) {
                            it.releases.entry(conn).or_default().push(release);
                        }
                    }
                    _ => self.release_claim(node, broker, client, epoch, nonce, leave),
                }
            }
            Effect::Subscribe { broker, filter, token } => {
                let interest = Interest { broker, filter };
                self.hub(life, interest::Input::Subscribe { worker: WorkerId(worker), interest, token });
            }
            Effect::Unsubscribe { broker, filter } => {
                let interest = Interest { broker, filter };
                self.hub(life, interest::Input::Unsubscribe { worker: WorkerId(worker), interest });
            }
            Effect::InterestSeen { token } => self.interest_seen(life, worker, token),
            Effect::Send { to: Holder::Worker(to), batch } => {
                self.post(life, to.0, Mail::Local { from: worker, seq: batch.seq, runs: batch.runs });
            }
            effect @ (Effect::Persist { .. }
            | Effect::Recall { .. }
            | Effect::Fetch { .. }
            | Effect::Answer { .. }
            | Effect::WillPublished { .. }
            | Effect::WillRefused { .. }
            | Effect::TimeWill { .. }
            | Effect::Drained { .. }) => self.session_effect(life, worker, effect),
            Effect::Send { to: Holder::Store, batch } => self.keep_batch(life, worker, batch),
            Effect::ReadRetained { conn, filter, after, most, .. } => {
                self.read_retained(life, worker, conn, filter, after, most);
            }
            Effect::Send { .. } | Effect::Close { .. } => {}
        }
    }

    fn send_to_peer(&mut self, life: NodeLife, worker: u16, peer: NodeId, batch: Batch) -> VecDeque<Effect> {
        let Batch { seq, runs, bytes } = batch;
        let refused = match self.send_batch(life, worker, peer, runs) {
            Ok(sent) => {
                if sent != seq {
                    self.broken(format!("worker {worker} of {life} and its stream to {peer} count differently"));
                }
                if self.cfg.sabotage == Sabotage::AcceptedWhenSent {
                    self.post(life, worker, Mail::Accepted { peer, through: seq });
                }
                return VecDeque::new();
            }
            Err((SendError::NoCredit, runs)) => {
                Input::NoCredit { to: Holder::Peer(peer), batch: Batch { seq, runs, bytes } }
            }
            Err((SendError::NotLive, _)) => {
                self.shared_expired();
                Input::Expired { holder: Holder::Peer(peer) }
            }
        };
        self.core_step(life, worker, refused)
    }

    /// The token is its own identifier.
    fn authenticate(&mut self, life: NodeLife, worker: u16, conn: ConnKey, request: AuthRequest) {
        let takes = self.rng.micros(100, 4000);
        self.after(takes, move |w| {
            let jti = String::from_utf8_lossy(request.password.as_deref().unwrap_or_default()).into_owned();
            let wall = UnixMillis(w.now.as_millis() as u64);
            let good = rookery::auth::admits(&w.node(life.node).meta, BROKER, &jti, None, wall).is_ok();
            let admitted = || Admitted {
                broker: BROKER,
                client: request.client_id.as_str().into(),
                jti: jti.as_str().into(),
                kid: "a".into(),
                expires: None,
                acl: Arc::new(rookery_cluster::topics::Acl::all()),
                settings: Arc::new(Settings::default()),
            };
            let result = if good { Ok(admitted()) } else { Err(ReasonCode::NOT_AUTHORIZED) };
            w.post(life, worker, Mail::Authenticated { conn, result });
        });
    }

    /// The connection's output is with the socket, or will never be: its claim may go back.
    pub fn flushed(&mut self, life: NodeLife, worker: u16, conn: ConnKey) {
        let Some(it) = self.worker(life, worker) else { return };
        for effect in it.releases.remove(&conn).into_iter().flatten() {
            if let Effect::Release { broker, client, epoch, nonce, leave, .. } = effect {
                self.release_claim(life.node, broker, client, epoch, nonce, leave);
            }
        }
    }
}
