//! Figures, not tests: `cargo test -p rookery-raft --test raft -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_cluster::consensus::Consensus;
use rookery_cluster::disk::SystemDisk;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::log::{SledLog, SledLogConfig};
use rookery_raft::Groups;

use crate::harness::{Cluster, GROUP, Kept};
use crate::ledger::command;

async fn run(groups: &Groups, callers: u64, each: u64, base: u64) -> f64 {
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let start = Instant::now();
    let callers_done = (0..callers).map(|caller| async move {
        for seq in 0..each {
            groups.propose(GROUP, command(1, base + caller, seq, 200)).await.unwrap();
        }
    });
    futures_util::future::join_all(callers_done).await;
    (callers * each) as f64 / start.elapsed().as_secs_f64()
}

fn report(cluster: &Cluster) {
    let leader = cluster.leader();
    for node in &cluster.nodes {
        let place = if node.id == leader { "leader" } else { "follower" };
        let base = node.id.0 * 10_000;
        let one = node.on(async |groups| run(groups, 1, 300, base).await);
        let many = node.on(async |groups| run(groups, 64, 100, base + 1000).await);
        println!("{place}: {one:.0}/s from one caller, {many:.0}/s from 64");
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_three_nodes_without_disk() {
    report(&Cluster::of(3));
}

#[test]
#[ignore = "a measurement"]
fn speed_of_three_nodes_with_fsync() {
    let dir = std::env::temp_dir().join(format!("rookery-speed-{}", std::process::id()));
    let cluster = Cluster::with(3, |node| {
        let disk = Arc::new(SystemDisk);
        let log = SledLog::open(&dir.join(node.id.to_string()), disk, SledLogConfig::default()).unwrap();
        Kept { log: Arc::new(log), ..Kept::default() }
    });
    report(&cluster);
    drop(cluster);
    let _ = std::fs::remove_dir_all(dir);
}

/// Processor time of this process so far, in ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn speed_idle_groups_cost_little() {
    let mut cluster = Cluster::of(3);
    let members = [1, 2, 3].map(NodeId);
    for group in (2..=17).map(GroupId) {
        cluster.nodes.iter_mut().for_each(|node| node.add(group).unwrap());
        cluster.nodes[group.0 as usize % 3].on(async |groups| groups.initialize(group, &members).await).unwrap();
    }
    for window in 1..=3 {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(5));
        let percent = (ticks() - before) as f64 / 5.0;
        println!("window {window}: {percent:.1} % of a core for 3 nodes with 17 groups");
    }
}
