//! Collects the proposals of one group into entries, and brings each entry to the group's leader.
//!
//! A lone proposal leaves at once; while entries are in flight the others gather. Entries leave in the order
//! of the proposals. An entry that was certainly not written is tried again until its callers give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::consensus::ProposeError;
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::limits::{MAX_ENTRY_BYTES, MAX_ENTRY_COMMANDS, PROPOSAL_QUEUE, PROPOSE_TIMEOUT};
use rookery_cluster::net::Purpose;
use rookery_proto::raft::CallKind;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::codec::COMMAND_OVERHEAD;
use crate::net::link::{Answering, CallError};
use crate::net::wire::{self, Answer};
use crate::peers::Peers;
use crate::replica::{self, Replica, Standing};
use crate::route::Route;

/// Entries of one group that are under way from this node.
const IN_FLIGHT: usize = 4;
/// Between two tries of what was not written.
const RETRY: Duration = Duration::from_millis(20);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

struct Proposal {
    /// Those of one caller, which belong into one entry and fit into it.
    commands: Vec<Bytes>,
    /// Queued, sent (it may have been written) or given up by its caller.
    phase: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Written, ProposeError>>,
}

/// Where an entry is in the log, and what its commands came to.
pub(crate) type Written = (LogIndex, Vec<Bytes>);

impl Proposal {
    /// Bytes that it needs in an entry.
    fn size(&self) -> usize {
        self.commands.iter().map(|command| command.len() + COMMAND_OVERHEAD).sum()
    }

    /// From now on it may have been written. False if the caller gave up before.
    fn send(&self) -> bool {
        self.phase.compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire) != Err(GIVEN_UP)
    }
}

/// Where proposals of one group go in. Dropping it ends the task.
pub(crate) struct Batcher {
    queue: mpsc::Sender<Proposal>,
}

impl Batcher {
    pub(crate) fn start(
        runtime: &Handle,
        group: GroupId,
        replica: Option<Replica>,
        route: Arc<Route>,
        peers: Peers,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSAL_QUEUE);
        runtime.spawn(Arc::new(Way { group, replica, route, peers }).run(waiting));
        Self { queue }
    }

    /// Proposes commands that fit into one entry, and waits for their outcomes.
    pub(crate) async fn propose(&self, commands: Vec<Bytes>) -> Result<Written, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        let phase = Arc::new(AtomicU8::new(QUEUED));
        let proposal = Proposal { commands, phase: phase.clone(), reply };
        self.queue.try_send(proposal).map_err(|_| ProposeError::Unavailable)?;
        match timeout(PROPOSE_TIMEOUT, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // Whoever changes the phase first decides: what was given up is never sent later.
            _ => match phase.compare_exchange(QUEUED, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => Err(ProposeError::Unavailable),
                Err(_) => Err(ProposeError::Unknown),
            },
        }
    }
}

/// How entries of one group get to its leader.
struct Way {
    group: GroupId,
    replica: Option<Replica>,
    route: Arc<Route>,
    peers: Peers,
}

/// An entry handed over.
enum Handed {
    Here(replica::Written),
    There(NodeId, Answering),
    /// Not handed over.
    Nowhere,
    Stopped(ProposeError),
}

impl Way {
    async fn run(self: Arc<Self>, mut waiting: mpsc::Receiver<Proposal>) {
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut spare = None;
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let first = match spare.take() {
                Some(first) => first,
                None => match waiting.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut entry = collect(first, &mut waiting, &mut spare);
            let handed = self.hand_over(&mut entry).await;
            #[expect(clippy::disallowed_methods, reason = "holds a permit, and ends with the entry's answer")]
            tokio::spawn(self.clone().finish(entry, handed, permit));
        }
    }

    /// Hands the entry to the leader, here or elsewhere. Leaves out what callers have given up.
    async fn hand_over(&self, entry: &mut Vec<Proposal>) -> Handed {
        entry.retain(|proposal| !proposal.reply.is_closed() && proposal.send());
        if entry.is_empty() {
            return Handed::Nowhere;
        }
        let commands: Vec<Bytes> = entry.iter().flat_map(|p| p.commands.iter().cloned()).collect();
        let leader = match &self.replica {
            Some(replica) => match replica.standing() {
                Standing::Stopped(why) => return Handed::Stopped(ProposeError::Stopped(why)),
                Standing::Leads => {
                    return replica.write(commands).await.map_or_else(Handed::Stopped, Handed::Here);
                }
                // A node that has just joined holds an empty replica, which knows nobody: the members it joined through
                // know the leader. Whoever is asked answers for itself, nothing is forwarded twice.
                Standing::Follows(leader) => self.route.leader_or(leader),
            },
            None => self.route.leader(),
        };
        let Some(leader) = leader else { return Handed::Nowhere };
        let link = self.peers.link(leader, Purpose::Control);
        Handed::There(leader, link.call(self.group, CallKind::Propose, wire::propose_to_bytes(&commands), false))
    }

    /// Waits for what became of the entry and answers its callers, or tries again.
    async fn finish(self: Arc<Self>, mut entry: Vec<Proposal>, mut handed: Handed, _permit: OwnedSemaphorePermit) {
        while !entry.is_empty() {
            let answer = match handed {
                Handed::Here(written) => written.answer().await,
                Handed::There(peer, answering) => self.answer_of(peer, answering).await,
                Handed::Nowhere => Answer::NotLeader(None),
                Handed::Stopped(error) => return refuse(entry, &error),
            };
            match answer {
                Answer::Done(index, outcomes) => return fan_out(entry, LogIndex(index), outcomes),
                Answer::Unknown => return refuse(entry, &ProposeError::Unknown),
                Answer::NotLeader(_) => {
                    entry.iter().for_each(|p| p.phase.store(QUEUED, Ordering::Release));
                    sleep(RETRY).await;
                    handed = self.hand_over(&mut entry).await;
                }
            }
        }
    }

    async fn answer_of(&self, peer: NodeId, answering: Answering) -> Answer {
        let answer = match answering.within(PROPOSE_TIMEOUT).await {
            Ok(body) => wire::answer_from_bytes(&body).unwrap_or(Answer::Unknown),
            Err(CallError::Lost(_)) => Answer::Unknown,
            Err(CallError::NotSent(_) | CallError::Refused(..)) => Answer::NotLeader(None),
        };
        match &answer {
            Answer::NotLeader(hint) => self.route.missed(peer, hint.map(NodeId)),
            Answer::Unknown => self.route.missed(peer, None),
            Answer::Done(..) => self.route.found(peer),
        }
        answer
    }
}

/// Takes what is waiting, as far as it fits into one entry; `spare` is what did not.
fn collect(first: Proposal, waiting: &mut mpsc::Receiver<Proposal>, spare: &mut Option<Proposal>) -> Vec<Proposal> {
    let (mut size, mut commands) = (first.size(), first.commands.len());
    let mut entry = vec![first];
    while commands < MAX_ENTRY_COMMANDS {
        let Ok(next) = waiting.try_recv() else { break };
        size += next.size();
        commands += next.commands.len();
        if size > MAX_ENTRY_BYTES || commands > MAX_ENTRY_COMMANDS {
            *spare = Some(next);
            break;
        }
        entry.push(next);
    }
    entry
}

fn fan_out(entry: Vec<Proposal>, index: LogIndex, outcomes: Vec<Bytes>) {
    let commands: usize = entry.iter().map(|p| p.commands.len()).sum();
    if outcomes.len() != commands {
        tracing::error!(%index, commands, outcomes = outcomes.len(), "the leader answered another entry");
        return refuse(entry, &ProposeError::Unknown);
    }
    let mut outcomes = outcomes.into_iter();
    for proposal in entry {
        let of_it = outcomes.by_ref().take(proposal.commands.len()).collect();
        let _ = proposal.reply.send(Ok((index, of_it)));
    }
}

fn refuse(entry: Vec<Proposal>, error: &ProposeError) {
    entry.into_iter().for_each(|proposal| drop(proposal.reply.send(Err(error.clone()))));
}
