//! How many durable appends a second the logs take on this disk:
//! `cargo run --release -p rookery-cluster --example log_bench -- [DIR] [SECONDS]`.
//!
//! Each group appends its next entry once the one before is durable, as a Raft leader under a steady load does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::{Clock, Moment, SystemClock};
use rookery_cluster::disk::{MemDisk, SharedDisk, SystemDisk};
use rookery_cluster::ids::{GroupId, LogIndex};
use rookery_cluster::log::{GroupLog, SegmentLog, SegmentLogConfig, SledLog, SledLogConfig};

/// Entries are purged in runs of this many, keeping as many.
const PURGE_EVERY: u64 = 1000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("rookery-log-bench"), PathBuf::from);
    let time = Duration::from_secs(args.next().map_or(Ok(3), |s| s.parse())?);
    for (groups, bytes) in [(1, 1 << 10), (16, 1 << 10), (64, 1 << 10), (16, 16 << 10)] {
        segment(&dir.join("segment"), groups, bytes, time)?;
    }
    for bytes in [256, 4 << 10] {
        let on_disk: SharedDisk = Arc::new(SystemDisk);
        sled("sled", &dir.join("sled"), on_disk, bytes, time)?;
        sled("sled, mark in memory", &dir.join("sled"), Arc::new(MemDisk::new(0)), bytes, time)?;
    }
    Ok(())
}

fn segment(dir: &Path, groups: u32, bytes: usize, time: Duration) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(dir);
    let log = SegmentLog::open(dir, Arc::new(SystemDisk), SegmentLogConfig::default())?;
    let handles: Vec<_> = (1..=groups).map(|g| log.group(GroupId(g))).collect();
    let done = run(&handles, bytes, time);
    let stats = log.stats();
    println!(
        "segment log, {groups:2} groups x {bytes:5} B: {done}, {} batches, {} segments",
        stats.batches, stats.segments
    );
    log.close();
    let start = SystemClock.now();
    SegmentLog::open(dir, Arc::new(SystemDisk), SegmentLogConfig::default())?.close();
    println!("  opened {} MiB in {:?}", stats.bytes >> 20, SystemClock.now().since(start));
    Ok(std::fs::remove_dir_all(dir)?)
}

fn sled(name: &str, dir: &Path, disk: SharedDisk, bytes: usize, time: Duration) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(dir);
    let log = Arc::new(SledLog::open(dir, disk, SledLogConfig::default())?);
    for in_flight in [1, 16] {
        let done = pipelined(log.clone(), bytes, in_flight, time);
        println!("{name}, {in_flight:2} in flight x {bytes:5} B: {done}");
    }
    log.close();
    Ok(std::fs::remove_dir_all(dir)?)
}

fn run(groups: &[Arc<dyn GroupLog>], bytes: usize, time: Duration) -> String {
    let (tx, rx) = sync_channel(groups.len());
    let entry = Bytes::from(vec![7; bytes]);
    let mut next = vec![0; groups.len()];
    let mut sent = vec![Moment::default(); groups.len()];
    let mut took = Vec::new();
    let start = SystemClock.now();
    let mut append = |group: usize, sent: &mut [Moment]| {
        let (index, tx) = (LogIndex(next[group]), tx.clone());
        next[group] += 1;
        sent[group] = SystemClock.now();
        // A failed append just never comes back.
        groups[group].append(vec![(index, entry.clone())], Box::new(move |ok| drop(ok.map(|()| tx.send(group)))));
        if index.0 > PURGE_EVERY && index.0 % PURGE_EVERY == 0 {
            groups[group].purge(LogIndex(index.0 - PURGE_EVERY), Bytes::from_static(b"id"), Box::new(drop));
        }
    };
    (0..groups.len()).for_each(|group| append(group, &mut sent));
    while let Ok(group) = rx.recv_timeout(Duration::from_secs(5)) {
        let now = SystemClock.now();
        took.push(now.since(sent[group]));
        if now.since(start) > time {
            break;
        }
        append(group, &mut sent);
    }
    summary(took, SystemClock.now().since(start))
}

fn pipelined(log: Arc<SledLog>, bytes: usize, in_flight: u64, time: Duration) -> String {
    let (tx, rx) = sync_channel(in_flight as usize);
    let entry = Bytes::from(vec![7; bytes]);
    let mut took = Vec::new();
    let start = SystemClock.now();
    let first = log.state().last.map_or(0, |last| last.0 + 1);
    let append = |index: u64| {
        let (tx, sent) = (tx.clone(), SystemClock.now());
        let durable = move |ok: std::io::Result<()>| drop(ok.map(|()| tx.send(sent)));
        log.append(vec![(LogIndex(index), entry.clone())], Box::new(durable));
    };
    (first..first + in_flight).for_each(&append);
    let mut next = first + in_flight;
    let mut waiting = in_flight;
    while let Ok(sent) = rx.recv_timeout(Duration::from_secs(5)) {
        waiting -= 1;
        took.push(SystemClock.now().since(sent));
        if SystemClock.now().since(start) < time {
            append(next);
            next += 1;
            waiting += 1;
        } else if waiting == 0 {
            break;
        }
    }
    summary(took, SystemClock.now().since(start))
}

fn summary(mut took: Vec<Duration>, all: Duration) -> String {
    took.sort_unstable();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or_default();
    let rate = took.len() as f64 / all.as_secs_f64();
    format!("{rate:7.0} appends/s, p50 {:?}, p99 {:?}", at(0.5), at(0.99))
}
