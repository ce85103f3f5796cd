//! The streams of this node's proposals, one a shard (R13): hands them over in order, and brings their outcomes to who
//! waits. What a stream keeps and sends again is decided in `sessions::Outbox`, which is pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::error;

use super::beat::{Beat, EVERY, OnBeat};
use super::registry::Haste;
use super::sizes::{PROPOSAL_OVERHEAD, bytes_of};
use super::{MAX_RELEASING, MAX_WAITING};
use crate::consensus::{BoxFuture, ProposeError, SharedConsensus};
use crate::control::SharedMeta;
use crate::ids::{Epoch, GroupId, NodeLife, Sequence};
use crate::limits::{CLAIM_RESEND, MAX_COMMAND_BYTES, MAX_ENTRY_COMMANDS, PROPOSAL_QUEUE, PROPOSE_TOGETHER_BYTES};
use crate::sessions::{Bounded, Command, Outbox, Outcome, Proposal, Round, Sending, Ticket};

/// Proposals to one shard that are under way at one time; the others wait their turn.
const WINDOW: usize = 1024;
/// Proposals to one shard that may wait their turn; more are refused.
const MAX_QUEUED: usize = MAX_WAITING + MAX_RELEASING;
/// Pause before what was not answered is sent again.
const RETRY: Duration = Duration::from_millis(50);
/// How long what nobody waits for may lie before it is handed over.
pub(super) const LINGER: Duration = Duration::from_millis(10);
const _: () = assert!(WINDOW * 2 < PROPOSAL_QUEUE);
const _: () = assert!(EVERY.as_millis() < LINGER.as_millis());
const _: () = assert!(LINGER.as_millis() * 10 < CLAIM_RESEND.as_millis());

pub(super) type Answer = Result<Outcome, ProposeError>;

/// Is told a proposal's outcome once, or dropped with the node. Must not wait.
pub(super) type Waiter = Box<dyn FnOnce(Answer) + Send>;

/// All streams of this node.
pub(super) struct Streams {
    consensus: SharedConsensus,
    meta: SharedMeta,
    beat: Arc<Beat<Lane>>,
    runtime: Handle,
    lanes: Mutex<BTreeMap<GroupId, Arc<Lane>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// One stream. Its task is the only one that hands over, so that the order holds.
struct Lane {
    group: GroupId,
    consensus: SharedConsensus,
    meta: SharedMeta,
    beat: Arc<Beat<Lane>>,
    desk: Mutex<Desk>,
    bell: Notify,
    /// The last epoch that the shard told this node of.
    heard: AtomicU64,
}

/// What a stream has to hand over, and how soon.
struct Desk {
    outbox: Outbox<Waiter>,
    in_haste: bool,
    /// The beat will call, and has called.
    waits: bool,
    called: bool,
    /// Something that is not in haste lies there.
    lingers: bool,
    /// Nothing is under way: the stream's task waits to be told of more, and looks by itself otherwise.
    idle: bool,
}

/// What a stream does next.
enum Next {
    HandOver,
    /// At the next beat.
    OnBeat,
    /// Within [`LINGER`], if nothing happens before.
    Linger,
    Wait,
}

/// A proposal under way. Dropped before its outcome is known, it is given up: `known` says then whether the shard may
/// have taken it.
pub(super) struct Pending<'a> {
    lane: Arc<Lane>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer>,
    known: &'a mut bool,
}

impl Streams {
    /// Streams whose tasks run on `runtime`.
    pub(super) fn new(consensus: SharedConsensus, meta: SharedMeta, runtime: Handle) -> Self {
        let (beat, mut tasks) = (Arc::new(Beat::new()), JoinSet::new());
        tasks.spawn_on(beat.clone().run(), &runtime);
        Self { consensus, meta, beat, runtime, lanes: Mutex::default(), tasks: Mutex::new(tasks) }
    }

    /// Puts a proposal of `life`, this node's latest or an earlier one, into the stream to `group`.
    pub(super) fn propose<'a>(
        &self,
        life: NodeLife,
        group: GroupId,
        what: Proposal,
        known: &'a mut bool,
    ) -> Result<Pending<'a>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let waiter = Box::new(move |outcome| drop(reply.send(outcome)));
        let (lane, ticket) = self.submit(life, group, what, Haste::Now, waiter)?;
        Ok(Pending { lane, ticket, answer, known })
    }

    /// As [`Streams::propose`], for who waits for the outcome however long that takes. After an error `waiter` is told
    /// nothing.
    pub(super) fn entrust(
        &self,
        life: NodeLife,
        group: GroupId,
        what: Proposal,
        haste: Haste,
        waiter: Waiter,
    ) -> Result<Ticket, ProposeError> {
        self.submit(life, group, what, haste, waiter).map(|(_, ticket)| ticket)
    }

    /// Takes an entrusted proposal back: its waiter is told nothing, unless it is being told just now. Whether the shard
    /// may have taken it, or still may.
    pub(super) fn take_back(&self, group: GroupId, ticket: Ticket) -> bool {
        let lane = self.lanes.lock().get(&group).cloned();
        lane.is_some_and(|lane| lane.desk.lock().outbox.give_up(ticket))
    }

    fn submit(
        &self,
        life: NodeLife,
        group: GroupId,
        what: Proposal,
        haste: Haste,
        waiter: Waiter,
    ) -> Result<(Arc<Lane>, Ticket), ProposeError> {
        if bytes_of(&what) > MAX_COMMAND_BYTES - PROPOSAL_OVERHEAD {
            return Err(ProposeError::TooLarge);
        }
        let lane = self.lane(group, life);
        let mut desk = lane.desk.lock();
        let mut void = Vec::new();
        if desk.outbox.life() < life {
            void = desk.outbox.give_up_all();
            desk.outbox.renew(life);
        } else if desk.outbox.life() > life {
            return Err(ProposeError::Unavailable);
        }
        let pushed = desk.outbox.push(what, waiter).map_err(|_| ProposeError::Unavailable);
        if pushed.is_ok() {
            lane.note(desk, haste);
        } else {
            drop(desk);
        }
        void.into_iter().for_each(|waiter| waiter(Err(ProposeError::Unknown)));
        pushed.map(|ticket| (lane, ticket))
    }

    /// Hands over what lies there for `group`: somebody waits for it by now.
    pub(super) fn hurry(&self, group: GroupId) {
        let Some(lane) = self.lanes.lock().get(&group).cloned() else { return };
        let desk = lane.desk.lock();
        lane.note(desk, Haste::Now);
    }

    /// The last epoch that `group` told this node of.
    pub(super) fn heard(&self, group: GroupId) -> Epoch {
        self.lanes.lock().get(&group).map_or(Epoch(0), |lane| Epoch(lane.heard.load(Ordering::Relaxed)))
    }

    /// Stops handing over, as a crash would. Who waits is told nothing.
    pub(super) fn stop(&self) {
        self.tasks.lock().abort_all();
        for lane in self.lanes.lock().values() {
            let void = lane.desk.lock().outbox.give_up_all();
            drop(void);
        }
    }

    fn lane(&self, group: GroupId, life: NodeLife) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(group).or_insert_with(|| {
            let outbox = Outbox::new(life, WINDOW, MAX_QUEUED);
            let lane = Arc::new(Lane {
                group,
                consensus: self.consensus.clone(),
                meta: self.meta.clone(),
                beat: self.beat.clone(),
                desk: Mutex::new(Desk {
                    outbox,
                    in_haste: false,
                    waits: false,
                    called: false,
                    lingers: false,
                    idle: true,
                }),
                bell: Notify::new(),
                heard: AtomicU64::new(0),
            });
            self.tasks.lock().spawn_on(lane.clone().run(), &self.runtime);
            lane
        });
        lane.clone()
    }
}

impl Pending<'_> {
    /// Waits until the proposal is committed, however long that takes. `Unknown` if the life that proposed it is over.
    pub(super) async fn outcome(&mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Err(ProposeError::Unknown))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let unanswered = self.lane.desk.lock().outbox.give_up(self.ticket);
        // Or it was answered, and nobody has looked.
        if unanswered || self.answer.try_recv().is_ok() {
            *self.known = true;
        }
    }
}

/// Proposals that are handed over together.
struct Together {
    round: Round,
    numbers: Vec<Sequence>,
    commands: Vec<Bytes>,
}

/// What became of some that were handed over together.
struct Done {
    round: Round,
    numbers: Vec<Sequence>,
    answer: Result<Vec<Bytes>, ProposeError>,
}

type Flying = FuturesUnordered<BoxFuture<'static, Done>>;

impl OnBeat for Lane {
    fn beat(&self) {
        let mut desk = self.desk.lock();
        (desk.waits, desk.called) = (false, desk.in_haste);
        drop(desk);
        self.bell.notify_one();
    }
}

impl Lane {
    /// Something is there to be handed over that soon. The stream's task looks by itself when what is under way has ended.
    fn note(self: &Arc<Self>, mut desk: MutexGuard<'_, Desk>, haste: Haste) {
        match haste {
            Haste::Now => {
                desk.in_haste = true;
                let call = desk.idle && !desk.called && !std::mem::replace(&mut desk.waits, true);
                drop(desk);
                if call {
                    self.beat.call(self.clone());
                }
            }
            Haste::Lazy => {
                let wakes = !std::mem::replace(&mut desk.lingers, true) && desk.idle;
                drop(desk);
                if wakes {
                    self.bell.notify_one();
                }
            }
        }
    }

    /// Runs for ever. What comes while something is under way gathers, and is handed over together.
    async fn run(self: Arc<Self>) {
        let (mut flying, mut round) = (Flying::new(), Round::default());
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        let mut lingering = false;
        loop {
            match self.look(flying.is_empty(), round) {
                Next::HandOver => {
                    lingering = false;
                    if self.hand_over(&mut flying, &mut round) {
                        tokio::time::sleep(RETRY).await;
                    }
                    continue;
                }
                Next::OnBeat => self.beat.call(self.clone()),
                Next::Linger if !lingering => {
                    lingering = true;
                    linger.set(tokio::time::sleep(LINGER));
                }
                Next::Linger | Next::Wait => {}
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = &mut linger, if lingering => {
                    lingering = false;
                    self.desk.lock().in_haste = true;
                }
                Some(done) = flying.next(), if !flying.is_empty() => if self.settle(done) {
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// What is next, where `idle` says that nothing is under way.
    fn look(&self, idle: bool, round: Round) -> Next {
        let mut desk = self.desk.lock();
        desk.idle = idle;
        if idle && desk.in_haste && desk.called || desk.outbox.round() != round {
            Next::HandOver
        } else if idle && desk.in_haste && !std::mem::replace(&mut desk.waits, true) {
            Next::OnBeat
        } else if desk.lingers {
            Next::Linger
        } else {
            Next::Wait
        }
    }

    /// Hands over all that may be; whether that failed.
    fn hand_over(&self, flying: &mut Flying, round: &mut Round) -> bool {
        {
            let mut desk = self.desk.lock();
            (desk.in_haste, desk.called, desk.lingers, desk.idle) = (false, false, false, false);
        }
        while let Some(together) = self.take() {
            if together.round != *round {
                // Everything is sent again: nobody needs the answers to earlier copies.
                flying.clear();
                *round = together.round;
            }
            let mut attempt = attempt(self.consensus.clone(), self.group, together).boxed();
            // Consensus keeps the order in which it is first asked.
            match (&mut attempt).now_or_never() {
                Some(done) => {
                    if self.settle(done) {
                        return true;
                    }
                }
                None => flying.push(attempt),
            }
        }
        false
    }

    /// What begins a session or lets it grow says how much the shard may hold of its broker.
    fn bounded(&self, command: Command) -> Command {
        let Command::Numbered(numbered) = command else { return command };
        let within = match &numbered.what {
            Proposal::Claim { key, session_expiry: 1.., .. } | Proposal::Subscribe { key, .. } => {
                self.meta.within(key.broker)
            }
            _ => None,
        };
        match within {
            Some(within) => Command::Bounded(Bounded { numbered, within }),
            None => Command::Numbered(numbered),
        }
    }

    /// The next to be handed over: what goes into one entry. What finds the window full is in haste when it has room.
    fn take(&self) -> Option<Together> {
        let mut desk = self.desk.lock();
        let mut together = Together { round: desk.outbox.round(), numbers: Vec::new(), commands: Vec::new() };
        let mut bytes = 0;
        while together.numbers.len() < MAX_ENTRY_COMMANDS && bytes <= PROPOSE_TOGETHER_BYTES {
            let Some(Sending { number, command, .. }) = desk.outbox.send() else { break };
            let command = self.bounded(command).encode();
            bytes += command.len();
            together.numbers.push(number);
            together.commands.push(command);
        }
        if together.numbers.is_empty() {
            desk.in_haste |= desk.outbox.has_unsent();
            return None;
        }
        Some(together)
    }

    /// Brings answers to who waits for them. Whether a new round begins that must not begin at once.
    fn settle(&self, Done { round, numbers, answer }: Done) -> bool {
        let decoded = |outcome: &Bytes| Outcome::decode(outcome).map_err(|why| ProposeError::Stopped(why.to_string()));
        match answer.and_then(|outcomes| outcomes.iter().map(decoded).collect::<Result<Vec<_>, _>>()) {
            Ok(outcomes) => {
                let mut desk = self.desk.lock();
                let answered = numbers.into_iter().zip(outcomes).filter_map(|(number, outcome)| {
                    self.hear(&outcome);
                    desk.outbox.answered(round, number, outcome)
                });
                let answered: Vec<_> = answered.collect();
                drop(desk);
                answered.into_iter().for_each(|(waiter, outcome)| waiter(Ok(outcome)));
                false
            }
            Err(ProposeError::Unavailable | ProposeError::Unknown) => self.desk.lock().outbox.failed(round),
            Err(why @ (ProposeError::TooLarge | ProposeError::Stopped(_))) => {
                let mut desk = self.desk.lock();
                let (failed, waiters) = (desk.outbox.failed(round), desk.outbox.give_up_all());
                drop(desk);
                if failed {
                    error!(group = %self.group, %why, "a shard takes no proposals of this node");
                }
                waiters.into_iter().for_each(|waiter| waiter(Err(why.clone())));
                failed
            }
        }
    }

    fn hear(&self, outcome: &Outcome) {
        if let Outcome::Granted { epoch, .. } | Outcome::GrantedSession { epoch, .. } | Outcome::Outdated { epoch } =
            outcome
        {
            self.heard.fetch_max(epoch.0, Ordering::Relaxed);
        }
    }
}

async fn attempt(consensus: SharedConsensus, group: GroupId, Together { round, numbers, commands }: Together) -> Done {
    Done { round, numbers, answer: consensus.propose_all(group, commands).await }
}
