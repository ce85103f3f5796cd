//! One stream to one peer. Whatever waits, of all groups, leaves in one message; shard heartbeats linger a
//! little so that those of all groups travel together. A peer that cannot be reached fails its calls at once.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::limits::MAX_GRPC_MESSAGE_BYTES;
use rookery_cluster::net::{Purpose, SharedPeers};
use rookery_proto::raft::raft_client::RaftClient;
use rookery_proto::raft::{Call, CallKind, Calls, Replies, Reply, ReplyStatus};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::Streaming;

/// Calls waiting to be sent to one peer; more fail at once. 17 groups have a handful each.
const QUEUE: usize = 1024;
/// Calls sent and unanswered; beyond that the peer counts as stuck.
const PENDING: usize = 4096;
/// Messages handed to the transport and not yet taken by it.
const WINDOW: usize = 4;
/// A message is sent once it holds this much. One more call fits below the gRPC limit.
const MESSAGE_BYTES: usize = 3 << 20;
/// How long shard heartbeats wait for each other.
const LINGER: Duration = Duration::from_millis(20);
/// How long dialling may take.
const DIAL: Duration = Duration::from_secs(1);
/// After a failed dial, calls fail without a new one for this long.
const HOLD: Duration = Duration::from_millis(50);
/// Raft calls are waiting and nothing came back for this long: the stream is given up, since after a partition
/// TCP itself would take long to notice that the peer is back. Looked at every [`CHECK`]. (Proposals may
/// rightly wait for a quorum; their connection has its own pings.)
const SILENCE_CHECKS: u32 = 6;
const CHECK: Duration = Duration::from_millis(500);

const _: () = assert!(MESSAGE_BYTES + (4 << 20) < MAX_GRPC_MESSAGE_BYTES);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It never left this node.
    #[error("the peer cannot be reached: {0}")]
    NotSent(String),
    /// It left; whether it had an effect is not known.
    #[error("no answer came: {0}")]
    Lost(String),
    /// The peer took it up and it had no effect.
    #[error("the peer refused: {1}")]
    Refused(ReplyStatus, String),
}

struct Waiting {
    call: Call,
    linger: bool,
    answer: oneshot::Sender<Result<Bytes, CallError>>,
}

/// The sending end of a peer's stream. Dropping all clones ends it.
#[derive(Clone)]
pub(crate) struct Link {
    queue: mpsc::Sender<Waiting>,
}

impl Link {
    /// Starts the task that dials when there is something to send.
    pub(crate) fn start(runtime: &Handle, peers: SharedPeers, peer: NodeId, purpose: Purpose) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        runtime.spawn(Worker { peers, peer, purpose, waiting, next_id: 0 }.run());
        Self { queue }
    }

    /// Queues a call and returns its answer to come. Calls are taken up by the peer in the order of these
    /// calls.
    pub(crate) fn call(&self, group: GroupId, kind: CallKind, body: Bytes, linger: bool) -> Answering {
        let (answer, answered) = oneshot::channel();
        let call = Call { id: 0, group: group.0, kind: kind.into(), body };
        if let Err(error) = self.queue.try_send(Waiting { call, linger, answer }) {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "too many calls are waiting for it",
                mpsc::error::TrySendError::Closed(_) => "this node is shutting down",
            };
            return Answering(Err(CallError::NotSent(why.to_owned())));
        }
        Answering(Ok(answered))
    }
}

/// An answer to come.
pub(crate) struct Answering(Result<oneshot::Receiver<Result<Bytes, CallError>>, CallError>);

impl Answering {
    /// Waits for the answer, at most for `limit`.
    pub(crate) async fn within(self, limit: Duration) -> Result<Bytes, CallError> {
        match timeout(limit, self.0?).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::Lost("this node is shutting down".to_owned())),
            Err(_) => Err(CallError::Lost(format!("waited for {limit:?}"))),
        }
    }
}

struct Worker {
    peers: SharedPeers,
    peer: NodeId,
    purpose: Purpose,
    waiting: mpsc::Receiver<Waiting>,
    next_id: u64,
}

type Pending = HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>;

impl Worker {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            match self.dial().await {
                Ok((out, replies)) => {
                    let why = self.serve(first, out, replies).await;
                    tracing::debug!(peer = %self.peer, purpose = ?self.purpose, why, "stream to peer ended");
                    self.peers.reset(self.peer, self.purpose);
                }
                Err(why) => {
                    tracing::debug!(peer = %self.peer, purpose = ?self.purpose, why, "peer cannot be reached");
                    self.peers.reset(self.peer, self.purpose);
                    let _ = first.answer.send(Err(CallError::NotSent(why.clone())));
                    self.refuse_for(HOLD, &why).await;
                }
            }
        }
    }

    /// Fails what comes in for a while, so that a dead peer is not dialled by every call.
    async fn refuse_for(&mut self, hold: Duration, why: &str) {
        let _ = timeout(hold, async {
            while let Some(waiting) = self.waiting.recv().await {
                let _ = waiting.answer.send(Err(CallError::NotSent(why.to_owned())));
            }
        })
        .await;
    }

    async fn dial(&self) -> Result<(mpsc::Sender<Calls>, Streaming<Replies>), String> {
        let channel = self.peers.channel(self.peer, self.purpose).ok_or("its address is not known")?;
        let mut client = RaftClient::new(channel)
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES);
        let (out, calls) = mpsc::channel(WINDOW);
        let calls = stream::unfold(calls, |mut calls| async move { Some((calls.recv().await?, calls)) });
        match timeout(DIAL, client.exchange(calls)).await {
            Ok(Ok(response)) => Ok((out, response.into_inner())),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err(format!("no connection within {DIAL:?}")),
        }
    }

    /// Sends and receives until the stream breaks; returns why it did.
    async fn serve(&mut self, first: Waiting, out: mpsc::Sender<Calls>, mut replies: Streaming<Replies>) -> String {
        let mut pending = Pending::new();
        let mut message = Message::default();
        message.add(first);
        let linger = sleep(LINGER);
        tokio::pin!(linger);
        let mut silent = 0;
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                reply = replies.message() => match reply {
                    Ok(Some(reply)) => {
                        silent = 0;
                        reply.replies.into_iter().for_each(|reply| answer(&mut pending, reply));
                    }
                    Ok(None) => break "the peer closed the stream".to_owned(),
                    Err(status) => break status.to_string(),
                },
                waiting = self.waiting.recv(), if message.size < MESSAGE_BYTES => match waiting {
                    Some(waiting) => {
                        if message.waiting.is_empty() {
                            linger.set(sleep(LINGER));
                        }
                        message.add(waiting);
                        self.gather(&mut message);
                    }
                    None => break "this node is shutting down".to_owned(),
                },
                () = &mut linger, if !message.waiting.is_empty() && !message.urgent => message.urgent = true,
                permit = out.reserve(), if message.urgent => {
                    let Ok(permit) = permit else { break "the stream broke".to_owned() };
                    let calls = self.number(std::mem::take(&mut message), &mut pending);
                    permit.send(Calls { calls });
                    if pending.len() > PENDING {
                        break format!("{PENDING} calls are unanswered");
                    }
                }
                _ = check.tick() => {
                    pending.retain(|_, answer| !answer.is_closed());
                    silent = if pending.is_empty() || self.purpose != Purpose::Raft { 0 } else { silent + 1 };
                    if silent > SILENCE_CHECKS {
                        break "the peer is silent".to_owned();
                    }
                }
            }
        };
        for waiting in message.waiting {
            let _ = waiting.answer.send(Err(CallError::NotSent(why.clone())));
        }
        pending.into_values().for_each(|answer| drop(answer.send(Err(CallError::Lost(why.clone())))));
        why
    }

    /// Adds what is waiting already, up to the size of a message.
    fn gather(&mut self, message: &mut Message) {
        while message.size < MESSAGE_BYTES {
            let Ok(waiting) = self.waiting.try_recv() else { break };
            message.add(waiting);
        }
    }

    /// Numbers the calls and remembers whom to answer, except those whose callers have given up.
    fn number(&mut self, message: Message, pending: &mut Pending) -> Vec<Call> {
        let wanted = message.waiting.into_iter().filter(|waiting| !waiting.answer.is_closed());
        wanted
            .map(|waiting| {
                self.next_id += 1;
                pending.insert(self.next_id, waiting.answer);
                Call { id: self.next_id, ..waiting.call }
            })
            .collect()
    }
}

/// What will leave together.
#[derive(Default)]
struct Message {
    waiting: Vec<Waiting>,
    size: usize,
    /// Not to be held back for company (any longer).
    urgent: bool,
}

impl Message {
    fn add(&mut self, waiting: Waiting) {
        self.urgent |= !waiting.linger;
        self.size += waiting.call.body.len() + 32;
        self.waiting.push(waiting);
    }
}

fn answer(pending: &mut Pending, reply: Reply) {
    let Some(waiting) = pending.remove(&reply.id) else { return };
    let status = ReplyStatus::try_from(reply.status).unwrap_or(ReplyStatus::Refused);
    let _ = waiting.send(match status {
        ReplyStatus::Ok => Ok(reply.body),
        _ => Err(CallError::Refused(status, String::from_utf8_lossy(&reply.body).into_owned())),
    });
}

#[cfg(test)]
mod tests;
