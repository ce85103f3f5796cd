use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::NodeId;
use rookery_raft::{InitError, StartError};

use crate::harness::{Cluster, GROUP, Kept, eventually};
use crate::ledger::command;

#[test]
fn one_node_grows_to_three_and_shrinks_again() {
    let mut cluster = Cluster::bare(3);
    cluster.nodes.iter_mut().for_each(|node| node.add(GROUP).unwrap());
    let first = &cluster.nodes[0];
    first.on(async |groups| {
        groups.initialize(GROUP, &[NodeId(1)]).await.unwrap();
        groups.propose(GROUP, command(1, 1, 0, 0)).await.unwrap();
        let three = [1, 2, 3].map(NodeId).to_vec();
        groups.change_membership(GROUP, three.clone(), vec![]).await.unwrap();
        assert_eq!(groups.status(GROUP).voters, three);
        groups.propose(GROUP, command(1, 1, 1, 0)).await.unwrap();
    });
    assert_eq!(cluster.leader(), NodeId(1));
    assert_eq!(cluster.settled().order.len(), 2);
    let refused = cluster.nodes[1].on(async |groups| groups.change_membership(GROUP, vec![NodeId(2)], vec![]).await);
    assert_eq!(refused, Err(ProposeError::Unavailable), "not the leader");
    let first = &cluster.nodes[0];
    first.on(async |groups| groups.change_membership(GROUP, vec![NodeId(1)], vec![NodeId(3)]).await).unwrap();
    let status = first.status();
    assert_eq!((status.voters, status.learners), (vec![NodeId(1)], vec![NodeId(3)]));
    cluster.nodes[1].kill();
    cluster.nodes[0].on(async |groups| groups.propose(GROUP, command(1, 1, 2, 0)).await).unwrap();
    assert_eq!(cluster.settled().order.len(), 3);
}

#[test]
fn leadership_is_handed_over_without_an_election_timeout() {
    let mut cluster = Cluster::of(3);
    let from = cluster.leader();
    let to = NodeId(from.0 % 3 + 1);
    let elsewhere = cluster.node(to).on(async |groups| groups.transfer_leader(GROUP, from).await);
    assert_eq!(elsewhere, Err(ProposeError::Unavailable), "only the leader can");
    let seen = cluster.node(to).status();
    cluster.node(from).on(async |groups| {
        assert_eq!(groups.transfer_leader(GROUP, NodeId(9)).await, Err(ProposeError::Unavailable), "no voter");
        // It is handed to nobody who lacks entries, which a busy machine may bring late.
        while groups.transfer_leader(GROUP, to).await == Err(ProposeError::Unavailable) {
            assert!(groups.status(GROUP).leads, "or it leads no more");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let status = cluster.node(to).on(async |groups| {
        let mut status = groups.changed(GROUP, seen).await;
        while !status.leads {
            status = groups.changed(GROUP, status).await;
        }
        status
    });
    assert_eq!(status.leader, Some(to));
    cluster.node(from).on(async |groups| groups.propose(GROUP, command(1, 1, 1, 0)).await).unwrap();
    assert_eq!(cluster.leader(), to);
}

#[test]
fn a_blank_learner_gets_the_snapshot_and_what_follows() {
    let mut cluster = Cluster::bare(2);
    for node in &mut cluster.nodes {
        node.kept.insert(GROUP, Kept { snapshot_bytes: 200_000, ..Kept::default() });
        node.add(GROUP).unwrap();
    }
    let first = &cluster.nodes[0];
    first.on(async |groups| {
        groups.initialize(GROUP, &[NodeId(1)]).await.unwrap();
        // Entries of a command each, so that more than the kept tail of the log is behind the snapshot.
        for seq in 0..600 {
            groups.propose(GROUP, command(1, 1, seq, 1000)).await.unwrap();
        }
    });
    let log = first.kept[&GROUP].log.clone();
    eventually("the log was purged", || log.state().purged.is_some());
    first.on(async |groups| {
        groups.change_membership(GROUP, vec![NodeId(1)], vec![NodeId(2)]).await.unwrap();
        groups.propose(GROUP, command(1, 1, 600, 0)).await.unwrap();
    });
    eventually("the learner has all", || cluster.nodes[1].view().order.len() == 601);
    assert_eq!(cluster.settled().order.len(), 601);
    assert!(cluster.nodes[1].kept[&GROUP].log.state().purged.is_some(), "it came by snapshot");
    // The learner restarts from the snapshot that it was sent.
    cluster.nodes[1].kill();
    *cluster.nodes[1].kept[&GROUP].view.lock() = Default::default();
    cluster.nodes[1].restart();
    eventually("the learner is back", || cluster.nodes[1].view().order.len() == 601);
}

#[test]
fn a_group_is_initialized_once_and_runs_once() {
    let mut cluster = Cluster::of(1);
    cluster.nodes[0].on(async |groups| {
        assert_eq!(groups.initialize(GROUP, &[NodeId(1)]).await, Err(InitError::Already(GROUP)));
    });
    assert!(matches!(cluster.nodes[0].add(GROUP), Err(StartError::Running(GROUP))));
    cluster.nodes[0].on(async |groups| {
        groups.remove_group(GROUP).await;
        assert!(!groups.status(GROUP).replica);
        assert!(matches!(groups.propose(GROUP, command(1, 1, 1, 0)).await, Err(ProposeError::Unavailable)));
    });
    cluster.nodes[0].add(GROUP).unwrap();
    cluster.nodes[0].on(async |groups| groups.propose(GROUP, command(1, 1, 1, 0)).await).unwrap();
}
