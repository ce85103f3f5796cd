//! Driver. What leaders do about nodes that are being removed, besides moving their groups.

use tracing::{info, warn};

use crate::consensus::{GroupStatus, SharedConsensus};
use crate::ids::{GroupId, NodeId};
use crate::metadata::{CommandBody, Lease, Metadata, Outcome, State};

/// As the leader of groups: tells the metadata which of them go on without a leaving node.
pub(super) async fn report(consensus: &SharedConsensus, metadata: &Metadata, view: &State) {
    for (node, open) in view.leaving() {
        let mut groups = Vec::new();
        for group in open.iter().copied().filter(|group| !view.replicas(*group).contains(&node)) {
            // One that no longer leads may remember members of before the node had the group.
            if goes_on_without(group, node, &consensus.status(group))
                && consensus.confirm_leadership(group).await.is_ok()
            {
                groups.push(group);
            }
        }
        if !groups.is_empty() {
            info!(%node, groups = groups.len(), "groups go on without a leaving node");
            propose(metadata, CommandBody::LeftGroups { node, groups }).await;
        }
    }
}

/// Whether the group's committed members, as its leader knows them, lack the node. It goes on learning the metadata, by
/// which it knows what it must no longer do.
fn goes_on_without(group: GroupId, node: NodeId, status: &GroupStatus) -> bool {
    let learns = group != GroupId::METADATA && status.learners.contains(&node);
    status.leads && status.applied >= status.members_at && !status.voters.contains(&node) && !learns
}

/// As the metadata leader: forgets leaving nodes that no group needs and whose lease is over.
pub(super) async fn forget(consensus: &SharedConsensus, metadata: &Metadata, view: &State) {
    if !consensus.status(GroupId::METADATA).leads {
        return;
    }
    let over = |node: &NodeId| view.node(*node).is_some_and(|record| record.lease != Lease::Live);
    let gone: Vec<NodeId> = view.leaving().map(|(node, _)| node).filter(|n| view.is_drained(*n) && over(n)).collect();
    for node in gone {
        info!(%node, "removing a node");
        propose(metadata, CommandBody::RemoveNode { node }).await;
    }
}

async fn propose(metadata: &Metadata, body: CommandBody) {
    match metadata.propose(body).await {
        Ok((_, Outcome::Refused(refused))) => warn!(%refused, "a step of a removal was refused"),
        Ok(_) => {}
        Err(why) => warn!(%why, "a step of a removal was not written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;

    #[test]
    fn only_committed_members_count() {
        let (node, shard) = (NodeId(3), GroupId(2));
        let ids = |nodes: &[u64]| nodes.iter().map(|n| NodeId(*n)).collect::<Vec<_>>();
        let status = GroupStatus {
            leads: true,
            voters: ids(&[1, 2]),
            applied: LogIndex(9),
            members_at: LogIndex(9),
            ..GroupStatus::default()
        };
        assert!(goes_on_without(shard, node, &status));
        assert!(!goes_on_without(shard, node, &GroupStatus { leads: false, ..status.clone() }));
        assert!(!goes_on_without(shard, node, &GroupStatus { members_at: LogIndex(10), ..status.clone() }));
        assert!(!goes_on_without(shard, node, &GroupStatus { voters: ids(&[1, 2, 3]), ..status.clone() }));
        let learns = GroupStatus { learners: ids(&[3]), ..status };
        assert!(!goes_on_without(shard, node, &learns));
        assert!(goes_on_without(GroupId::METADATA, node, &learns));
    }
}
