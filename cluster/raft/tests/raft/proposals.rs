use bytes::Bytes;
use rookery_cluster::consensus::{Consensus, ProposeError};
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::limits::{MAX_COMMAND_BYTES, MAX_ENTRY_COMMANDS, PROPOSE_TOGETHER_BYTES};
use rookery_cluster::net::PeerIdentity;
use rookery_proto::raft::Calls;
use rookery_proto::raft::raft_client::RaftClient;
use tokio::task::JoinSet;

use crate::harness::{Cluster, GROUP, Kept, eventually};
use crate::ledger::command;

fn place(outcome: &Bytes) -> u64 {
    u64::from_be_bytes(outcome[..].try_into().unwrap())
}

#[test]
fn concurrent_proposals_from_all_nodes_are_applied_once_in_one_order() {
    const CALLERS: u64 = 8;
    const EACH: u64 = 20;
    let cluster = Cluster::of(3);
    let driver = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let applied = driver.block_on(async {
        let mut callers = JoinSet::new();
        for node in &cluster.nodes {
            for caller in 0..CALLERS {
                let (groups, client) = (node.groups().clone(), node.id.0 * 100 + caller);
                callers.spawn(async move {
                    let mut places = Vec::new();
                    for seq in 0..EACH {
                        let applied = groups.propose(GROUP, command(1, client, seq, 100)).await.unwrap();
                        places.push(((client, seq), place(&applied.outcome)));
                    }
                    places
                });
            }
        }
        callers.join_all().await.concat()
    });
    let view = cluster.settled();
    assert_eq!(view.order.len() as u64, 3 * CALLERS * EACH);
    assert!(applied.iter().all(|(id, place)| view.order[id] == *place), "an outcome went to the wrong caller");
}

#[test]
fn proposals_of_one_caller_keep_their_order() {
    let cluster = Cluster::of(3);
    for node in &cluster.nodes {
        let client = node.id.0;
        node.on(async |groups| {
            let proposals = (0..200).map(|seq| groups.propose(GROUP, command(1, client, seq, 1000)));
            futures_util::future::try_join_all(proposals).await.unwrap();
        });
    }
    let view = cluster.settled();
    for client in 1..=3 {
        let places: Vec<u64> = (0..200).map(|seq| view.order[&(client, seq)]).collect();
        assert!(places.is_sorted(), "proposals of node {client} were reordered");
    }
}

#[test]
fn what_is_proposed_together_is_applied_in_a_row_and_answered_in_order() {
    let cluster = Cluster::of(3);
    for node in &cluster.nodes {
        let together = |from: u64| (from..from + 7).map(|seq| command(1, node.id.0, seq, 100)).collect();
        node.on(async |groups| {
            let (first, second, single) = tokio::join!(
                groups.propose_all(GROUP, together(0)),
                groups.propose_all(GROUP, together(7)),
                groups.propose(GROUP, command(1, node.id.0, 14, 0)),
            );
            for outcomes in [first.unwrap(), second.unwrap()] {
                let places: Vec<u64> = outcomes.iter().map(place).collect();
                assert!(places.len() == 7 && places.windows(2).all(|two| two[0] + 1 == two[1]), "{places:?}");
            }
            single.unwrap();
            assert_eq!(groups.propose_all(GROUP, Vec::new()).await, Ok(Vec::new()));
        });
    }
    assert_eq!(cluster.settled().order.len(), 45);
}

#[test]
fn a_read_index_sees_what_was_acknowledged_anywhere() {
    let cluster = Cluster::of(3);
    for seq in 0..30 {
        let writer = &cluster.nodes[seq as usize % 3];
        let reader = &cluster.nodes[(seq as usize + 1) % 3];
        let written = writer.on(async |groups| groups.propose(GROUP, command(1, 7, seq, 0)).await).unwrap();
        let point = reader.on(async |groups| groups.linearize(GROUP).await).unwrap();
        assert!(point >= written.index);
        assert!(reader.view().order.contains_key(&(7, seq)), "write {seq} was not seen");
    }
}

#[test]
fn only_a_leader_with_a_quorum_confirms_its_leadership() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    for node in &cluster.nodes {
        let confirmed = node.on(async |groups| groups.confirm_leadership(GROUP).await);
        let expected = if node.id == leader { Ok(()) } else { Err(ProposeError::Unavailable) };
        assert_eq!(confirmed, expected);
    }
    let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.node(*id).kill());
    cluster.node(leader).on(async |groups| {
        assert_eq!(groups.confirm_leadership(GROUP).await, Err(ProposeError::Unavailable));
        assert_eq!(groups.linearize(GROUP).await, Err(ProposeError::Unavailable));
        // It may be appended here before the lease ends, or be refused after it.
        let refused = groups.propose(GROUP, command(1, 1, 1, 0)).await.unwrap_err();
        assert!(matches!(refused, ProposeError::Unknown | ProposeError::Unavailable), "{refused:?}");
    });
}

#[test]
fn what_cannot_be_written_is_refused() {
    let cluster = Cluster::of(1);
    cluster.nodes[0].on(async |groups| {
        let large = Bytes::from(vec![1; MAX_COMMAND_BYTES + 1]);
        assert_eq!(groups.propose(GROUP, large).await, Err(ProposeError::TooLarge));
        assert_eq!(groups.propose(GroupId(9), Bytes::new()).await, Err(ProposeError::Unavailable));
        groups.propose(GROUP, command(1, 1, 1, MAX_COMMAND_BYTES - 17)).await.unwrap();

        let too_many = vec![Bytes::new(); MAX_ENTRY_COMMANDS + 1];
        assert_eq!(groups.propose_all(GROUP, too_many).await, Err(ProposeError::TooLarge));
        let too_large = [PROPOSE_TOGETHER_BYTES + 1, 0].map(|len| Bytes::from(vec![1; len])).to_vec();
        assert_eq!(groups.propose_all(GROUP, too_large).await, Err(ProposeError::TooLarge));
        let largest = [PROPOSE_TOGETHER_BYTES - 17, MAX_COMMAND_BYTES - 17];
        let largest = (2..).zip(largest).map(|(seq, len)| command(1, 1, seq, len)).collect();
        assert_eq!(groups.propose_all(GROUP, largest).await.unwrap().len(), 2);
    });
}

#[test]
fn a_node_without_a_replica_proposes_where_the_replicas_are() {
    let mut cluster = Cluster::bare(4);
    for node in &mut cluster.nodes[..3] {
        node.kept.insert(GROUP, Kept::default());
        node.add(GROUP).unwrap();
    }
    let members = [1, 2, 3].map(NodeId);
    cluster.nodes[0].on(async |groups| groups.initialize(GROUP, &members).await).unwrap();
    let away = &cluster.nodes[3];
    away.on(async |groups| {
        groups.set_route(GROUP, members.to_vec());
        for seq in 0..20 {
            groups.propose(GROUP, command(1, 4, seq, 0)).await.unwrap();
        }
        assert_eq!(groups.linearize(GROUP).await, Err(ProposeError::Unavailable));
        let status = groups.status(GROUP);
        assert!(!status.replica && status.leader.is_some());
    });
    eventually("all applied", || cluster.nodes[..3].iter().all(|node| node.view().order.len() == 20));
}

#[test]
fn strangers_are_refused() {
    let cluster = Cluster::of(1);
    let groups = cluster.nodes[0].groups().clone();
    cluster.nodes[0].on(async |_| {
        // The service itself, without the server's interceptor: the request names nobody.
        let mut client = RaftClient::new(groups.service());
        let refused = client.exchange(tokio_stream::iter(Vec::<Calls>::new())).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let mut named = tonic::Request::new(tokio_stream::iter(Vec::<Calls>::new()));
        named.extensions_mut().insert(PeerIdentity(NodeId(2)));
        client.exchange(named).await.unwrap();
    });
}
