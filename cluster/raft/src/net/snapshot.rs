//! Sends a snapshot in pieces, on the connection for bulk data: beside publishes, so that heartbeats and
//! leases do not wait behind it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::limits::MAX_GRPC_MESSAGE_BYTES;
use rookery_cluster::net::Purpose;
use rookery_proto::raft::raft_client::RaftClient;
use rookery_proto::raft::{SnapshotHead, SnapshotPiece};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::codec;
use crate::peers::Peers;
use crate::types::{Snapshot, SnapshotMeta, Vote};

/// Bytes of one piece: small, so that what shares the connection is not held up.
const PIECE: usize = 256 << 10;
/// Largest snapshot that is taken in. It is held in memory while it is received and installed.
const LARGEST: u64 = 4 << 30;
/// Allowed for a transfer on top of the time for installing, per MiB.
const PER_MIB: Duration = Duration::from_secs(1);

/// Sends it, waits until it is installed, and returns the peer's vote.
pub(crate) async fn send(
    peers: &Peers,
    peer: NodeId,
    group: GroupId,
    vote: &Vote,
    snapshot: Snapshot,
    install: Duration,
) -> Result<Vote, String> {
    let channel = peers.channels().channel(peer, Purpose::Data).ok_or("its address is not known")?;
    let mut client = RaftClient::new(channel).max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES);
    let head = SnapshotHead {
        group: group.0,
        vote: codec::vote_to_bytes(vote),
        meta: codec::meta_to_bytes(&snapshot.meta),
        length: snapshot.snapshot.len() as u64,
        checksum: crc32c::crc32c(&snapshot.snapshot),
    };
    let mib = u32::try_from(snapshot.snapshot.len() >> 20).unwrap_or(u32::MAX);
    let limit = install.saturating_add(PER_MIB.saturating_mul(mib));
    let pieces = stream::unfold((Some(head), snapshot.snapshot), |(head, mut rest)| async move {
        if head.is_none() && rest.is_empty() {
            return None;
        }
        let data = rest.split_to(rest.len().min(PIECE));
        Some((SnapshotPiece { head, data }, (None, rest)))
    });
    match timeout(limit, client.snapshot(pieces)).await {
        Ok(Ok(reply)) => codec::vote_from_bytes(&reply.into_inner().vote).map_err(|e| e.to_string()),
        Ok(Err(status)) => {
            if status.code() == Code::Unavailable {
                peers.channels().reset(peer, Purpose::Data);
            }
            Err(status.to_string())
        }
        Err(_) => Err(format!("the snapshot was not installed within {limit:?}")),
    }
}

/// Takes in all pieces of a snapshot and checks them.
pub(crate) async fn receive(mut pieces: Streaming<SnapshotPiece>) -> Result<(GroupId, Vote, Snapshot), Status> {
    let first = pieces.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot stream"))?;
    let head = first.head.ok_or_else(|| Status::invalid_argument("a snapshot begins with its head"))?;
    if head.length > LARGEST {
        return Err(Status::resource_exhausted(format!("a snapshot of more than {LARGEST} bytes")));
    }
    let bad = |e: codec::BadBytes| Status::invalid_argument(e.to_string());
    let vote = codec::vote_from_bytes(&head.vote).map_err(bad)?;
    let meta: SnapshotMeta = codec::meta_from_bytes(&head.meta).map_err(bad)?;
    let mut state = BytesMut::from(first.data);
    while let Some(piece) = pieces.message().await? {
        if (state.len() + piece.data.len()) as u64 > head.length {
            return Err(Status::invalid_argument("the snapshot is longer than announced"));
        }
        state.extend_from_slice(&piece.data);
    }
    if state.len() as u64 != head.length || crc32c::crc32c(&state) != head.checksum {
        return Err(Status::data_loss("the snapshot did not arrive whole"));
    }
    let state: Bytes = state.freeze();
    Ok((GroupId(head.group), vote, Snapshot { meta, snapshot: state }))
}
