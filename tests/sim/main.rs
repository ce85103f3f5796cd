//! Several whole nodes of the pure rooms in one thread, from one seed: worker cores, interest, forwarding, session
//! shards, metadata and leases over a simulated log, network, clocks and disks, with model clients that speak MQTT
//! bytes. Faults come at random; promises are checked at every step that could break them; then all is healed and
//! must work again.
//!
//! `SIM_SEED=n cargo test --test sim` runs one seed, `SIM_SEEDS=n` as many, `SIM_TRACE=1` tells what happens.

mod admin;
mod client;
mod clock;
mod converge;
mod disk;
mod faults;
mod invariants;
mod keeper;
mod keeping;
mod log;
mod net;
mod node;
mod oracle;
mod prove;
mod retain;
mod rng;
mod scenarios;
mod share;
mod socket;
mod watching;
mod workload;
mod world;

use std::process::Command;

/// Seeds of a run that nobody asked more of.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What the run of a seed finds, if anything.
fn run_seed(seed: u64) -> Option<String> {
    let world = converge::run(seed);
    if !world.oracle.failed() {
        return None;
    }
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    let what = world.oracle.broken.join("\n  ");
    let found =
        format!("seed {seed}, commit {commit}:\n  {what}\n  again: SIM_SEED={seed} cargo test --test sim random_runs");
    eprintln!("{found}");
    Some(found)
}

#[test]
fn random_runs() {
    let (first, seeds) = match number("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (number("SIM_FIRST").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS)),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let run = |thread: u64| (first..first + seeds).filter(|s| s % threads == thread).filter_map(run_seed).count();
    let failed: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        all.into_iter().map(|it| it.join().expect("a run that comes to its end")).sum()
    });
    assert_eq!(failed, 0, "so many of {seeds} seeds failed");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 17] {
        let (one, two) = (converge::run(seed), converge::run(seed));
        assert!(one.happened > 2_000, "something happens: {}", one.happened);
        assert_eq!((one.digest, one.happened, one.now), (two.digest, two.happened, two.now));
    }
}
