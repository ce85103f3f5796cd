use bytes::Bytes;
use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::{GroupId, NodeId};

use crate::harness::{Cluster, GROUP, Kept, eventually};
use crate::ledger::command;

const OTHER: GroupId = GroupId(2);

#[test]
fn an_unknown_command_stops_one_replica_and_nothing_else() {
    // Node 3 is of an older release.
    let mut cluster =
        Cluster::with(3, |node| Kept { version: if node.id == NodeId(3) { 1 } else { 2 }, ..Kept::default() });
    let all = [1, 2, 3].map(NodeId);
    cluster.nodes.iter_mut().for_each(|node| node.add(OTHER).unwrap());
    cluster.nodes[2].on(async |groups| groups.initialize(OTHER, &all).await).unwrap();

    cluster.nodes[0].on(async |groups| groups.propose(GROUP, command(1, 1, 0, 0)).await).unwrap();
    // A leader that stops says that it does not know; the retry succeeds elsewhere.
    cluster.nodes[0].on(async |groups| while groups.propose(GROUP, command(2, 1, 1, 0)).await.is_err() {});
    let old = &cluster.nodes[2];
    eventually("node 3 stopped", || old.status().stopped.is_some());
    assert!(old.status().stopped.unwrap().contains("unknown command"));
    let refused = old.on(async |groups| groups.propose(GROUP, command(1, 1, 2, 0)).await);
    assert!(matches!(refused, Err(ProposeError::Stopped(_))), "{refused:?}");

    cluster.nodes[0].on(async |groups| groups.propose(GROUP, command(2, 1, 3, 0)).await).unwrap();
    eventually("the others go on", || cluster.nodes[..2].iter().all(|node| node.view().order.len() == 3));
    // The other group of the stopped node is not concerned.
    old.on(async |groups| groups.propose(OTHER, command(1, 1, 0, 0)).await).unwrap();
    old.on(async |groups| groups.linearize(OTHER).await).unwrap();
}

#[test]
fn a_panic_in_a_state_machine_stops_that_replica() {
    let cluster = Cluster::of(1);
    cluster.nodes[0].on(async |groups| {
        let outcome = groups.propose(GROUP, Bytes::from_static(b"short")).await;
        assert!(matches!(outcome, Err(ProposeError::Unknown)), "{outcome:?}");
        let seen = groups.status(GROUP);
        let status = if seen.stopped.is_some() { seen } else { groups.changed(GROUP, seen).await };
        assert!(status.stopped.unwrap().contains("panicked"));
        let refused = groups.propose(GROUP, command(1, 1, 1, 0)).await;
        assert!(matches!(refused, Err(ProposeError::Stopped(_))), "{refused:?}");
    });
}
