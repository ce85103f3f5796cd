//! The streams of this node's proposals, one a shard (R13): hands them over in order, and brings their outcomes to who
//! waits. What a stream keeps and sends again is decided in `sessions::Outbox`, which is pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::error;

use super::{MAX_RELEASING, MAX_WAITING};
use crate::consensus::{Applied, BoxFuture, ProposeError, SharedConsensus};
use crate::control::SharedMeta;
use crate::ids::{Epoch, GroupId, NodeLife, Sequence};
use crate::limits::{MAX_COMMAND_BYTES, PROPOSAL_QUEUE};
use crate::sessions::{Bounded, Command, Outbox, Outcome, Proposal, Round, Sending, Ticket};

/// Proposals to one shard that are under way at one time; the others wait their turn.
const WINDOW: usize = 1024;
/// Proposals to one shard that may wait their turn; more are refused.
const MAX_QUEUED: usize = MAX_WAITING + MAX_RELEASING;
/// Pause before what was not answered is sent again.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes of a proposal besides what [`bytes_of`] counts, at most.
const PROPOSAL_OVERHEAD: usize = 256;
/// Bytes of one change of a subscription besides its filter, at most.
pub(super) const CHANGE_OVERHEAD: usize = 16;

const _: () = assert!(WINDOW * 2 < PROPOSAL_QUEUE);
const _: () = assert!(PROPOSAL_OVERHEAD < MAX_COMMAND_BYTES);

type Answer = Result<Outcome, ProposeError>;

/// All streams of this node.
pub(super) struct Streams {
    consensus: SharedConsensus,
    meta: SharedMeta,
    runtime: Handle,
    lanes: Mutex<BTreeMap<GroupId, Arc<Lane>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// One stream. Its task is the only one that hands over, so that the order holds.
struct Lane {
    group: GroupId,
    consensus: SharedConsensus,
    meta: SharedMeta,
    outbox: Mutex<Outbox<oneshot::Sender<Answer>>>,
    bell: Notify,
    /// The last epoch that the shard told this node of.
    heard: AtomicU64,
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
        Self { consensus, meta, runtime, lanes: Mutex::default(), tasks: Mutex::default() }
    }

    /// Puts a proposal of `life`, this node's latest or an earlier one, into the stream to `group`.
    pub(super) fn propose<'a>(
        &self,
        life: NodeLife,
        group: GroupId,
        what: Proposal,
        known: &'a mut bool,
    ) -> Result<Pending<'a>, ProposeError> {
        if bytes_of(&what) > MAX_COMMAND_BYTES - PROPOSAL_OVERHEAD {
            return Err(ProposeError::TooLarge);
        }
        let lane = self.lane(group, life);
        let (reply, answer) = oneshot::channel();
        let mut outbox = lane.outbox.lock();
        if outbox.life() < life {
            outbox.renew(life);
        } else if outbox.life() > life {
            return Err(ProposeError::Unavailable);
        }
        let ticket = outbox.push(what, reply).map_err(|_| ProposeError::Unavailable)?;
        drop(outbox);
        lane.bell.notify_one();
        Ok(Pending { lane, ticket, answer, known })
    }

    /// The last epoch that `group` told this node of.
    pub(super) fn heard(&self, group: GroupId) -> Epoch {
        self.lanes.lock().get(&group).map_or(Epoch(0), |lane| Epoch(lane.heard.load(Ordering::Relaxed)))
    }

    /// Stops handing over, as a crash would.
    pub(super) fn stop(&self) {
        self.tasks.lock().abort_all();
    }

    fn lane(&self, group: GroupId, life: NodeLife) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(group).or_insert_with(|| {
            let lane = Arc::new(Lane {
                group,
                consensus: self.consensus.clone(),
                meta: self.meta.clone(),
                outbox: Mutex::new(Outbox::new(life, WINDOW, MAX_QUEUED)),
                bell: Notify::new(),
                heard: AtomicU64::new(0),
            });
            self.tasks.lock().spawn_on(lane.clone().run(), &self.runtime);
            lane
        });
        lane.clone()
    }
}

/// What of a proposal may be long.
fn bytes_of(what: &Proposal) -> usize {
    match what {
        Proposal::Nothing => 0,
        Proposal::Claim { key, will, .. } => key.client.len() + will.as_ref().map_or(0, |will| will.message.len()),
        Proposal::Release { key, .. }
        | Proposal::Abandon { key, .. }
        | Proposal::WillPublished { key, .. }
        | Proposal::WillTimed { key, .. } => key.client.len(),
        Proposal::Subscribe { key, changes, .. } => {
            key.client.len() + changes.iter().map(|(filter, _)| filter.len() + CHANGE_OVERHEAD).sum::<usize>()
        }
        Proposal::Recall { key, after, .. } => key.client.len() + after.as_ref().map_or(0, |after| after.len()),
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
        let unanswered = self.lane.outbox.lock().give_up(self.ticket);
        // Or it was answered, and nobody has looked.
        if unanswered || self.answer.try_recv().is_ok() {
            *self.known = true;
        }
    }
}

/// What became of something that was handed over.
struct Done {
    round: Round,
    number: Sequence,
    answer: Result<Applied, ProposeError>,
}

type Flying = FuturesUnordered<BoxFuture<'static, Done>>;

impl Lane {
    /// Runs for ever.
    async fn run(self: Arc<Self>) {
        let (mut flying, mut round) = (Flying::new(), Round::default());
        loop {
            let failed = self.hand_over(&mut flying, &mut round) || {
                tokio::select! {
                    () = self.bell.notified() => false,
                    Some(done) = flying.next(), if !flying.is_empty() => self.settle(done),
                }
            };
            if failed {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Hands over all that may be; whether that failed.
    fn hand_over(&self, flying: &mut Flying, round: &mut Round) -> bool {
        loop {
            let Some(sending) = self.outbox.lock().send() else { return false };
            if sending.round != *round {
                // Everything is sent again: nobody needs the answers to earlier copies.
                flying.clear();
                *round = sending.round;
            }
            let sending = Sending { command: self.bounded(sending.command), ..sending };
            let mut attempt = attempt(self.consensus.clone(), self.group, sending).boxed();
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

    /// Brings an answer to who waits for it. Whether a new round begins that must not begin at once.
    fn settle(&self, Done { round, number, answer }: Done) -> bool {
        let outcome = answer.and_then(|applied| {
            Outcome::decode(&applied.outcome).map_err(|why| ProposeError::Stopped(why.to_string()))
        });
        match outcome {
            Ok(outcome) => {
                if let Outcome::Granted { epoch, .. }
                | Outcome::GrantedSession { epoch, .. }
                | Outcome::Outdated { epoch } = outcome
                {
                    self.heard.fetch_max(epoch.0, Ordering::Relaxed);
                }
                let answered = self.outbox.lock().answered(round, number, outcome);
                if let Some((waiter, outcome)) = answered {
                    let _gone = waiter.send(Ok(outcome));
                }
                false
            }
            Err(ProposeError::Unavailable | ProposeError::Unknown) => self.outbox.lock().failed(round),
            Err(why @ (ProposeError::TooLarge | ProposeError::Stopped(_))) => {
                let mut outbox = self.outbox.lock();
                let (failed, waiters) = (outbox.failed(round), outbox.give_up_all());
                drop(outbox);
                if failed {
                    error!(group = %self.group, %why, "a shard takes no proposals of this node");
                }
                waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(why.clone()))));
                failed
            }
        }
    }
}

async fn attempt(consensus: SharedConsensus, group: GroupId, Sending { round, number, command }: Sending) -> Done {
    Done { round, number, answer: consensus.propose(group, command.encode()).await }
}
