//! The receiving end: answers the calls of peers.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use rookery_cluster::consensus::ProposeError;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::limits::{MAX_ENTRY_BYTES, MAX_ENTRY_COMMANDS, MAX_GRPC_MESSAGE_BYTES};
use rookery_cluster::net::PeerIdentity;
use rookery_proto::raft::raft_server::{Raft as RaftRpc, RaftServer};
use rookery_proto::raft::{Call, CallKind, Calls, Replies, Reply, ReplyStatus, SnapshotPiece, SnapshotReply};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{self, BadBytes, COMMAND_OVERHEAD};
use crate::groups::Inner;
use crate::net::{snapshot, wire};
use crate::replica::{Replica, Written};

/// Calls of one stream that are being answered; the next ones are refused.
const IN_HAND: usize = 4096;
/// Answers of one stream on their way.
const ANSWERS: usize = 256;
/// Answers in one message, at most.
const TOGETHER: usize = 128;

/// The gRPC service, to be added to the server that peers connect to. Refuses requests that carry no
/// [`PeerIdentity`].
#[derive(Clone)]
pub struct RaftService(Arc<Inner>);

impl RaftService {
    pub(crate) fn server(inner: Arc<Inner>) -> RaftServer<Self> {
        RaftServer::new(Self(inner))
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES)
    }
}

fn peer_of<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let peer = request.extensions().get::<PeerIdentity>();
    peer.map(|peer| peer.0).ok_or_else(|| Status::permission_denied("only nodes of the cluster may call this"))
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<Replies, Status>> + Send>>;

    async fn exchange(&self, request: Request<Streaming<Calls>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let peer = peer_of(&request)?;
        let (answers, ready) = mpsc::channel(ANSWERS);
        #[expect(clippy::disallowed_methods, reason = "ends with the peer's stream")]
        tokio::spawn(take_calls(self.0.clone(), peer, request.into_inner(), answers));
        let replies = stream::unfold(ready, |mut ready| async move {
            let mut replies = Vec::new();
            ready.recv_many(&mut replies, TOGETHER).await;
            if replies.is_empty() { None } else { Some((Ok(Replies { replies }), ready)) }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPiece>>) -> Result<Response<SnapshotReply>, Status> {
        let peer = peer_of(&request)?;
        let (group, vote, snapshot) = snapshot::receive(request.into_inner()).await?;
        let replica = self.0.replica(group).ok_or_else(|| Status::not_found(format!("no replica of group {group}")))?;
        tracing::info!(%peer, %group, bytes = snapshot.snapshot.len(), "installing a snapshot");
        match replica.raft.install_full_snapshot(vote, snapshot).await {
            Ok(response) => Ok(Response::new(SnapshotReply { vote: codec::vote_to_bytes(&response.vote) })),
            Err(fatal) => Err(Status::failed_precondition(fatal.to_string())),
        }
    }
}

/// Takes up the calls of one stream in order; they are answered as they are done.
async fn take_calls(inner: Arc<Inner>, peer: NodeId, mut calls: Streaming<Calls>, answers: mpsc::Sender<Reply>) {
    let room = Arc::new(Semaphore::new(IN_HAND));
    let mut closing = inner.closing();
    loop {
        let message = tokio::select! {
            message = calls.message() => message,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let Ok(Some(message)) = message else { return };
        for call in message.calls {
            let id = call.id;
            let Ok(permit) = room.clone().try_acquire_owned() else {
                let reply = refused(id, ReplyStatus::Refused, "too many calls are being answered");
                if answers.send(reply).await.is_err() {
                    return;
                }
                continue;
            };
            let started = start(&inner, peer, call).await;
            let answers = answers.clone();
            #[expect(clippy::disallowed_methods, reason = "ends with the call's answer")]
            tokio::spawn(async move {
                let reply = match started.finish().await {
                    Ok(body) => Reply { id, status: ReplyStatus::Ok.into(), body },
                    Err((status, why)) => refused(id, status, &why),
                };
                let _ = answers.send(reply).await;
                drop(permit);
            });
        }
    }
}

fn refused(id: u64, status: ReplyStatus, why: &str) -> Reply {
    Reply { id, status: status.into(), body: Bytes::copy_from_slice(why.as_bytes()) }
}

type Refusal = (ReplyStatus, String);

fn bad(error: BadBytes) -> Refusal {
    (ReplyStatus::Refused, error.to_string())
}

fn stopped(error: impl ToString) -> Refusal {
    (ReplyStatus::Stopped, error.to_string())
}

/// A call taken up.
enum Started {
    Written(Written),
    Raft(Replica, CallKind, Bytes),
    Refused(Refusal),
}

/// Proposals go to the Raft core here and now, so that they keep their order; the rest has none to keep.
async fn start(inner: &Inner, peer: NodeId, call: Call) -> Started {
    let group = GroupId(call.group);
    let Some(replica) = inner.replica(group) else {
        return Started::Refused((ReplyStatus::NoGroup, format!("no replica of group {group} here")));
    };
    let Ok(kind) = CallKind::try_from(call.kind) else {
        tracing::warn!(%peer, kind = call.kind, "a peer sent a call of a later version");
        return Started::Refused((ReplyStatus::Refused, format!("unknown kind of call {}", call.kind)));
    };
    if kind != CallKind::Propose {
        return Started::Raft(replica, kind, call.body);
    }
    match propose(&replica, &call.body).await {
        Ok(written) => Started::Written(written),
        Err(refusal) => Started::Refused(refusal),
    }
}

async fn propose(replica: &Replica, body: &Bytes) -> Result<Written, Refusal> {
    let commands = wire::propose_from_bytes(body).map_err(bad)?.0;
    let size: usize = commands.iter().map(|c| c.len() + COMMAND_OVERHEAD).sum();
    if size > MAX_ENTRY_BYTES || commands.len() > MAX_ENTRY_COMMANDS {
        return Err((ReplyStatus::Refused, format!("{} commands of {size} bytes are no entry", commands.len())));
    }
    replica.write(commands).await.map_err(stopped)
}

impl Started {
    async fn finish(self) -> Result<Bytes, Refusal> {
        match self {
            Started::Written(written) => Ok(wire::answer_to_bytes(&written.answer().await)),
            Started::Raft(replica, kind, body) => call_raft(&replica, kind, &body).await,
            Started::Refused(refusal) => Err(refusal),
        }
    }
}

async fn call_raft(replica: &Replica, kind: CallKind, body: &Bytes) -> Result<Bytes, Refusal> {
    let raft = &replica.raft;
    match kind {
        CallKind::Append => {
            let rpc = wire::append_from_bytes(body).map_err(bad)?;
            raft.append_entries(rpc).await.map(|reply| wire::append_reply_to_bytes(&reply)).map_err(stopped)
        }
        CallKind::Vote => {
            let rpc = wire::vote_from_bytes(body).map_err(bad)?;
            raft.vote(rpc).await.map(|reply| wire::vote_reply_to_bytes(&reply)).map_err(stopped)
        }
        CallKind::PreVote => {
            let rpc = wire::vote_from_bytes(body).map_err(bad)?;
            raft.pre_vote(rpc).await.map(|reply| wire::vote_reply_to_bytes(&reply)).map_err(stopped)
        }
        CallKind::TransferLeader => {
            let rpc = wire::transfer_from_bytes(body).map_err(bad)?;
            let reply = raft.handle_transfer_leader(rpc).await;
            reply.map(|reply| wire::transfer_reply_to_bytes(&reply)).map_err(stopped)
        }
        CallKind::ReadIndex => {
            let answer: Result<_, ProposeError> = replica.read_index().boxed().await;
            answer.map(|answer| wire::answer_to_bytes(&answer)).map_err(stopped)
        }
        CallKind::Propose | CallKind::Unspecified => Err((ReplyStatus::Refused, "unknown kind of call".to_owned())),
    }
}
