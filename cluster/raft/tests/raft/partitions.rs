use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::NodeId;

use crate::harness::{Cluster, GROUP, eventually};
use crate::ledger::command;

#[test]
fn a_leader_that_is_cut_off_neither_reads_nor_confirms_and_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::of(3);
    for round in 0..2 {
        let old = cluster.leader();
        let base = round * 100;
        cluster.node(old).on(async |groups| groups.propose(GROUP, command(1, 1, base, 0)).await).unwrap();
        cluster.settled();
        cluster.wires.isolate(&[old]);
        // It may still believe that it leads; it must not act on it.
        let (read, lost) = cluster.node(old).on(async |groups| {
            let confirmed = groups.confirm_leadership(GROUP).await;
            assert_eq!(confirmed, Err(ProposeError::Unavailable));
            tokio::join!(groups.linearize(GROUP), groups.propose(GROUP, command(1, 1, base + 1, 0)))
        });
        assert_eq!(read, Err(ProposeError::Unavailable));
        assert!(matches!(lost, Err(ProposeError::Unknown | ProposeError::Unavailable)), "{lost:?}");

        let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != old).collect();
        eventually("the others have a leader", || {
            others.iter().any(|id| cluster.nodes[id.0 as usize - 1].status().leads)
        });
        cluster.node(others[0]).on(async |groups| {
            for seq in 2..22 {
                groups.propose(GROUP, command(1, 1, base + seq, 0)).await.unwrap();
            }
        });
        assert!(!cluster.node(old).view().order.contains_key(&(1, base + 2)));

        cluster.wires.isolate(&[]);
        cluster.node(old).on(async |groups| while groups.linearize(GROUP).await.is_err() {});
        let view = cluster.settled();
        assert!((2..22).chain([0]).all(|seq| view.order.contains_key(&(1, base + seq))));
    }
}

#[test]
fn one_that_was_cut_off_does_not_depose_the_leader_when_it_is_back() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let term = cluster.node(leader).status().term;
    let away = NodeId(leader.0 % 3 + 1);
    cluster.wires.isolate(&[away]);
    // This gives up after several election timeouts.
    let read = cluster.node(away).on(async |groups| groups.linearize(GROUP).await);
    assert_eq!(read, Err(ProposeError::Unavailable));
    cluster.node(leader).on(async |groups| groups.propose(GROUP, command(1, 1, 1, 0)).await).unwrap();
    cluster.wires.isolate(&[]);
    eventually("it caught up", || cluster.node(away).view().order.len() == 1);
    assert_eq!(cluster.leader(), leader);
    assert_eq!(cluster.node(away).status().term, term, "pre-vote keeps the term");
}
