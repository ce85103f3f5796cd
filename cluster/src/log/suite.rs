//! How every log behaves, whatever it is kept on.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;

use super::{GroupLog, LogState};
use crate::ids::LogIndex;

/// Calls `write` and waits until it is durable.
pub(super) fn wait(write: impl FnOnce(super::Durable)) -> io::Result<()> {
    let (tx, rx) = sync_channel(1);
    write(Box::new(move |result| tx.send(result).unwrap()));
    rx.recv().unwrap()
}

pub(super) fn entry(index: u64, text: &str) -> (LogIndex, Bytes) {
    (LogIndex(index), Bytes::from(format!("{index}:{text}")))
}

pub(super) fn entries(range: std::ops::Range<u64>, text: &str) -> Vec<(LogIndex, Bytes)> {
    range.map(|i| entry(i, text)).collect()
}

pub(super) fn append(log: &dyn GroupLog, range: std::ops::Range<u64>, text: &str) -> io::Result<()> {
    wait(|durable| log.append(entries(range, text), durable))
}

/// Runs the suite. `open` opens the same log again after the last one was dropped; the first time it is empty.
pub(super) fn behaves(open: impl Fn() -> Arc<dyn GroupLog>) {
    let log = open();
    assert_eq!(log.state(), LogState::default());
    assert_eq!(log.read(LogIndex(0), LogIndex(9)).unwrap(), vec![]);

    append(&*log, 0..5, "a").unwrap();
    assert_eq!(log.state().last, Some(LogIndex(4)));
    assert_eq!(log.read(LogIndex(1), LogIndex(3)).unwrap(), entries(1..3, "a"));
    assert_eq!(log.read(LogIndex(3), LogIndex(99)).unwrap(), entries(3..5, "a"));
    assert_eq!(log.read(LogIndex(5), LogIndex(5)).unwrap(), vec![]);

    for wrong in [entries(6..7, "x"), entries(4..6, "x"), vec![entry(5, "x"), entry(7, "x")]] {
        let refused = wait(|durable| log.append(wrong, durable)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(log.state().last, Some(LogIndex(4)), "a refused append changes nothing");
    wait(|durable| log.append(vec![], durable)).unwrap();

    wait(|durable| log.save_vote(Bytes::from_static(b"v1"), durable)).unwrap();
    wait(|durable| log.save_vote(Bytes::from_static(b"v2"), durable)).unwrap();
    wait(|durable| log.truncate_after(Some(LogIndex(2)), durable)).unwrap();
    assert_eq!(log.state().last, Some(LogIndex(2)));
    append(&*log, 3..8, "b").unwrap();
    log.save_committed(Some(LogIndex(4)));
    wait(|durable| log.purge(LogIndex(1), Bytes::from_static(b"p1"), durable)).unwrap();
    let (log, expected) = reopened(log, &open);
    assert_eq!(expected.vote.as_deref(), Some(&b"v2"[..]));
    assert_eq!(expected.purged, Some((LogIndex(1), Bytes::from_static(b"p1"))));
    assert_eq!(expected.last, Some(LogIndex(7)));
    let all: Vec<_> = entries(2..3, "a").into_iter().chain(entries(3..8, "b")).collect();
    assert_eq!(log.read(LogIndex(0), LogIndex(99)).unwrap(), all);

    wait(|durable| log.purge(LogIndex(0), Bytes::from_static(b"p0"), durable)).unwrap();
    assert_eq!(log.state().purged, Some((LogIndex(1), Bytes::from_static(b"p1"))), "the purge point never goes back");

    wait(|durable| log.truncate_after(None, durable)).unwrap();
    assert_eq!(log.state().last, None);
    let (log, _) = reopened(log, &open);
    assert!(append(&*log, 3..4, "x").is_err(), "right after the purge point");
    append(&*log, 2..4, "c").unwrap();

    wait(|durable| log.purge(LogIndex(20), Bytes::from_static(b"p20"), durable)).unwrap();
    assert_eq!((log.state().last, log.state().purged.unwrap().0), (None, LogIndex(20)), "past the end: a snapshot");
    let (log, _) = reopened(log, &open);
    append(&*log, 21..23, "d").unwrap();
    let (log, _) = reopened(log, &open);
    assert_eq!(log.read(LogIndex(0), LogIndex(99)).unwrap(), entries(21..23, "d"));
}

fn reopened(log: Arc<dyn GroupLog>, open: &impl Fn() -> Arc<dyn GroupLog>) -> (Arc<dyn GroupLog>, LogState) {
    let before = (log.state(), log.read(LogIndex(0), LogIndex(u64::MAX)).unwrap());
    drop(log);
    let log = open();
    let mut after = (log.state(), log.read(LogIndex(0), LogIndex(u64::MAX)).unwrap());
    after.0.committed = before.0.committed;
    assert_eq!(after, before);
    let state = log.state();
    (log, state)
}
