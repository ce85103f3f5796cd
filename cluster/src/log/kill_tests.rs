//! kill -9 in the middle of writing: what the killed process said was durable is there when the next one opens it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;

use super::suite::{append, entries, wait};
use super::{GroupLog, SegmentLog, SegmentLogConfig, SledLog, SledLogConfig};
use crate::disk::SystemDisk;
use crate::ids::{GroupId, LogIndex};

const CHILD: &str = "ROOKERY_LOG_KILL_TEST_DIR";
const KILLS: usize = 6;

enum Opened {
    Segment(SegmentLog),
    Sled(SledLog),
}

impl Opened {
    fn at(dir: &Path) -> Opened {
        if dir.ends_with("sled") {
            return Opened::Sled(SledLog::open(dir, Arc::new(SystemDisk), SledLogConfig::default()).unwrap());
        }
        let cfg = SegmentLogConfig { segment_bytes: 32 << 10, cache_bytes_per_group: 1000, ..Default::default() };
        Opened::Segment(SegmentLog::open(dir, Arc::new(SystemDisk), cfg).unwrap())
    }

    fn with<T>(&self, act: impl FnOnce(&dyn GroupLog) -> T) -> T {
        match self {
            Opened::Segment(log) => act(&*log.group(GroupId(1))),
            Opened::Sled(log) => act(log),
        }
    }
}

const TEXT: &str = "some text that is long enough to fill a segment before too long";

/// Not a test of its own: what the killed process does. Says what is durable, and what it is about to cut.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let say = |what: &str, index: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what} {index}").and_then(|()| out.flush()).unwrap();
    };
    Opened::at(&dir).with(|log| {
        for round in 1.. {
            let state = log.state();
            let next = state.last.or(state.purged.map(|p| p.0)).map_or(0, |last| last.0 + 1);
            append(log, next..next + 2, TEXT).unwrap();
            say("end", next + 2);
            if round % 5 == 0 {
                wait(|d| log.save_vote(Bytes::from(next.to_be_bytes().to_vec()), d)).unwrap();
                say("vote", next);
            }
            if round % 7 == 0 {
                say("cut", next + 1);
                wait(|d| log.truncate_after(Some(LogIndex(next)), d)).unwrap();
            }
            if round % 20 == 0 && next > 60 {
                wait(|d| log.purge(LogIndex(next - 60), Bytes::from_static(b"id"), d)).unwrap();
            }
        }
    });
}

fn survives_kills(kind: &str) {
    let dir = std::env::temp_dir().join(format!("rookery-kill-{}", std::process::id())).join(kind);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let (mut end, mut vote) = (0, 0);
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["log::kill_tests::child", "--exact", "--nocapture"])
            .env(CHILD, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut hear = |line: String| match line.split_once(' ').map(|(what, n)| (what, n.parse())) {
            Some(("end" | "cut", Ok(n))) => end = n,
            Some(("vote", Ok(n))) => vote = n,
            _ => {}
        };
        out.by_ref().take(150 + 97 * kill).for_each(&mut hear);
        child.kill().unwrap();
        out.for_each(hear);
        child.wait().unwrap();
        Opened::at(&dir).with(|log| {
            let state = log.state();
            let last = state.last.or(state.purged.as_ref().map(|p| p.0)).unwrap().0;
            assert!(last + 1 >= end, "{kind}: {end} was promised, {last} is there");
            let saved = state.vote.map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()));
            assert!(saved >= vote, "{kind}: vote {vote} was promised, {saved} is there");
            let first = state.purged.map_or(0, |p| p.0.0 + 1);
            assert_eq!(log.read(LogIndex(0), LogIndex(u64::MAX)).unwrap(), entries(first..last + 1, TEXT));
        });
    }
    assert!(end > 100 && vote > 0);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_segment_log_survives_kills() {
    survives_kills("segment");
}

#[test]
fn the_sled_log_survives_kills() {
    survives_kills("sled");
}
