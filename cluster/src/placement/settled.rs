//! Whether the cluster is where the plan wants it, as far as one node can tell.

use std::collections::BTreeSet;

use super::driver::{groups, members, seats};
use super::plan::{self, Seat};
use crate::consensus::GroupStatus;
use crate::ids::{GroupId, NodeId};
use crate::metadata::{Lease, State};

/// What is still missing, in words. `None`: each node's lease is live, every group is placed, and each of those that
/// `node` holds has its replicas and a leader. All groups are, once every node says so.
pub fn unsettled(node: NodeId, view: &State, status: impl Fn(GroupId) -> GroupStatus) -> Option<String> {
    if let Some(record) = view.nodes().find(|record| record.lease != Lease::Live) {
        return Some(format!("node {} ({}) has no live lease", record.id, record.name));
    }
    if let Some((node, groups)) = view.leaving().next() {
        return Some(format!("node {node} is being removed; {} groups still have to go on without it", groups.len()));
    }
    let seats = seats(view);
    let open = plan::replicas(&seats, view.all_replicas(), view.shards()).len();
    if open > 0 {
        return Some(format!("{open} groups are yet to be placed"));
    }
    let held = groups(view).filter(|group| *group == GroupId::METADATA || view.replicas(*group).contains(&node));
    held.into_iter().find_map(|group| missing(group, view.replicas(group), &status(group), &seats))
}

fn missing(group: GroupId, wish: &[NodeId], status: &GroupStatus, seats: &[Seat]) -> Option<String> {
    if let Some(why) = &status.stopped {
        return Some(format!("the replica of group {group} on this node has stopped: {why}"));
    }
    if !status.replica {
        return Some(format!("group {group} has no replica on this node yet"));
    }
    let now = members(status);
    let wished: BTreeSet<NodeId> = wish.iter().copied().collect();
    if now.voters != wished || plan::members(group, wish, &now, seats).is_some() {
        return Some(format!(
            "group {group} has the voters {:?}, not yet {wished:?}, or not yet all learners",
            now.voters
        ));
    }
    status.leader.is_none().then(|| format!("group {group} has no leader"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::ids::{Incarnation, LogIndex, RequestId};
    use crate::metadata::{Command, CommandBody as Body, NodeCard, apply};

    struct World(State, u64);

    impl World {
        fn apply(&mut self, body: Body) {
            self.1 += 1;
            let command = Command { request_id: RequestId(self.1.into()), at: UnixMillis(1), body };
            apply(&mut self.0, LogIndex(self.1), &command).into_result().unwrap();
        }

        fn add(&mut self, node: u64) {
            let (name, key_hash) = (format!("n{node}"), [node as u8; 32]);
            self.apply(Body::AddNode { name, key_hash, join_token: None, voter_eligible: true });
        }

        fn register(&mut self, node: u64) {
            let (node, incarnation, card) = (NodeId(node), Incarnation(1), NodeCard::default());
            self.apply(Body::RegisterIncarnation { node, incarnation, card });
        }
    }

    fn status(voters: &[u64], leader: Option<u64>) -> GroupStatus {
        let voters = voters.iter().map(|n| NodeId(*n)).collect();
        GroupStatus { voters, leader: leader.map(NodeId), replica: true, ..GroupStatus::default() }
    }

    #[test]
    fn everything_must_be_there() {
        let mut world = World(State::default(), 0);
        for node in 1..=3 {
            world.add(node);
            world.register(node);
        }
        let says = |world: &World, status: GroupStatus| unsettled(NodeId(1), &world.0, |_| status.clone());
        let three = || status(&[1, 2, 3], Some(2));
        assert_eq!(says(&world, three()).as_deref(), Some("17 groups are yet to be placed"));
        let all = (0..=16).map(|g| (GroupId(g), vec![NodeId(1), NodeId(2), NodeId(3)])).collect();
        world.apply(Body::SetReplicas { groups: all });
        assert_eq!(says(&world, three()), None);
        assert!(says(&world, status(&[1], Some(1))).unwrap().starts_with("group 0 has the voters"));
        assert_eq!(says(&world, status(&[1, 2, 3], None)).as_deref(), Some("group 0 has no leader"));
        let none = GroupStatus { replica: false, ..three() };
        assert_eq!(says(&world, none).as_deref(), Some("group 0 has no replica on this node yet"));
        let ill = GroupStatus { stopped: Some("damaged".into()), ..three() };
        assert!(says(&world, ill).unwrap().ends_with("has stopped: damaged"));
        world.add(4);
        assert_eq!(says(&world, three()).as_deref(), Some("node 4 (n4) has no live lease"));
    }
}
