use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::NodeId;
use rookery_raft::Groups;

use crate::harness::{Cluster, GROUP, Kept, eventually};
use crate::ledger::command;

/// How often the leader is killed; more with `ROOKERY_RAFT_KILLS`.
fn kills() -> u32 {
    std::env::var("ROOKERY_RAFT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// The nodes that writers may use, by node.
type Doors = Arc<Mutex<Vec<(NodeId, Groups)>>>;

/// Writes until told to stop; the same bytes again whenever the outcome is not known.
async fn writer(client: u64, doors: Doors, stop: Arc<AtomicBool>) -> BTreeSet<(u64, u64)> {
    let mut acknowledged = BTreeSet::new();
    for seq in 0.. {
        let bytes = command(1, client, seq, 64);
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                return acknowledged;
            }
            let door = {
                let doors = doors.lock();
                let n = doors.len();
                doors.get((client as usize + turn) % n.max(1)).map(|(_, groups)| groups.clone())
            };
            let Some(door) = door else { continue };
            match door.propose(GROUP, bytes.clone()).await {
                Ok(_) => {
                    acknowledged.insert((client, seq));
                    break;
                }
                Err(ProposeError::Unavailable | ProposeError::Unknown) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // The node that was asked is being killed.
                Err(ProposeError::Stopped(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_are_killed() {
    // Small, so that snapshots and purges happen meanwhile.
    let kept = |_: &_| Kept { snapshot_bytes: 100_000, ..Kept::default() };
    let mut cluster = Cluster::with(3, kept);
    let doors: Doors = Arc::default();
    *doors.lock() = cluster.nodes.iter().map(|node| (node.id, node.groups().clone())).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (their_doors, their_stop) = (doors.clone(), stop.clone());
    let writers = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writers = (1..=4).map(|client| writer(client, their_doors.clone(), their_stop.clone()));
            futures_util::future::join_all(writers).await
        })
    });
    for _ in 0..kills() {
        let leader = cluster.leader();
        let before = cluster.node(leader).view().order.len();
        eventually("writes go on", || {
            cluster.node(leader).view().order.len() > before + 20 || !cluster.node(leader).status().leads
        });
        doors.lock().retain(|(id, _)| *id != leader);
        cluster.node(leader).kill();
        cluster.leader();
        let node = cluster.node(leader);
        node.restart();
        doors.lock().push((leader, node.groups().clone()));
    }
    cluster.leader();
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writers.join().unwrap();
    let view = cluster.settled();
    let mut total = 0;
    for id in acknowledged.iter().flatten() {
        assert!(view.order.contains_key(id), "{id:?} was acknowledged and is lost");
        total += 1;
    }
    println!("{total} acknowledged, {} applied, {} kills", view.order.len(), kills());
    assert!(total > 0);
}

#[test]
fn all_killed_at_once_come_back_with_everything() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    cluster.node(leader).on(async |groups| {
        let all = (0..100).map(|seq| groups.propose(GROUP, command(1, 1, seq, 10)));
        futures_util::future::try_join_all(all).await.unwrap();
    });
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    for node in &mut cluster.nodes {
        *node.kept[&GROUP].view.lock() = Default::default();
        node.restart();
    }
    cluster.leader();
    let reader = &cluster.nodes[0];
    reader.on(async |groups| groups.linearize(GROUP).await).unwrap();
    assert_eq!(reader.view().order.len(), 100);
    assert_eq!(cluster.settled().order.len(), 100);
}
