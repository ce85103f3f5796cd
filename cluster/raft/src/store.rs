//! openraft's log storage over a [`GroupLog`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, RaftTypeConfig};
use rookery_cluster::ids::LogIndex;
use rookery_cluster::log::{Durable, GroupLog};
use tokio::sync::oneshot;

use crate::codec;
use crate::types::{Entry, LogId, Types, Vote};

/// What one AppendEntries carries at most, so that it fits into a gRPC message together with what else is sent.
const READ_BYTES: usize = 2 << 20;
/// Entries looked up at a time while [`READ_BYTES`] is not reached.
const READ_ENTRIES: u64 = 16;

/// The log of one group.
#[derive(Clone)]
pub(crate) struct Store {
    log: Arc<dyn GroupLog>,
}

impl Store {
    pub(crate) fn new(log: Arc<dyn GroupLog>) -> Self {
        Self { log }
    }

    fn read(&self, from: u64, to: u64) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.log.read(LogIndex(from), LogIndex(to))?;
        entries.iter().map(|(index, bytes)| decode(*index, bytes)).collect()
    }

    fn log_id_at(&self, index: LogIndex) -> io::Result<Option<LogId>> {
        Ok(self.read(index.0, index.0 + 1)?.pop().map(|entry| entry.log_id))
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        match self.log.state().purged {
            Some((_, bytes)) => Ok(Some(codec::log_id_from_bytes(&bytes)?)),
            None => Ok(None),
        }
    }
}

fn decode(index: LogIndex, bytes: &Bytes) -> io::Result<Entry> {
    let entry = codec::entry_from_bytes(bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {e}")))?;
    if entry.log_id.index() != index.0 {
        let found = entry.log_id.index();
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index} says it is {found}")));
    }
    Ok(entry)
}

/// A completion whose error is only logged: after an I/O error the log fails every later write, which is
/// waited for.
fn unwatched(what: &'static str) -> Durable {
    Box::new(move |result| {
        if let Err(error) = result {
            tracing::error!(%error, what, "the raft log could not be written");
        }
    })
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        match self.log.state().vote {
            Some(bytes) => Ok(Some(codec::vote_from_bytes(&bytes)?)),
            None => Ok(None),
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut all = Vec::new();
        let (mut next, mut size) = (start, 0);
        while next < end && size < READ_BYTES {
            let to = end.min(next + READ_ENTRIES);
            let entries = self.log.read(LogIndex(next), LogIndex(to))?;
            let got = entries.len();
            for (index, bytes) in &entries {
                size += bytes.len();
                all.push(decode(*index, bytes)?);
            }
            if (got as u64) < to - next {
                break;
            }
            next = to;
        }
        Ok(all)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.purged()?;
        let last = match self.log.state().last {
            Some(index) => self.log_id_at(index)?,
            None => None,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (tx, rx) = oneshot::channel();
        self.log.save_vote(codec::vote_to_bytes(vote), Box::new(move |result| drop(tx.send(result))));
        rx.await.unwrap_or_else(|_| Err(io::Error::other("the raft log was closed before the vote was on disk")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.map(|id| LogIndex(id.index())));
        Ok(())
    }

    /// The log keeps only the index, as a hint that may lie behind. It is never ahead of what is on disk here:
    /// openraft saves it for entries that this node has flushed.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.log.state();
        let Some(hint) = state.committed else { return Ok(None) };
        let purged = self.purged()?;
        let last = state.last.map_or(0, |last| last.0);
        match self.log_id_at(LogIndex(hint.0.min(last)))? {
            Some(id) => Ok(Some(id).max(purged)),
            None => Ok(purged),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = <Types as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|e| (LogIndex(e.log_id.index()), codec::entry_to_bytes(&e))).collect();
        self.log.append(entries, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last.map(|id| LogIndex(id.index())), unwatched("truncation"));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.log.purge(LogIndex(upto.index()), codec::log_id_to_bytes(&upto), unwatched("purge"));
        Ok(())
    }
}
