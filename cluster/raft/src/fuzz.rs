//! For fuzzing only: what this crate's readers, which are nobody else's business, make of any bytes.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::vote::{RaftLeaderId, RaftVote};
use rookery_cluster::ids::GroupId;

use crate::net::wire;
use crate::types::{AppendRequest, AppendResponse, Batch, Entry, LeaderId, LogId, SnapshotMeta, Vote, VoteRequest};
use crate::{codec, snapshot};

const GROUP: GroupId = GroupId(1);

/// Reads bytes and writes them again; nothing if they are none of the kind.
type Again = fn(&Bytes) -> Option<Bytes>;

/// What comes from other replicas, and from an earlier life's disk.
const KINDS: &[Again] = &[
    |bytes| Some(wire::append_to_bytes(&wire::append_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::append_reply_to_bytes(&wire::append_reply_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::vote_to_bytes(&wire::vote_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::vote_reply_to_bytes(&wire::vote_reply_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::transfer_to_bytes(&wire::transfer_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::transfer_reply_to_bytes(&wire::transfer_reply_from_bytes(bytes).ok()?)),
    |bytes| Some(wire::propose_to_bytes(&wire::propose_from_bytes(bytes).ok()?.0)),
    |bytes| Some(wire::answer_to_bytes(&wire::answer_from_bytes(bytes).ok()?)),
    |bytes| Some(codec::entry_to_bytes(&codec::entry_from_bytes(bytes).ok()?)),
    |bytes| Some(codec::vote_to_bytes(&codec::vote_from_bytes(bytes).ok()?)),
    |bytes| Some(codec::log_id_to_bytes(&codec::log_id_from_bytes(bytes).ok()?)),
    |bytes| Some(codec::meta_to_bytes(&codec::meta_from_bytes(bytes).ok()?)),
    file_again,
];

/// A snapshot's file, without the checksum that no chance would make.
fn file_again(bytes: &Bytes) -> Option<Bytes> {
    let mut file = BytesMut::from(&bytes[..]);
    file.put_u32_le(crc32c::crc32c(bytes));
    let read = snapshot::decode(GROUP, file.freeze()).ok()?;
    Some([snapshot::encode_head(GROUP, &read.meta, read.snapshot.len()), read.snapshot].concat().into())
}

/// Reads `bytes` as the kind number `which`: what is one is written the same however often it is read.
///
/// # Errors
/// What became of it.
pub fn again(which: u8, bytes: &Bytes) -> Result<(), String> {
    let kind = KINDS[usize::from(which) % KINDS.len()];
    let Some(once) = kind(bytes) else { return Ok(()) };
    let twice = kind(&once);
    if twice.as_ref() == Some(&once) { Ok(()) } else { Err(format!("{once:02x?} became {twice:02x?}")) }
}

/// Something of most kinds, each with its number.
pub fn seeds() -> Vec<(u8, Bytes)> {
    let leader = LeaderId::new(5, 6);
    let (vote, id) = (Vote::from_leader_id(leader, true), |index| LogId::new(leader, index));
    let batch = || Batch(vec![Bytes::from_static(b"x"), Bytes::new()]);
    let entry = |index, payload| Entry { log_id: id(index), payload };
    let entries = vec![entry(3, EntryPayload::Normal(batch())), entry(4, EntryPayload::Blank)];
    let append = AppendRequest { vote, prev_log_id: Some(id(2)), entries, leader_commit: None };
    let meta = SnapshotMeta { last_log_id: Some(id(9)), ..SnapshotMeta::default() };
    let state = Bytes::from_static(b"state");
    let file: Bytes = [snapshot::encode_head(GROUP, &meta, state.len()), state].concat().into();
    vec![
        (0, wire::append_to_bytes(&append)),
        (1, wire::append_reply_to_bytes(&AppendResponse::HigherVote(vote))),
        (2, wire::vote_to_bytes(&VoteRequest::new(vote, Some(id(7))))),
        (6, wire::propose_to_bytes(&batch().0)),
        (7, wire::answer_to_bytes(&wire::Answer::Done(7, batch().0))),
        (8, codec::entry_to_bytes(&append.entries[0])),
        (9, codec::vote_to_bytes(&vote)),
        (10, codec::log_id_to_bytes(&id(3))),
        (11, codec::meta_to_bytes(&meta)),
        (12, file),
    ]
}
