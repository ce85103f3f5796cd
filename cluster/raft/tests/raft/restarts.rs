use std::fs;

use rookery_cluster::consensus::Consensus;
use rookery_raft::StartError;

use crate::harness::{Cluster, GROUP, Kept, eventually};
use crate::ledger::command;

/// One node, restarted after snapshots and purges.
fn stopped_after_snapshots() -> Cluster {
    let mut cluster = Cluster::with(1, |_| Kept { snapshot_bytes: 100_000, ..Kept::default() });
    let node = &cluster.nodes[0];
    node.on(async |groups| {
        for seq in 0..600 {
            groups.propose(GROUP, command(1, 1, seq, 1000)).await.unwrap();
        }
    });
    eventually("the log was purged", || node.kept[&GROUP].log.state().purged.is_some());
    cluster.nodes[0].kill();
    *cluster.nodes[0].kept[&GROUP].view.lock() = Default::default();
    cluster.nodes[0].start();
    cluster
}

#[test]
fn state_comes_back_from_snapshot_and_log() {
    let mut cluster = stopped_after_snapshots();
    cluster.nodes[0].add(GROUP).unwrap();
    cluster.nodes[0].on(async |groups| groups.linearize(GROUP).await).unwrap();
    assert_eq!(cluster.nodes[0].view().order.len(), 600);
}

#[test]
fn a_damaged_snapshot_is_refused_by_name() {
    let mut cluster = stopped_after_snapshots();
    let file = cluster.nodes[0].dir.join("1.snap");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&file, bytes).unwrap();
    let refused = cluster.nodes[0].add(GROUP).unwrap_err();
    assert!(matches!(&refused, StartError::Snapshot { path, .. } if *path == file), "{refused}");
    assert!(refused.to_string().contains("1.snap"));
}

#[test]
fn a_purged_log_without_its_snapshot_is_refused() {
    let mut cluster = stopped_after_snapshots();
    fs::remove_file(cluster.nodes[0].dir.join("1.snap")).unwrap();
    let refused = cluster.nodes[0].add(GROUP).unwrap_err();
    assert!(matches!(refused, StartError::Gap { snapshot: None, .. }), "{refused}");
}
