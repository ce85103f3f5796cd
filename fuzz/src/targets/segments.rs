//! The segment log as it may be on a disk: what opens is what it was at some time, and goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rookery_cluster::disk::{Disk, MemDisk, read_all};
use rookery_cluster::ids::{GroupId, LogIndex};
use rookery_cluster::log::{LogState, SegmentLog, SegmentLogConfig};

use super::{ensure, head};

const DIR: &str = "/log";
const MARK: &str = "/log.mark";
const FIRST: &str = "/log/0000000000000001.seg";
/// Turns of the writer that one input may take.
const TURNS: usize = 64;
/// Edits of one input.
const EDITS: usize = 8;

/// What one group holds.
type Held = (LogState, Vec<(LogIndex, Bytes)>);

/// A log that was written in several steps.
struct Written {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// What all groups held after each step.
    states: Vec<Vec<(GroupId, Held)>>,
}

struct Zero;

impl rookery_cluster::rng::Rng for Zero {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

fn open(disk: &MemDisk) -> Option<SegmentLog> {
    let config = SegmentLogConfig { by_hand: true, segment_bytes: 4096, rng: Arc::new(Zero), ..Default::default() };
    SegmentLog::open(Path::new(DIR), Arc::new(disk.clone()), config).ok()
}

fn held(log: &SegmentLog) -> Result<Vec<(GroupId, Held)>, String> {
    let mut all = Vec::new();
    for group in log.groups() {
        let of = log.group(group);
        let state = of.state();
        let entries = of.read(LogIndex(0), LogIndex(u64::MAX)).map_err(|why| format!("{group} is not read: {why}"))?;
        let consecutive = entries.windows(2).all(|two| two[0].0.0 + 1 == two[1].0.0);
        ensure(consecutive, || format!("{group} has a hole: {entries:?}"))?;
        let last = entries.last().map(|(index, _)| *index);
        ensure(last == state.last, || format!("{group} ends with {last:?} and says {:?}", state.last))?;
        // Of what is only a hint a crash may leave an older one.
        all.push((group, (LogState { committed: None, ..state }, entries)));
    }
    Ok(all)
}

/// A byte for what it is: edits of a log that was written (file, place of 2 bytes, mask; without a mask the file ends
/// there), or the records of a sound checkpoint, behind their length of 2 bytes, and those of a batch after it.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    if how & 1 == 0 { edited(bytes) } else { framed(bytes) }
}

fn edited(edits: &[u8]) -> Result<(), String> {
    let written = written();
    let mut files = written.files.clone();
    for edit in edits.chunks_exact(4).take(EDITS) {
        let at = usize::from(edit[0]) % files.len();
        let content = &mut files[at].1;
        let place = usize::from(u16::from_be_bytes([edit[1], edit[2]]));
        match (content.get_mut(place), edit[3]) {
            (Some(_), 0) => content.truncate(place),
            (Some(byte), mask) => *byte ^= mask,
            (None, _) => {}
        }
    }
    let Some(log) = open(&disk_of(&files)?) else { return Ok(()) };
    let found = held(&log)?;
    ensure(written.states.contains(&found), || format!("what opens was never written: {found:?}"))
}

fn framed(input: &[u8]) -> Result<(), String> {
    let length = input.get(..2).map_or(0, |length| usize::from(u16::from_be_bytes([length[0], length[1]])));
    let records = input.get(2..).unwrap_or_default();
    let (checkpoint, data) = records.split_at(length.min(records.len()));
    let disk = disk_of(&[(PathBuf::from(FIRST), segment(checkpoint, data))])?;
    let Some(log) = open(&disk) else { return Ok(()) };
    let before = held(&log)?;
    let group = log.group(GroupId(1));
    let next = group.state().last.or(group.state().purged.map(|(upto, _)| upto)).map_or(1, |last| last.0 + 1);
    group.append(vec![(LogIndex(next), Bytes::from_static(b"more"))], Box::new(|_| ()));
    (0..TURNS).take_while(|_| log.turn()).count();
    let after = held(&log)?;
    log.close();
    drop(log);
    let again = open(&disk).ok_or_else(|| format!("it does not open again: {before:?}"))?;
    let again = held(&again)?;
    ensure(again == after, || format!("{after:?} became {again:?}"))
}

/// A segment of two sound batches, of a log without a mark, salt 0.
fn segment(checkpoint: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = b"RKSEGLOG\x01\0\0\0".to_vec();
    [1_u64, 0, 1].iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    for (number, kind, body) in [(1_u64, 1, checkpoint), (2, 0, data)] {
        let seed = [1, 0, number].iter().fold(0, |sum, part: &u64| crc32c::crc32c_append(sum, &part.to_le_bytes()));
        let mut batch = b"RKB\xb7\x01".to_vec();
        batch.extend([kind, 0, 0]);
        batch.extend(1_u64.to_le_bytes());
        batch.extend(number.to_le_bytes());
        batch.extend((body.len() as u32).to_le_bytes());
        batch.extend(crc32c::crc32c_append(seed, body).to_le_bytes());
        batch.extend(crc32c::crc32c_append(seed, &batch).to_le_bytes());
        file.extend(batch);
        file.extend(body);
    }
    file
}

fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> Result<MemDisk, String> {
    let disk = MemDisk::new(1);
    for (path, content) in files {
        let file = disk.create(path).map_err(|why| format!("the model of a disk: {why}"))?;
        file.append(content).map_err(|why| format!("the model of a disk: {why}"))?;
    }
    Ok(disk)
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = MemDisk::new(1);
        let log = open(&disk).expect("an empty disk");
        let mut states = Vec::new();
        for step in 0..12_u64 {
            write(&log, step);
            (0..TURNS).take_while(|_| log.turn()).count();
            states.push(held(&log).expect("a log that is sound"));
        }
        log.close();
        let content = |path: &Path| {
            let file = disk.open(path).expect("a file that was listed");
            read_all(&*file).expect("its content")
        };
        let names = disk.list(Path::new(DIR)).expect("a folder").into_iter().filter(|name| name.ends_with(".seg"));
        let paths = names.map(|name| Path::new(DIR).join(name)).chain([PathBuf::from(MARK)]);
        let files = paths.map(|path| (path.clone(), content(&path))).collect();
        Written { files, states }
    })
}

fn write(log: &SegmentLog, step: u64) {
    let group = log.group(GroupId(1 + (step % 2) as u32));
    let entry = |index| (LogIndex(index), Bytes::from(vec![step as u8; 300]));
    let next = group.state().last.map_or(1, |last| last.0 + 1);
    match step {
        5 => group.truncate_after(Some(LogIndex(next - 2)), Box::new(|_| ())),
        8 => group.purge(LogIndex(next - 2), Bytes::from_static(b"id"), Box::new(|_| ())),
        9 => group.save_vote(Bytes::from_static(b"vote"), Box::new(|_| ())),
        _ => group.append(vec![entry(next), entry(next + 1)], Box::new(|_| ())),
    }
}

/// Edits of each kind, and records of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let end = |file: usize, place: u16| [&[0, file as u8], &place.to_be_bytes()[..], &[0]].concat();
    let files = written().files.len();
    let mut all: Vec<Vec<u8>> =
        (0..files).flat_map(|file| [40, 200, 1000, 4000].map(|place| end(file, place))).collect();
    all.push(vec![0, 0, 0, 50, 1]);
    all.push(vec![0, files as u8 - 1, 0, 9, 255]);
    let record = |kind: u8, body: &[u8]| [&[kind, 1, 0, 0, 0], body].concat();
    let number = |n: u64| n.to_le_bytes();
    let option = |n: Option<u64>| [&[u8::from(n.is_some())], &number(n.unwrap_or(0))[..]].concat();
    let text = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    let bounds =
        [&number(7)[..], &number(7), &option(Some(6)), &[1], &text(b"v"), &option(Some(6)), &text(b"id")].concat();
    let checkpoint = record(7, &bounds);
    let data = [
        record(3, &text(b"vote")),
        record(4, &option(Some(3))),
        record(5, &[&number(9)[..], &text(b"id")].concat()),
        record(6, &number(8)),
        record(8, &[]),
    ];
    for data in data.iter().chain([&data.concat()]) {
        let length = (checkpoint.len() as u16).to_be_bytes();
        all.push([&[1], &length[..], &checkpoint, data].concat());
        all.push([&[1, 0, 0], &data[..]].concat());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_opens_and_what_is_framed_is_sound() {
        let log = open(&disk_of(&written().files).expect("a disk")).expect("a log");
        assert_eq!(Some(&held(&log).expect("sound")), written().states.last());
        assert!(written().files.len() > 2, "several segments");
        let framed = disk_of(&[(PathBuf::from(FIRST), segment(&[], b"\x06\x01\0\0\0\x08\0\0\0\0\0\0\0"))]);
        assert!(open(&framed.expect("a disk")).is_some());
    }
}
