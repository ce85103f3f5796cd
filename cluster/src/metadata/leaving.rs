//! How a node is removed: it is marked as leaving, each group's leader reports that the group goes on without it, and
//! once none is left and its lease is over, its record goes. So at no time does a group wait for a node that nobody
//! lets in any more.

use std::collections::BTreeSet;

use super::apply::{Answer, Cx};
use super::command::CommandBody as Body;
use super::journal::Change;
use super::nodes::{Lease, existing};
use super::outcome::{Outcome, Refused};
use super::state::State;
use crate::ids::{GroupId, NodeId};

impl State {
    /// The nodes that are being removed, each with the groups that have not reported yet that they go on without it.
    pub fn leaving(&self) -> impl Iterator<Item = (NodeId, &BTreeSet<GroupId>)> {
        self.leaving.iter().map(|(node, groups)| (*node, groups))
    }

    /// Whether this node is being removed.
    pub fn is_leaving(&self, node: NodeId) -> bool {
        self.leaving.contains_key(&node)
    }

    /// Whether this node is being removed and no group needs it any more: it must serve no longer.
    pub fn is_drained(&self, node: NodeId) -> bool {
        self.leaving.get(&node).is_some_and(BTreeSet::is_empty)
    }

    fn is_live(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|record| record.lease == Lease::Live)
    }
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::LeaveNode { node } => leave(state, cx, *node),
        Body::LeftGroups { node, groups } => left(state, cx, *node, groups),
        _ => Err(Refused::invalid("not a command about leaving nodes")),
    }
}

fn leave(state: &mut State, cx: Cx, node: NodeId) -> Answer {
    existing(state, node)?;
    if state.is_leaving(node) {
        return Ok(Outcome::Done);
    }
    for (group, nodes) in state.all_replicas().iter() {
        can_spare(state, *group, nodes, node)?;
    }
    // All groups, not only those of the placement: a group may still be on its way to where it should be.
    let groups = std::iter::once(GroupId::METADATA).chain(state.shard_groups()).collect();
    state.leaving.insert(node, groups);
    state.note(cx.index, Change::Node(node));
    Ok(Outcome::Done)
}

/// Whether `group` has a quorum to decide that it goes on without `node`, and one afterwards.
fn can_spare(state: &State, group: GroupId, nodes: &[NodeId], node: NodeId) -> Result<(), Refused> {
    // A group all of whose nodes leave already goes to some other node, which this may be the last of.
    if !nodes.contains(&node) && !nodes.iter().all(|n| state.is_leaving(*n)) {
        return Ok(());
    }
    let quorum = |nodes: &[NodeId]| 2 * nodes.iter().filter(|n| state.is_live(**n)).count() > nodes.len();
    if !quorum(nodes) {
        let why = "has no quorum of live nodes now; start its nodes first";
        return Err(Refused::precondition(format!("group {group} is on nodes {}, and {why}", list(nodes))));
    }
    let stays = |n: NodeId| n != node && !state.is_leaving(n);
    let mut rest: Vec<NodeId> = nodes.iter().copied().filter(|n| stays(*n)).collect();
    let others = state.nodes().filter(|n| stays(n.id) && state.is_live(n.id) && !nodes.contains(&n.id));
    let others = others.filter(|n| group != GroupId::METADATA || n.voter_eligible).map(|n| n.id);
    rest.extend(others.take(nodes.len() - rest.len()));
    if rest.is_empty() {
        let why = "no other live node could take it over; add one first";
        return Err(Refused::precondition(format!("node {node} is the last one for group {group}, and {why}")));
    }
    if !quorum(&rest) {
        let why = "of which too few are live for a quorum; start them or add others first";
        let message = format!("without node {node}, group {group} would be on nodes {}, {why}", list(&rest));
        return Err(Refused::precondition(message));
    }
    Ok(())
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn left(state: &mut State, cx: Cx, node: NodeId, groups: &[GroupId]) -> Answer {
    let Some(open) = state.leaving.get(&node) else { return Ok(Outcome::Done) };
    if let Some(group) = groups.iter().find(|group| state.replicas(**group).contains(&node)) {
        return Err(Refused::precondition(format!("group {group} is still to be on node {node}")));
    }
    let open = open.iter().copied().filter(|group| !groups.contains(group)).collect();
    state.leaving.insert(node, open);
    state.note(cx.index, Change::Node(node));
    Ok(Outcome::Done)
}

/// Refused where the record is still needed.
pub(super) fn may_go(state: &State, node: NodeId) -> Result<(), Refused> {
    match state.leaving.get(&node).and_then(|open| open.iter().next()) {
        Some(group) => Err(Refused::precondition(format!("group {group} does not go on without node {node} yet"))),
        None => Ok(()),
    }
}
