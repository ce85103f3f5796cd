//! Bodies of the calls between nodes, versioned like stored bytes (see [`crate::codec`]).

use bytes::Bytes;
use openraft::raft::TransferLeaderError;

use crate::codec::{BadBytes, Reader, Writer, entry_from_bytes, entry_to_bytes};
use crate::types::{
    AppendRequest, AppendResponse, Batch, TransferRequest, TransferResponse, VoteRequest, VoteResponse,
};

pub(crate) fn append_to_bytes(rpc: &AppendRequest) -> Bytes {
    let entries: Vec<Bytes> = rpc.entries.iter().map(entry_to_bytes).collect();
    let mut w = Writer::new(entries.iter().map(|e| e.len() + 4).sum::<usize>() + 80);
    w.vote(&rpc.vote);
    w.optional(rpc.prev_log_id.as_ref(), Writer::log_id);
    w.optional(rpc.leader_commit.as_ref(), Writer::log_id);
    w.batch(&entries);
    w.done()
}

pub(crate) fn append_from_bytes(bytes: &Bytes) -> Result<AppendRequest, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let vote = r.vote()?;
    let prev_log_id = r.optional(Reader::log_id)?;
    let leader_commit = r.optional(Reader::log_id)?;
    let entries = r.batch()?.0.iter().map(entry_from_bytes).collect::<Result<_, _>>()?;
    r.end()?;
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn append_reply_to_bytes(reply: &AppendResponse) -> Bytes {
    let mut w = Writer::new(40);
    match reply {
        AppendResponse::Success => w.u8(0),
        AppendResponse::PartialSuccess(upto) => {
            w.u8(1);
            w.optional(upto.as_ref(), Writer::log_id);
        }
        AppendResponse::Conflict => w.u8(2),
        AppendResponse::HigherVote(vote) => {
            w.u8(3);
            w.vote(vote);
        }
    }
    w.done()
}

pub(crate) fn append_reply_from_bytes(bytes: &Bytes) -> Result<AppendResponse, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let reply = match r.u8()? {
        0 => AppendResponse::Success,
        1 => AppendResponse::PartialSuccess(r.optional(Reader::log_id)?),
        2 => AppendResponse::Conflict,
        3 => AppendResponse::HigherVote(r.vote()?),
        other => return Err(BadBytes::Kind(other)),
    };
    r.end()?;
    Ok(reply)
}

pub(crate) fn vote_to_bytes(rpc: &VoteRequest) -> Bytes {
    let mut w = Writer::new(50);
    w.vote(&rpc.vote);
    w.optional(rpc.last_log_id.as_ref(), Writer::log_id);
    w.u8(u8::from(rpc.leadership_transfer));
    w.done()
}

pub(crate) fn vote_from_bytes(bytes: &Bytes) -> Result<VoteRequest, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let mut rpc = VoteRequest::new(r.vote()?, r.optional(Reader::log_id)?);
    rpc.leadership_transfer = r.u8()? != 0;
    r.end()?;
    Ok(rpc)
}

pub(crate) fn vote_reply_to_bytes(reply: &VoteResponse) -> Bytes {
    let mut w = Writer::new(50);
    w.vote(&reply.vote);
    w.optional(reply.last_log_id.as_ref(), Writer::log_id);
    w.u8(u8::from(reply.vote_granted));
    w.done()
}

pub(crate) fn vote_reply_from_bytes(bytes: &Bytes) -> Result<VoteResponse, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let (vote, last_log_id) = (r.vote()?, r.optional(Reader::log_id)?);
    let granted = r.u8()? != 0;
    r.end()?;
    Ok(VoteResponse::new(vote, last_log_id, granted))
}

pub(crate) fn transfer_to_bytes(rpc: &TransferRequest) -> Bytes {
    let mut w = Writer::new(60);
    w.vote(rpc.from_leader());
    w.u64(*rpc.to_node_id());
    w.optional(rpc.last_log_id(), Writer::log_id);
    w.done()
}

pub(crate) fn transfer_from_bytes(bytes: &Bytes) -> Result<TransferRequest, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let rpc = TransferRequest::new(r.vote()?, r.u64()?, r.optional(Reader::log_id)?);
    r.end()?;
    Ok(rpc)
}

pub(crate) fn transfer_reply_to_bytes(reply: &TransferResponse) -> Bytes {
    let mut w = Writer::new(60);
    match reply {
        Ok(()) => w.u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            w.u8(1);
            w.vote(expected);
            w.vote(actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            w.u8(2);
            w.optional(expected.as_ref(), Writer::log_id);
            w.optional(actual.as_ref(), Writer::log_id);
        }
    }
    w.done()
}

pub(crate) fn transfer_reply_from_bytes(bytes: &Bytes) -> Result<TransferResponse, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let reply = match r.u8()? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: r.vote()?, actual: r.vote()? }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: r.optional(Reader::log_id)?,
            actual: r.optional(Reader::log_id)?,
        }),
        other => return Err(BadBytes::Kind(other)),
    };
    r.end()?;
    Ok(reply)
}

/// Commands for the leader.
pub(crate) fn propose_to_bytes(commands: &[Bytes]) -> Bytes {
    let mut w = Writer::new(commands.iter().map(|c| c.len() + 4).sum::<usize>() + 4);
    w.batch(commands);
    w.done()
}

pub(crate) fn propose_from_bytes(bytes: &Bytes) -> Result<Batch, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let batch = r.batch()?;
    r.end()?;
    Ok(batch)
}

/// What became of proposed commands, or of a question for a read index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Applied at the leader: index and one outcome per command. A read index has no outcomes.
    Done(u64, Vec<Bytes>),
    /// Not (or not able) to lead: nothing was written. The leader, as far as known.
    NotLeader(Option<u64>),
    /// It may have been written, or may still be.
    Unknown,
}

pub(crate) fn answer_to_bytes(answer: &Answer) -> Bytes {
    let mut w = Writer::new(32);
    match answer {
        Answer::Done(index, outcomes) => {
            w.u8(0);
            w.u64(*index);
            w.batch(outcomes);
        }
        Answer::NotLeader(leader) => {
            w.u8(1);
            w.optional(*leader, Writer::u64);
        }
        Answer::Unknown => w.u8(2),
    }
    w.done()
}

pub(crate) fn answer_from_bytes(bytes: &Bytes) -> Result<Answer, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let answer = match r.u8()? {
        0 => Answer::Done(r.u64()?, r.batch()?.0),
        1 => Answer::NotLeader(r.optional(Reader::u64)?),
        2 => Answer::Unknown,
        other => return Err(BadBytes::Kind(other)),
    };
    r.end()?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, LeaderId, LogId, Vote};
    use openraft::EntryPayload;
    use openraft::vote::{RaftLeaderId, RaftVote};

    fn vote() -> Vote {
        Vote::from_leader_id(LeaderId::new(5, 6), true)
    }

    fn log_id(index: u64) -> LogId {
        LogId::new(LeaderId::new(5, 6), index)
    }

    #[test]
    fn appends_come_back() {
        let batch = Batch(vec![Bytes::from_static(b"x")]);
        let entries = vec![
            Entry { log_id: log_id(3), payload: EntryPayload::Normal(batch) },
            Entry { log_id: log_id(4), payload: EntryPayload::Blank },
        ];
        let rpc = AppendRequest { vote: vote(), prev_log_id: Some(log_id(2)), entries, leader_commit: None };
        let back = append_from_bytes(&append_to_bytes(&rpc)).unwrap();
        assert_eq!(format!("{back:?}"), format!("{rpc:?}"));
        for reply in [
            AppendResponse::Success,
            AppendResponse::PartialSuccess(None),
            AppendResponse::PartialSuccess(Some(log_id(3))),
            AppendResponse::Conflict,
            AppendResponse::HigherVote(vote()),
        ] {
            assert_eq!(append_reply_from_bytes(&append_reply_to_bytes(&reply)).unwrap(), reply);
        }
    }

    #[test]
    fn votes_and_transfers_come_back() {
        let mut rpc = VoteRequest::new(vote(), Some(log_id(9)));
        rpc.leadership_transfer = true;
        assert_eq!(vote_from_bytes(&vote_to_bytes(&rpc)).unwrap(), rpc);
        let reply = VoteResponse::new(vote(), None, true);
        assert_eq!(vote_reply_from_bytes(&vote_reply_to_bytes(&reply)).unwrap(), reply);
        let transfer = TransferRequest::new(vote(), 7, Some(log_id(9)));
        assert_eq!(transfer_from_bytes(&transfer_to_bytes(&transfer)).unwrap(), transfer);
        for reply in [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: vote(), actual: vote() }),
            Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1)), actual: None }),
        ] {
            assert_eq!(transfer_reply_from_bytes(&transfer_reply_to_bytes(&reply)).unwrap(), reply);
        }
    }

    #[test]
    fn proposals_and_answers_come_back() {
        let commands = vec![Bytes::from_static(b"a"), Bytes::new()];
        assert_eq!(propose_from_bytes(&propose_to_bytes(&commands)).unwrap().0, commands);
        for answer in [Answer::Done(4, commands), Answer::NotLeader(Some(2)), Answer::NotLeader(None), Answer::Unknown]
        {
            assert_eq!(answer_from_bytes(&answer_to_bytes(&answer)).unwrap(), answer);
        }
    }
}
