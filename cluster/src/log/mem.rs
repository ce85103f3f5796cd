//! A log in memory, for tests and the simulator: loses what is not durable when told to.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Durable, GroupLog, LogState};
use crate::ids::LogIndex;

/// A [`GroupLog`] in memory. Clones share it, so that a restarted replica can open what a crash left.
#[derive(Clone, Default)]
pub struct MemLog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    live: Content,
    durable: Content,
    pending: VecDeque<(Op, Durable)>,
    held: bool,
    delivering: bool,
    failed: bool,
}

/// One change of a log.
#[derive(Clone, Debug)]
pub(in crate::log) enum Op {
    Append(Vec<(LogIndex, Bytes)>),
    Vote(Bytes),
    Truncate(Option<LogIndex>),
    Purge(LogIndex, Bytes),
}

/// What a log holds: the plainest form, which the other logs are tested against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::log) struct Content {
    vote: Option<Bytes>,
    committed: Option<LogIndex>,
    purged: Option<(LogIndex, Bytes)>,
    /// Index of the first of `entries`.
    first: u64,
    entries: VecDeque<Bytes>,
}

impl Content {
    pub(in crate::log) fn state(&self) -> LogState {
        LogState {
            vote: self.vote.clone(),
            committed: self.committed,
            purged: self.purged.clone(),
            last: (self.entries.len() as u64).checked_sub(1).map(|n| LogIndex(self.first + n)),
        }
    }

    pub(in crate::log) fn read(&self, from: LogIndex, to: LogIndex) -> Vec<(LogIndex, Bytes)> {
        let numbered = (self.first..).zip(&self.entries);
        let wanted = numbered.filter(|(i, _)| (from.0..to.0).contains(i));
        wanted.map(|(i, bytes)| (LogIndex(i), bytes.clone())).collect()
    }

    pub(in crate::log) fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Append(entries) => return self.append(entries),
            Op::Vote(vote) => self.vote = Some(vote.clone()),
            Op::Truncate(last) => {
                let keep = last.map_or(0, |last| (last.0 + 1).saturating_sub(self.first));
                self.entries.truncate(keep as usize);
            }
            Op::Purge(upto, _) if self.purged.is_none() && !self.entries.is_empty() && upto.0 + 1 < self.first => {
                let what = "the purge would leave a hole before the log";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            Op::Purge(upto, id) if self.purged.as_ref().is_none_or(|(p, _)| p < upto) => {
                let gone = (upto.0 + 1).saturating_sub(self.first).min(self.entries.len() as u64);
                self.entries.drain(..gone as usize);
                self.first = self.first.max(upto.0 + 1);
                self.purged = Some((*upto, id.clone()));
            }
            Op::Purge(..) => {}
        }
        Ok(())
    }

    fn append(&mut self, entries: &[(LogIndex, Bytes)]) -> io::Result<()> {
        let next = match (self.entries.is_empty(), &self.purged) {
            (true, None) => entries.first().map_or(0, |(i, _)| i.0),
            _ => self.first + self.entries.len() as u64,
        };
        super::check_consecutive(next, entries)?;
        if self.entries.is_empty() {
            self.first = next;
        }
        self.entries.extend(entries.iter().map(|(_, bytes)| bytes.clone()));
        Ok(())
    }
}

impl MemLog {
    /// An empty log that calls each [`Durable`] at once.
    pub fn new() -> MemLog {
        MemLog::default()
    }

    /// From now on (`true`) what is written is not durable until [`MemLog::release`]; `false` releases all and
    /// goes back to making it durable at once.
    pub fn hold(&self, held: bool) {
        self.inner.lock().held = held;
        if !held {
            self.release(usize::MAX);
        }
    }

    /// Makes up to `count` of the held writes durable, oldest first, and tells their callers. How many it were.
    pub fn release(&self, count: usize) -> usize {
        if std::mem::replace(&mut self.inner.lock().delivering, true) {
            return 0;
        }
        let mut done = 0;
        loop {
            let mut inner = self.inner.lock();
            let next = if done < count { inner.pending.pop_front() } else { None };
            let Some((op, durable)) = next else {
                inner.delivering = false;
                return done;
            };
            let result = if inner.failed { Err(failed()) } else { inner.durable.apply(&op) };
            drop(inner);
            durable(result);
            done += 1;
        }
    }

    /// Writes that wait for [`MemLog::release`].
    pub fn held_writes(&self) -> usize {
        self.inner.lock().pending.len()
    }

    /// The disk fails: what is held gets an error, and so does everything written until [`MemLog::crash`].
    pub fn fail(&self) {
        self.inner.lock().failed = true;
        self.release(usize::MAX);
    }

    /// Loses power and comes back. Of the writes that are not durable the first `kept` survive all the same, as
    /// happens on real disks; none of their callers is told.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.inner.lock();
        let pending = std::mem::take(&mut inner.pending);
        for (op, _) in pending.iter().take(kept) {
            // An operation that was refused when it was made is not in the queue, so none fails here.
            let _ = inner.durable.apply(op);
        }
        inner.live = inner.durable.clone();
        inner.failed = false;
    }

    fn write(&self, op: Op, durable: Durable) {
        let mut inner = self.inner.lock();
        if inner.failed {
            drop(inner);
            return durable(Err(failed()));
        }
        if let Err(refused) = inner.live.apply(&op) {
            drop(inner);
            return durable(Err(refused));
        }
        inner.pending.push_back((op, durable));
        let held = inner.held;
        drop(inner);
        if !held {
            self.release(usize::MAX);
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("the log has failed")
}

impl GroupLog for MemLog {
    fn state(&self) -> LogState {
        self.inner.lock().live.state()
    }

    fn append(&self, entries: Vec<(LogIndex, Bytes)>, durable: Durable) {
        self.write(Op::Append(entries), durable);
    }

    fn save_vote(&self, vote: Bytes, durable: Durable) {
        self.write(Op::Vote(vote), durable);
    }

    fn save_committed(&self, committed: Option<LogIndex>) {
        self.inner.lock().live.committed = committed;
    }

    fn read(&self, from: LogIndex, to: LogIndex) -> io::Result<Vec<(LogIndex, Bytes)>> {
        Ok(self.inner.lock().live.read(from, to))
    }

    fn truncate_after(&self, last: Option<LogIndex>, durable: Durable) {
        self.write(Op::Truncate(last), durable);
    }

    fn purge(&self, upto: LogIndex, log_id: Bytes, durable: Durable) {
        self.write(Op::Purge(upto, log_id), durable);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn told() -> (Durable, Receiver<io::Result<()>>) {
        let (tx, rx) = sync_channel(1);
        (Box::new(move |result| tx.send(result).unwrap()), rx)
    }

    fn entry(index: u64) -> Vec<(LogIndex, Bytes)> {
        vec![(LogIndex(index), Bytes::from(vec![index as u8; 3]))]
    }

    #[test]
    fn behaves_as_a_log() {
        let log = MemLog::new();
        super::super::suite::behaves(move || Arc::new(log.clone()));
    }

    #[test]
    fn a_crash_loses_what_was_held() {
        let log = MemLog::new();
        log.append(entry(0), told().0);
        log.hold(true);
        let (durable, rx) = told();
        log.append(entry(1), durable);
        log.append(entry(2), told().0);
        assert_eq!(log.state().last, Some(LogIndex(2)), "readable at once");
        assert!(rx.try_recv().is_err());
        assert_eq!(log.release(1), 1);
        rx.recv().unwrap().unwrap();
        log.crash(0);
        assert_eq!(log.state().last, Some(LogIndex(1)));
    }

    #[test]
    fn a_failed_log_refuses_every_later_write() {
        let log = MemLog::new();
        log.hold(true);
        let (first, rx1) = told();
        log.append(entry(0), first);
        log.fail();
        assert!(rx1.recv().unwrap().is_err());
        let (second, rx2) = told();
        log.save_vote(Bytes::from_static(b"v"), second);
        assert!(rx2.recv().unwrap().is_err());
    }
}
