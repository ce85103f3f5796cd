use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;

use super::super::suite::{append, behaves, entries, wait};
use super::*;
use crate::disk::MemDisk;

/// A directory that is removed afterwards.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("rookery-sled-{}-{name}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        TempDir(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn try_open(dir: &Path) -> Result<SledLog, LogOpenError> {
    SledLog::open(dir, Arc::new(SystemDisk), SledLogConfig::default())
}

fn open(dir: &Path) -> SledLog {
    try_open(dir).unwrap()
}

fn all(log: &SledLog) -> Vec<(LogIndex, Bytes)> {
    log.read(LogIndex(0), LogIndex(u64::MAX)).unwrap()
}

/// Copies the database and the mark as they are on disk now.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

#[test]
fn behaves_as_a_log() {
    let dir = TempDir::new("suite");
    behaves(|| Arc::new(open(&dir.0)));
}

#[test]
fn callers_are_told_in_order_and_what_was_told_survives_without_a_close() {
    let (dir, copy) = (TempDir::new("order"), TempDir::new("order-copy"));
    let log = open(&dir.0);
    let (tx, rx) = sync_channel(300);
    for i in 0..100 {
        let (a, b) = (tx.clone(), tx.clone());
        log.append(entries(i..i + 1, "x"), Box::new(move |r| a.send((2 * i, r.is_ok())).unwrap()));
        let vote = Bytes::from(i.to_string());
        log.save_vote(vote, Box::new(move |r| b.send((2 * i + 1, r.is_ok())).unwrap()));
    }
    let told: Vec<_> = rx.iter().take(200).collect();
    assert_eq!(told, (0..200).map(|i| (i, true)).collect::<Vec<_>>());
    copy_dir(&dir.0, &copy.0);
    let other = open(&copy.0);
    assert_eq!(other.state(), log.state());
    assert_eq!(all(&other), all(&log));
}

#[test]
fn large_rows_are_refused_and_harm_nothing() {
    let dir = TempDir::new("large");
    let log = open(&dir.0);
    let large = vec![(LogIndex(0), Bytes::from(vec![0; 64 << 10]))];
    assert_eq!(wait(|d| log.append(large, d)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    append(&log, 0..3, "a").unwrap();
}

#[test]
fn one_directory_opens_once() {
    let dir = TempDir::new("once");
    let log = open(&dir.0);
    assert!(matches!(try_open(&dir.0), Err(LogOpenError::InUse { .. })));
    log.close();
    assert!(wait(|d| log.save_vote(Bytes::new(), d)).is_err());
    open(&dir.0);
}

/// A log of 200 rows, a vote, a purge point and a truncation, closed.
fn sample(dir: &Path) -> (LogState, Vec<(LogIndex, Bytes)>) {
    let log = open(dir);
    append(&log, 0..250, &"a".repeat(100)).unwrap();
    wait(|d| log.truncate_after(Some(LogIndex(149)), d)).unwrap();
    wait(|d| log.save_vote(Bytes::from_static(b"vote"), d)).unwrap();
    for i in 150..200 {
        append(&log, i..i + 1, "b").unwrap();
    }
    wait(|d| log.purge(LogIndex(9), Bytes::from_static(b"p"), d)).unwrap();
    let found = (log.state(), all(&log));
    log.close();
    found
}

#[test]
fn a_flipped_byte_is_refused_or_harmless_never_a_shorter_log() {
    let (dir, copy) = (TempDir::new("flip"), TempDir::new("flip-copy"));
    let expected = sample(&dir.0);
    let file = copy.0.join("sled/db");
    let written = fs::read(dir.0.join("sled/db")).unwrap();
    // The file is longer than what was written to it; the end of that is zeros.
    let end = written.iter().rposition(|b| *b != 0).unwrap();
    let mut refused = 0;
    for at in (20..end).step_by(end / 24) {
        let _ = fs::remove_dir_all(&copy.0);
        copy_dir(&dir.0, &copy.0);
        let mut bytes = written.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        match try_open(&copy.0) {
            Ok(log) => {
                // The committed index is a hint, which may be lost.
                let mut state = log.state();
                state.committed = state.committed.or(expected.0.committed);
                assert_eq!((state, all(&log)), expected, "flipped at {at}");
            }
            Err(LogOpenError::Damaged { .. } | LogOpenError::BehindItself { .. }) => refused += 1,
            Err(e) => panic!("flipped at {at}: {e}"),
        }
    }
    assert!(refused > 5, "refused {refused}");
}

#[test]
fn an_older_database_is_behind_itself() {
    let (dir, old) = (TempDir::new("behind"), TempDir::new("behind-old"));
    let steps: [fn(&SledLog); 4] = [
        |log| append(log, 5..6, "a").unwrap(),
        |log| wait(|d| log.save_vote(Bytes::from_static(b"v2"), d)).unwrap(),
        |log| wait(|d| log.truncate_after(Some(LogIndex(2)), d)).unwrap(),
        |log| wait(|d| log.purge(LogIndex(50), Bytes::from_static(b"p"), d)).unwrap(),
    ];
    for (at, step) in steps.into_iter().enumerate() {
        for d in [&dir.0, &old.0] {
            let _ = fs::remove_dir_all(d);
        }
        let log = open(&dir.0);
        append(&log, 0..5, "a").unwrap();
        wait(|d| log.save_vote(Bytes::from_static(b"v1"), d)).unwrap();
        log.close();
        copy_dir(&dir.0, &old.0);
        let log = open(&dir.0);
        step(&log);
        log.close();
        fs::remove_dir_all(dir.0.join("sled")).unwrap();
        copy_dir(&old.0.join("sled"), &dir.0.join("sled"));
        let refused = try_open(&dir.0).err().unwrap();
        assert!(matches!(refused, LogOpenError::BehindItself { .. }), "step {at}: {refused}");
        fs::remove_dir_all(dir.0.join("sled")).unwrap();
        assert!(matches!(try_open(&dir.0), Err(LogOpenError::BehindItself { .. })), "step {at}: wiped");
    }
}

#[test]
fn an_older_mark_is_no_reason_to_refuse() {
    let (dir, old) = (TempDir::new("mark"), TempDir::new("mark-old"));
    let log = open(&dir.0);
    append(&log, 0..50, "a").unwrap();
    log.close();
    fs::create_dir_all(&old.0).unwrap();
    fs::copy(dir.0.join("mark"), old.0.join("mark")).unwrap();
    let log = open(&dir.0);
    // As if the power went out after the database's sync and before the mark's: what was cut below the mark and
    // written since was promised to nobody.
    wait(|d| log.truncate_after(Some(LogIndex(9)), d)).unwrap();
    append(&log, 10..20, "b").unwrap();
    wait(|d| log.truncate_after(Some(LogIndex(14)), d)).unwrap();
    wait(|d| log.save_vote(Bytes::from_static(b"v"), d)).unwrap();
    let expected = (log.state(), all(&log));
    log.close();
    let lowest = rows::Truncations { count: 2, lowest_end: 10 };
    let db = sled::open(dir.0.join("sled")).unwrap();
    db.open_tree("log").unwrap().insert(rows::TRUNCATIONS, lowest.encode()).unwrap();
    db.flush().unwrap();
    drop(db);
    fs::copy(old.0.join("mark"), dir.0.join("mark")).unwrap();
    let log = open(&dir.0);
    assert_eq!((log.state(), all(&log)), expected);
    log.close();
    fs::remove_file(dir.0.join("mark")).unwrap();
    assert!(matches!(try_open(&dir.0), Err(LogOpenError::Damaged { .. })), "a log without its mark");
}

#[test]
fn other_rows_than_the_promised_ones_are_damage() {
    let dir = TempDir::new("other");
    let log = open(&dir.0);
    append(&log, 0..5, "a").unwrap();
    log.close();
    let db = sled::open(dir.0.join("sled")).unwrap();
    let tree = db.open_tree("log").unwrap();
    let entry = b"not it";
    let before = rows::decode_row(&3u64.to_be_bytes(), &tree.get(3u64.to_be_bytes()).unwrap().unwrap()).unwrap().0;
    tree.insert(4u64.to_be_bytes(), rows::encode_row(4, rows::chain(before, 4, entry), entry)).unwrap();
    drop((tree, db));
    assert!(matches!(try_open(&dir.0), Err(LogOpenError::Damaged { .. })));
    let db = sled::open(dir.0.join("sled")).unwrap();
    db.open_tree("log").unwrap().remove(2u64.to_be_bytes()).unwrap();
    drop(db);
    let refused = try_open(&dir.0).err().unwrap().to_string();
    assert!(refused.contains("row 2 before it is missing"), "{refused}");
}

#[test]
fn compaction_keeps_the_log_and_survives_being_cut_short() {
    let dir = TempDir::new("compact");
    let expected = sample(&dir.0);
    let eager = || SledLogConfig { compact_above_bytes: 0, ..SledLogConfig::default() };
    let log = open(&dir.0);
    for round in 0..300 {
        append(&log, 200..203, &format!("{round}").repeat(3000)).unwrap();
        wait(|d| log.truncate_after(Some(LogIndex(199)), d)).unwrap();
    }
    let before = log.size_on_disk().unwrap();
    log.close();
    let log = SledLog::open(&dir.0, Arc::new(SystemDisk), eager()).unwrap();
    assert!(log.size_on_disk().unwrap() < before);
    assert_eq!((log.state(), all(&log)), expected);
    log.close();
    fs::rename(dir.0.join("sled"), dir.0.join("sled.old")).unwrap();
    fs::create_dir(dir.0.join("sled.fresh")).unwrap();
    let log = open(&dir.0);
    assert_eq!((log.state(), all(&log)), expected);
    assert!(!dir.0.join("sled.fresh").exists() && !dir.0.join("sled.old").exists());
}

#[test]
fn a_failed_sync_of_the_mark_ends_the_log() {
    let dir = TempDir::new("fatal");
    let disk = MemDisk::new(7);
    let (tx, rx) = sync_channel(9);
    let fatal = FatalHook::new(move |why| tx.send(why.to_owned()).unwrap());
    let mark = Some(PathBuf::from("/other/mark"));
    let log =
        SledLog::open(&dir.0, Arc::new(disk.clone()), SledLogConfig { fatal, mark, ..Default::default() }).unwrap();
    append(&log, 0..2, "a").unwrap();
    disk.fail_sync_in(0);
    assert!(append(&log, 2..3, "a").is_err());
    assert!(append(&log, 3..4, "a").is_err());
    assert!(wait(|d| log.save_vote(Bytes::new(), d)).is_err());
    rx.recv().unwrap();
    log.close();
    assert!(rx.try_recv().is_err(), "told once");
}
