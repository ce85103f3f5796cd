//! openraft's network over a [`Link`].

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::SnapshotResponse;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::net::Purpose;
use rookery_proto::raft::CallKind;

use crate::codec::BadBytes;
use crate::net::link::CallError;
use crate::net::{snapshot, wire};
use crate::peers::Peers;
use crate::types::{
    AppendRequest, AppendResponse, Snapshot, TransferRequest, TransferResponse, Types, Vote, VoteRequest, VoteResponse,
};

/// An append with entries waits this long for the follower's disk. (openraft's own limit for it is one
/// heartbeat interval, which a slow fsync exceeds; then the same entries would be sent again and again.)
const APPEND: Duration = Duration::from_secs(3);

/// Makes the clients of one group.
pub(crate) struct Network {
    pub(crate) me: NodeId,
    pub(crate) group: GroupId,
    pub(crate) peers: Peers,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &()) -> Client {
        Client { me: self.me, group: self.group, peers: self.peers.clone(), target: NodeId(target), lingers: false }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &()) -> Client {
        // The metadata group's heartbeats never wait: lease renewals depend on their quorum rounds.
        Client { lingers: self.group != GroupId::METADATA, ..self.new_client(target, node).await }
    }
}

/// One group's way to one peer.
pub(crate) struct Client {
    me: NodeId,
    group: GroupId,
    peers: Peers,
    target: NodeId,
    lingers: bool,
}

impl Client {
    async fn call<T>(
        &self,
        kind: CallKind,
        body: Bytes,
        limit: Duration,
        decode: impl FnOnce(&Bytes) -> Result<T, BadBytes>,
    ) -> Result<T, RPCError<Types>> {
        let link = self.peers.link(self.target, Purpose::Raft);
        match link.call(self.group, kind, body, self.lingers).within(limit).await {
            Ok(reply) => decode(&reply).map_err(|e| Unreachable::new(&e).into()),
            Err(error @ (CallError::NotSent(_) | CallError::Refused(..))) => Err(Unreachable::new(&error).into()),
            Err(CallError::Lost(_)) => {
                let (id, target) = (self.me.0, self.target.0);
                let action = match kind {
                    CallKind::Vote | CallKind::PreVote => RPCTypes::Vote,
                    _ => RPCTypes::AppendEntries,
                };
                Err(Timeout { action, id, target, timeout: limit }.into())
            }
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RPCError<Types>> {
        let limit = if rpc.entries.is_empty() { option.soft_ttl() } else { APPEND.max(option.soft_ttl()) };
        self.call(CallKind::Append, wire::append_to_bytes(&rpc), limit, wire::append_reply_from_bytes).await
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RPCError<Types>> {
        let body = wire::vote_to_bytes(&rpc);
        self.call(CallKind::Vote, body, option.soft_ttl(), wire::vote_reply_from_bytes).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RPCError<Types>> {
        let body = wire::vote_to_bytes(&rpc);
        self.call(CallKind::PreVote, body, option.soft_ttl(), wire::vote_reply_from_bytes).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = snapshot::send(&self.peers, self.target, self.group, &vote, snapshot, option.soft_ttl()) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(why) => Err(Unreachable::from_string(why).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse, RPCError<Types>> {
        let body = wire::transfer_to_bytes(&rpc);
        self.call(CallKind::TransferLeader, body, option.soft_ttl(), wire::transfer_reply_from_bytes).await
    }

    /// Dialling again is cheap here: the link refuses at once while the peer is away.
    fn backoff(&self) -> Option<Backoff> {
        let first = [20, 50, 100].map(Duration::from_millis);
        Some(Backoff::new(first.into_iter().chain(std::iter::repeat(Duration::from_millis(200)))))
    }
}
