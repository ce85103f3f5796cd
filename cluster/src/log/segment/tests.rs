mod crash;

use std::path::PathBuf;

use super::super::open_error::REJOIN;
use super::super::suite::{append, behaves, entries, wait};
use super::bounds::Bounds;
use super::format::{BATCH_HEADER, BatchKind, FileHeader, MOST_NUMBER};
use super::replay::segment_path;
use super::*;
use crate::disk::{Disk, MemDisk};

const G: GroupId = GroupId(1);

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn small() -> SegmentLogConfig {
    SegmentLogConfig { segment_bytes: 4 << 10, cache_bytes_per_group: 300, ..SegmentLogConfig::default() }
}

fn try_open(disk: &MemDisk) -> Result<SegmentLog, LogOpenError> {
    SegmentLog::open(&dir(), Arc::new(disk.clone()), small())
}

fn open(disk: &MemDisk) -> SegmentLog {
    try_open(disk).unwrap()
}

fn all(log: &dyn GroupLog) -> Vec<(LogIndex, Bytes)> {
    log.read(LogIndex(0), LogIndex(u64::MAX)).unwrap()
}

fn segments(disk: &MemDisk) -> Vec<PathBuf> {
    let names = disk.list(&dir()).unwrap();
    names.iter().filter(|n| n.ends_with(".seg")).map(|n| dir().join(n)).collect()
}

/// A group's log that closes the node's log with itself.
struct Owned(Arc<dyn GroupLog>, #[expect(dead_code, reason = "dropped with the group's log")] SegmentLog);

impl GroupLog for Owned {
    fn state(&self) -> LogState {
        self.0.state()
    }
    fn append(&self, entries: Vec<(LogIndex, Bytes)>, durable: Durable) {
        self.0.append(entries, durable);
    }
    fn save_vote(&self, vote: Bytes, durable: Durable) {
        self.0.save_vote(vote, durable);
    }
    fn save_committed(&self, committed: Option<LogIndex>) {
        self.0.save_committed(committed);
    }
    fn read(&self, from: LogIndex, to: LogIndex) -> io::Result<Vec<(LogIndex, Bytes)>> {
        self.0.read(from, to)
    }
    fn truncate_after(&self, last: Option<LogIndex>, durable: Durable) {
        self.0.truncate_after(last, durable);
    }
    fn purge(&self, upto: LogIndex, log_id: Bytes, durable: Durable) {
        self.0.purge(upto, log_id, durable);
    }
}

#[test]
fn behaves_as_a_log() {
    let disk = MemDisk::new(1);
    behaves(|| {
        let log = open(&disk);
        Arc::new(Owned(log.group(G), log))
    });
}

#[test]
fn groups_share_segments_and_old_ones_go() {
    let disk = MemDisk::new(2);
    let log = open(&disk);
    let groups: Vec<_> = (1..=3).map(|g| log.group(GroupId(g))).collect();
    for i in 0..100 {
        for group in &groups {
            append(&**group, i..i + 1, &"x".repeat(200)).unwrap();
        }
    }
    assert!(log.stats().segments > 10);
    for group in &groups {
        wait(|d| group.purge(LogIndex(97), Bytes::from_static(b"p"), d)).unwrap();
        assert_eq!(all(&**group), entries(98..100, &"x".repeat(200)));
    }
    log.close();
    let by_hand = SegmentLogConfig { by_hand: true, ..small() };
    let log = SegmentLog::open(&dir(), Arc::new(disk.clone()), by_hand).unwrap();
    while log.turn() {}
    assert!(segments(&disk).len() < 4, "{:?}", segments(&disk));
    assert_eq!(log.groups(), [GroupId(1), GroupId(2), GroupId(3)]);
    assert_eq!(all(&*log.group(GroupId(2))), entries(98..100, &"x".repeat(200)));
}

#[test]
fn an_idle_group_does_not_pin_segments() {
    let disk = MemDisk::new(3);
    let log = open(&disk);
    let (idle, busy) = (log.group(GroupId(1)), log.group(GroupId(2)));
    append(&*idle, 5..8, "idle").unwrap();
    wait(|d| idle.save_vote(Bytes::from_static(b"v"), d)).unwrap();
    for i in 0..300 {
        append(&*busy, i..i + 1, &"x".repeat(200)).unwrap();
        wait(|d| busy.purge(LogIndex(i), Bytes::from_static(b"p"), d)).unwrap();
    }
    let stats = log.stats();
    assert!(stats.segments < 8 && stats.moved >= 3, "{stats:?}");
    assert_eq!(all(&*idle), entries(5..8, "idle"));
    log.close();
    let log = open(&disk);
    assert_eq!(all(&*log.group(GroupId(1))), entries(5..8, "idle"));
    assert_eq!(log.group(GroupId(1)).state().vote.as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_removed_group_is_gone_and_may_come_back() {
    let disk = MemDisk::new(4);
    let log = open(&disk);
    append(&*log.group(G), 0..5, "a").unwrap();
    wait(|d| log.remove(G, d)).unwrap();
    assert_eq!(log.group(G).state(), LogState::default());
    append(&*log.group(G), 7..9, "b").unwrap();
    log.close();
    assert_eq!(all(&*open(&disk).group(G)), entries(7..9, "b"));
}

#[test]
fn a_failed_sync_ends_the_log() {
    let disk = MemDisk::new(5);
    let (tx, rx) = std::sync::mpsc::sync_channel(9);
    let fatal = FatalHook::new(move |why| tx.send(why.to_owned()).unwrap());
    let log = SegmentLog::open(&dir(), Arc::new(disk.clone()), SegmentLogConfig { fatal, ..small() }).unwrap();
    append(&*log.group(G), 0..1, "a").unwrap();
    disk.fail_sync_in(0);
    assert!(append(&*log.group(G), 1..2, "a").is_err());
    assert!(append(&*log.group(GroupId(2)), 0..1, "a").is_err());
    rx.recv().unwrap();
    log.close();
    assert!(rx.try_recv().is_err(), "told once");
}

#[test]
fn a_full_disk_ends_the_log() {
    let disk = MemDisk::new(6);
    let log = open(&disk);
    append(&*log.group(G), 0..1, "a").unwrap();
    disk.set_capacity(Some(500));
    assert_eq!(append(&*log.group(G), 1..2, &"a".repeat(500)).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    assert!(append(&*log.group(G), 2..3, "a").is_err());
    log.close();
    assert_eq!(all(&*open(&disk).group(G)), entries(0..1, "a"));
}

#[test]
fn one_directory_opens_once_at_a_time() {
    let disk = MemDisk::new(7);
    let log = open(&disk);
    assert!(matches!(try_open(&disk), Err(LogOpenError::InUse { .. })));
    log.close();
    assert!(append(&*log.group(G), 0..1, "a").is_err());
    open(&disk);
}

/// Three groups of 20 entries, over several segments, closed.
fn sample(disk: &MemDisk) -> Vec<Vec<(LogIndex, Bytes)>> {
    let log = open(disk);
    for i in 0..20 {
        for g in 1..=3 {
            append(&*log.group(GroupId(g)), i..i + 1, &"x".repeat(100)).unwrap();
        }
    }
    let found = (1..=3).map(|g| all(&*log.group(GroupId(g)))).collect();
    log.close();
    found
}

#[test]
fn every_flipped_byte_is_refused_or_harmless() {
    let written = MemDisk::new(8);
    let expected = sample(&written);
    let files = segments(&written);
    assert!(files.len() > 2);
    for path in &files {
        let len = written.content(path).unwrap().len() as u64;
        for at in (0..len).step_by(7) {
            assert!(written.flip(path, at, 0x40));
            match try_open(&written) {
                // Only the mark of the clean close may be lost without a word.
                Ok(log) => {
                    let found: Vec<_> = (1..=3).map(|g| all(&*log.group(GroupId(g)))).collect();
                    assert_eq!(found, expected, "{} at {at}", path.display());
                    assert!(at + 36 >= len && Some(path) == files.last(), "{} at {at}", path.display());
                    return;
                }
                Err(LogOpenError::Damaged { file, .. }) => assert_eq!(&file, path),
                Err(e) => panic!("{e}"),
            }
            assert!(written.flip(path, at, 0x40));
        }
    }
}

#[test]
fn zeros_or_a_missing_segment_are_damage() {
    let disk = MemDisk::new(9);
    sample(&disk);
    let files = segments(&disk);
    let last = files.last().unwrap();
    let file = disk.open(last).unwrap();
    let mut was = [0; 300];
    file.read_at(500, &mut was).unwrap();
    file.write_at(500, &[0; 300]).unwrap();
    let refused = try_open(&disk).err().unwrap().to_string();
    assert!(refused.contains("follows it") && refused.contains("byte "), "{refused}");
    file.write_at(500, &was).unwrap();
    disk.remove(&files[1]).unwrap();
    assert!(matches!(try_open(&disk), Err(LogOpenError::Damaged { file, .. }) if file == files[1]));
}

#[test]
fn a_rotten_entry_is_an_error_when_read() {
    let disk = MemDisk::new(10);
    let log = open(&disk);
    append(&*log.group(G), 0..20, &"x".repeat(100)).unwrap();
    let path = segments(&disk).remove(0);
    assert!(disk.flip(&path, 200, 1));
    let refused = log.group(G).read(LogIndex(0), LogIndex(3)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    assert!(refused.to_string().contains(".seg, byte "), "{refused}");
}

#[test]
fn large_entries_are_refused_and_many_are_split_over_batches() {
    let disk = MemDisk::new(11);
    let log = open(&disk);
    let large = vec![(LogIndex(0), Bytes::from(vec![0; MAX_ENTRY_BYTES + 1]))];
    assert_eq!(wait(|d| log.group(G).append(large, d)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let many: Vec<_> = (0..6).map(|i| (LogIndex(i), Bytes::from(vec![i as u8; 1 << 20]))).collect();
    wait(|d| log.group(G).append(many.clone(), d)).unwrap();
    assert!(log.stats().batches >= 2);
    assert_eq!(all(&*log.group(G)), many);
}

#[test]
fn a_caller_that_panics_harms_nobody_else() {
    let log = open(&MemDisk::new(12));
    log.group(G).append(entries(0..1, "a"), Box::new(|_| panic!("on purpose")));
    append(&*log.group(G), 1..2, "a").unwrap();
}

#[test]
fn groups_write_and_read_at_once_from_many_threads() {
    let disk = MemDisk::new(13);
    let log = open(&disk);
    let work = &|group: u32| {
        let log = log.group(GroupId(group));
        let text = format!("{group}:{}", "x".repeat(60));
        let (tx, rx) = std::sync::mpsc::sync_channel(400);
        for i in 0..300 {
            let tx = tx.clone();
            log.append(entries(i..i + 1, &text), Box::new(move |ok| tx.send((i, ok.is_ok())).unwrap()));
            let first = log.state().purged.map_or(0, |(p, _)| p.0 + 1);
            assert_eq!(all(&*log), entries(first..i + 1, &text));
            if i % 50 == 49 {
                log.purge(LogIndex(i - 20), Bytes::from_static(b"p"), Box::new(drop));
            }
        }
        let told: Vec<_> = rx.iter().take(300).collect();
        assert_eq!(told, (0..300).map(|i| (i, true)).collect::<Vec<_>>());
    };
    std::thread::scope(|scope| {
        for group in 1..=4 {
            scope.spawn(move || work(group));
        }
    });
    let before: Vec<_> = (1..=4).map(|g| all(&*log.group(GroupId(g)))).collect();
    log.close();
    let log = open(&disk);
    assert_eq!((1..=4).map(|g| all(&*log.group(GroupId(g)))).collect::<Vec<_>>(), before);
}

fn remove_last(disk: &MemDisk) {
    let last = segments(disk).pop().unwrap();
    disk.remove(&last).unwrap();
    disk.sync_dir(&dir()).unwrap();
}

/// Several segments, closed.
fn some(disk: &MemDisk) {
    let log = open(disk);
    let group = log.group(G);
    (0..40).for_each(|i| append(&*group, i..i + 1, &"x".repeat(400)).unwrap());
    log.close();
    assert!(segments(disk).len() > 2);
}

fn behind(disk: &MemDisk) -> String {
    match try_open(disk) {
        Err(error @ LogOpenError::BehindItself { .. }) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn a_wiped_or_shortened_log_does_not_open() {
    let disk = MemDisk::new(21);
    some(&disk);
    remove_last(&disk);
    let said = behind(&disk);
    assert!(said.starts_with("/log is behind itself: it holds batches up to") && said.ends_with(REJOIN), "{said}");
    while !segments(&disk).is_empty() {
        remove_last(&disk);
        behind(&disk);
    }
    assert!(behind(&disk).contains("it holds nothing, but batches up to"));
    assert!(segments(&disk).is_empty(), "nothing was made");
}

#[test]
fn a_vote_that_was_told_of_is_not_forgotten() {
    let disk = MemDisk::new(22);
    let log = open(&disk);
    append(&*log.group(G), 0..1, "a").unwrap();
    let path = segments(&disk).pop().unwrap();
    let before = disk.content(&path).unwrap().len();
    wait(|durable| log.group(G).save_vote(Bytes::from_static(b"v"), durable)).unwrap();
    let voted = disk.content(&path).unwrap().len();
    append(&*log.group(G), 1..2, "b").unwrap();
    // As a kill leaves it: nothing is closed.
    disk.crash();
    let cut = |len: usize| {
        let file = disk.open(&path).unwrap();
        file.set_len(len as u64).unwrap();
        file.sync_data().unwrap();
    };
    cut(voted);
    let opened = open(&disk);
    assert_eq!(opened.group(G).state().vote.as_deref(), Some(&b"v"[..]), "an entry after the mark is not missed");
    drop(opened);
    cut(before);
    behind(&disk);
}

#[test]
fn a_mark_that_is_gone_is_missed_unless_there_never_was_one() {
    let disk = MemDisk::new(23);
    some(&disk);
    disk.remove(&PathBuf::from("/log.mark")).unwrap();
    let missing = try_open(&disk).map(drop).unwrap_err();
    assert!(matches!(&missing, LogOpenError::Damaged { file, .. } if file.ends_with("log.mark")), "{missing}");
    // A log of before marks: the version of its segments says so.
    for path in segments(&disk) {
        let mut header = FileHeader::decode(&disk.content(&path).unwrap()).unwrap();
        header.marked = false;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        disk.open(&path).unwrap().write_at(0, &bytes).unwrap();
    }
    assert_eq!(all(&*open(&disk).group(G)).len(), 40);
    remove_last(&disk);
    behind(&disk);
}

/// A log of one segment, with these records in its checkpoint and in the batch after it.
fn made_of(checkpoint: &[Record], data: &[Record]) -> Result<SegmentLog, LogOpenError> {
    let disk = MemDisk::new(1);
    let header = FileHeader { segment: 1, salt: 5, first_batch: 1, marked: false };
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    for (kind, number, records) in [(BatchKind::Checkpoint, 1, checkpoint), (BatchKind::Data, 2, data)] {
        let mut batch = vec![0; BATCH_HEADER];
        records.iter().for_each(|record| record.encode(G, &mut batch));
        header.seal(kind, number, &mut batch);
        bytes.extend(batch);
    }
    disk.create(&segment_path(&dir(), 1)).unwrap().append(&bytes).unwrap();
    SegmentLog::open(&dir(), Arc::new(disk), small())
}

#[test]
fn what_cannot_be_is_refused_whatever_the_checksums_say() {
    assert!(made_of(&[], &[Record::Entry(3, "a".into())]).is_ok());
    let bounds = Bounds { first: 0, end: 1 << 40, ..Bounds::default() };
    assert!(made_of(&[Record::Group(bounds.clone())], &[]).is_err(), "more entries than there are bytes");
    assert!(made_of(&[], &[Record::Group(bounds)]).is_err(), "entries without a place, more than can be counted");
    let full = made_of(&[], &[Record::Purge(MOST_NUMBER - 1, "id".into())]).expect("there is an index after it");
    assert!(append(&*full.group(G), MOST_NUMBER..MOST_NUMBER + 1, "x").is_err(), "but none after that");
    for index in [MOST_NUMBER, u64::MAX] {
        for record in [Record::Entry(index, "a".into()), Record::Purge(index, "id".into())] {
            assert!(made_of(&[], &[record]).is_err(), "there is no index after it");
        }
    }
}
