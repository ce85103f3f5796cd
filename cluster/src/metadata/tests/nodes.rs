use super::*;
use crate::ids::{ClusterId, GroupId, Incarnation, NodeLife};
use crate::metadata::CommandBody as Body;
use crate::metadata::RefusedKind::*;

fn life(node: u64, incarnation: u64) -> NodeLife {
    NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn live(log: &Log) -> Vec<(u64, u64)> {
    log.state.live_set().iter().map(|(node, incarnation)| (node.0, incarnation.0)).collect()
}

#[test]
fn ids_are_given_once() {
    let mut log = Log::default();
    assert_eq!(log.created(add_node(1)), Created::Node(NodeId(1)));
    assert_eq!(log.created(add_node(2)), Created::Node(NodeId(2)));
    log.done(Body::RemoveNode { node: NodeId(2) });
    assert_eq!(log.created(add_node(2)), Created::Node(NodeId(3)));
    assert_eq!(log.refused(add_node(2)), AlreadyExists);
    assert!(log.state.is_expired(life(2, 7)), "removed for good");
    assert!(!log.state.is_expired(life(4, 1)), "not heard of yet");
}

#[test]
fn a_newer_life_expires_the_older() {
    let mut log = Log::default();
    log.created(add_node(1));
    assert_eq!(live(&log), []);
    log.done(register(1, 5));
    assert_eq!(live(&log), [(1, 5)]);
    assert!(!log.state.is_expired(life(1, 5)) && log.state.is_expired(life(1, 4)));
    assert_eq!(log.refused(register(1, 5)), Precondition);
    assert_eq!(log.refused(register(1, 4)), Precondition);
    let seen = log.state.applied();
    log.done(register(1, 6));
    assert_eq!(live(&log), [(1, 6)]);
    assert!(log.state.is_expired(life(1, 5)));
    let changes: Vec<_> = log.state.changes_since(seen).unwrap().cloned().collect();
    assert_eq!(changes, [Change::LeaseExpired(life(1, 5)), Change::Node(NodeId(1))]);
}

#[test]
fn an_expired_life_stays_expired() {
    let mut log = Log::default();
    log.created(add_node(1));
    log.done(register(1, 1));
    assert_eq!(log.refused(Body::ExpireLease { life: life(1, 2) }), Precondition);
    log.done(Body::ExpireLease { life: life(1, 1) });
    log.done(Body::ExpireLease { life: life(1, 1) });
    assert_eq!((live(&log), log.state.is_expired(life(1, 1))), (vec![], true));
    assert_eq!(log.refused(register(1, 1)), Precondition);
    log.done(register(1, 2));
    log.done(Body::ExpireLease { life: life(1, 1) });
    assert_eq!(live(&log), [(1, 2)], "an expiry of an older life does not touch the newer");
    assert_eq!(log.refused(Body::ExpireLease { life: life(9, 1) }), NotFound);
}

#[test]
fn a_node_leaves_when_it_holds_nothing() {
    let mut log = Log::default();
    log.created(add_node(1));
    log.created(add_node(2));
    log.done(register(2, 1));
    let replicas =
        |nodes: &[u64]| Body::SetReplicas { groups: vec![(GroupId(3), nodes.iter().map(|n| NodeId(*n)).collect())] };
    log.done(replicas(&[1, 2]));
    assert_eq!(log.refused(Body::RemoveNode { node: NodeId(2) }), Precondition);
    log.done(Body::ExpireLease { life: life(2, 1) });
    assert_eq!(log.refused(Body::RemoveNode { node: NodeId(2) }), Precondition);
    log.done(replicas(&[1]));
    log.done(Body::RemoveNode { node: NodeId(2) });
    assert_eq!(log.state.replicas(GroupId(3)), [NodeId(1)]);
    assert_eq!(log.state.groups_of(NodeId(1)).collect::<Vec<_>>(), [GroupId(3)]);
}

fn group(group: u32, nodes: &[u64]) -> (GroupId, Vec<NodeId>) {
    (GroupId(group), nodes.iter().map(|n| NodeId(*n)).collect())
}

fn three() -> Log {
    let mut log = Log::default();
    for node in 1..=3 {
        log.created(add_node(node));
        log.done(register(node.into(), 1));
    }
    log.done(Body::SetReplicas { groups: (0..=16).map(|g| group(g, &[1, 2, 3])).collect() });
    log
}

#[test]
fn a_node_is_removed_once_no_group_needs_it() {
    let (mut log, node) = (three(), NodeId(3));
    let left = |groups: std::ops::RangeInclusive<u32>| Body::LeftGroups { node, groups: groups.map(GroupId).collect() };
    log.done(left(0..=16));
    assert!(!log.state.is_leaving(node), "a report of what nobody asked for is nothing");
    log.done(Body::LeaveNode { node });
    log.done(Body::LeaveNode { node });
    assert!(log.state.is_leaving(node) && !log.state.is_drained(node));
    assert_eq!(log.refused(left(0..=16)), Precondition, "it is still to hold them");
    log.done(Body::SetReplicas { groups: (0..=16).map(|g| group(g, &[1, 2])).collect() });
    assert_eq!(log.refused(Body::SetReplicas { groups: vec![group(4, &[1, 2, 3])] }), Precondition);
    log.done(left(1..=16));
    log.done(register(3, 2));
    assert_eq!(log.refused(Body::RemoveNode { node }), Precondition);
    log.done(left(0..=0));
    assert!(log.state.is_drained(node));
    assert_eq!(log.refused(register(3, 3)), Precondition, "it does not come back");
    assert_eq!(log.refused(Body::RemoveNode { node }), Precondition, "its lease is live");
    log.done(Body::ExpireLease { life: life(3, 2) });
    assert!(!log.state.was_removed(node));
    log.done(Body::RemoveNode { node });
    assert!(log.state.was_removed(node) && !log.state.is_leaving(node) && log.state.is_expired(life(3, 2)));
    assert!(!log.state.was_removed(NodeId(4)), "not heard of yet");
    assert_eq!(log.refused(Body::LeaveNode { node }), NotFound);
}

#[test]
fn no_group_loses_its_quorum_or_its_last_replica() {
    let expire = |node| Body::ExpireLease { life: life(node, 1) };
    let leave = |node| Body::LeaveNode { node: NodeId(node) };
    let mut log = three();
    log.done(expire(2));
    assert_eq!(log.refused(leave(1)), Precondition, "2 and 3 would be left, of which one lives");
    log.done(leave(2));
    log.done(leave(1));
    assert_eq!(log.refused(leave(3)), Precondition, "it is going to be the last");
    let mut log = three();
    log.done(expire(2));
    log.done(expire(3));
    assert_eq!(log.refused(leave(3)), Precondition, "there is no quorum to decide it");
    let mut log = Log::default();
    log.created(add_node(1));
    log.done(register(1, 1));
    log.done(Body::SetReplicas { groups: vec![group(0, &[1]), group(1, &[1])] });
    assert_eq!(log.refused(leave(1)), Precondition, "it is the last");
    log.created(add_node(2));
    assert_eq!(log.refused(leave(1)), Precondition, "the other was never there");
    log.done(register(2, 1));
    log.done(leave(1));
    assert_eq!(log.refused(leave(2)), Precondition, "the other is going to be the last");
}

#[test]
fn replicas_are_nodes_of_ours() {
    let mut log = Log::default();
    log.created(add_node(1));
    let set = |group, nodes: &[u64]| Body::SetReplicas {
        groups: vec![(GroupId(group), nodes.iter().map(|n| NodeId(*n)).collect())],
    };
    assert_eq!(log.refused(set(1, &[])), Invalid);
    assert_eq!(log.refused(set(1, &[1, 1])), Invalid);
    assert_eq!(log.refused(set(1, &[2])), NotFound);
    assert_eq!(log.refused(set(17, &[1])), NotFound);
    log.done(set(0, &[1]));
    assert_eq!(log.state.replicas(GroupId::METADATA), [NodeId(1)]);
    assert_eq!(log.state.all_replicas().len(), 1);
}

#[test]
fn join_tokens_are_used_up_and_run_out() {
    let mut log = Log::default();
    let hash = [7; 32];
    let expires = UnixMillis(9000);
    log.done(Body::AddJoinToken { hash, expires, uses: 2 });
    let join = |n: u8| {
        let (name, key_hash) = (format!("node{n}"), [n; 32]);
        Body::AddNode { name, key_hash, join_token: Some(hash), voter_eligible: false }
    };
    log.created(join(1));
    assert_eq!(log.refused(join(1)), AlreadyExists);
    assert_eq!(
        log.state.join_tokens().map(|(_, token)| token.uses).collect::<Vec<_>>(),
        [1],
        "a refusal costs nothing"
    );
    log.created(join(2));
    assert_eq!(log.refused(join(3)), NotFound);

    log.done(Body::AddJoinToken { hash: [8; 32], expires, uses: 1 });
    assert_eq!(log.refused(Body::AddJoinToken { hash: [8; 32], expires, uses: 1 }), AlreadyExists);
    assert_eq!(log.refused(Body::AddJoinToken { hash: [9; 32], expires: UnixMillis(8000), uses: 1 }), Invalid);
    let late = Body::AddNode { name: "x".into(), key_hash: [9; 32], join_token: Some([8; 32]), voter_eligible: false };
    assert_eq!(log.refused(late), Precondition);
    log.done(Body::AddJoinToken { hash: [10; 32], expires: UnixMillis(99_000), uses: 1 });
    assert_eq!(log.state.join_tokens().count(), 1, "expired ones are swept");
    log.done(Body::RemoveJoinToken { hash: [10; 32] });
    assert_eq!(log.refused(Body::RemoveJoinToken { hash: [10; 32] }), NotFound);
}

#[test]
fn a_node_renews_its_key() {
    let mut log = Log::default();
    log.created(add_node(1));
    log.created(add_node(2));
    assert_eq!(log.refused(Body::SetNodeKey { node: NodeId(1), key_hash: [2; 32] }), AlreadyExists);
    log.done(Body::SetNodeKey { node: NodeId(1), key_hash: [3; 32] });
    log.done(Body::SetNodeKey { node: NodeId(1), key_hash: [3; 32] });
    assert_eq!(log.state.node_of_key(&[3; 32]).map(|n| n.id), Some(NodeId(1)));
    assert_eq!(log.state.node_of_key(&[1; 32]), None);
    assert_eq!(log.state.find_node("node2").map(|n| n.id), Some(NodeId(2)));
}

#[test]
fn a_cluster_is_initialized_once() {
    let mut log = Log::default();
    let init = |id, shards| Body::InitCluster {
        id: ClusterId(id),
        ca_pem: "pem".into(),
        sealed_ca_key: vec![1],
        sealed_secrets: vec![2],
        shards,
    };
    assert_eq!(log.refused(init(1, 0)), Invalid);
    log.done(init(1, 4));
    assert_eq!(log.refused(init(2, 4)), AlreadyExists);
    assert_eq!(log.state.cluster().map(|c| c.id), Some(ClusterId(1)));
    let groups: std::collections::BTreeSet<_> = (0..4096).map(|s| log.state.group_of(crate::ids::Slot(s))).collect();
    assert_eq!(groups.into_iter().collect::<Vec<_>>(), log.state.shard_groups().collect::<Vec<_>>());
}

#[test]
fn an_old_binary_cannot_come_back_to_a_higher_level() {
    let mut log = Log::default();
    log.created(add_node(1));
    let card = NodeCard { level: Level(0), ..NodeCard::default() };
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    assert_eq!(log.refused(Body::RegisterIncarnation { node, incarnation, card }), Precondition);
    log.done(register(1, 1));
    log.done(Body::RaiseLevel { to: Level::LATEST });
    log.done(Body::RaiseLevel { to: Level::FIRST });
    assert_eq!(log.state.level(), Level::LATEST);
    assert_eq!(log.refused(Body::RaiseLevel { to: Level(9) }), Precondition);
}
