//! Where to look for the leader of a group that has no replica here, or one that does not hear of its leader.

use parking_lot::Mutex;
use rookery_cluster::ids::NodeId;

/// The replicas of a group, as the placement says, and who led last.
#[derive(Default)]
pub(crate) struct Route(Mutex<State>);

#[derive(Default)]
struct State {
    replicas: Vec<NodeId>,
    leader: Option<NodeId>,
    /// Which replica is asked while the leader is not known.
    next: usize,
    /// Who was asked last and does not lead, or does not answer.
    missed: Option<NodeId>,
}

impl Route {
    pub(crate) fn set(&self, replicas: Vec<NodeId>) {
        self.0.lock().replicas = replicas;
    }

    /// The leader if known, else one of the replicas.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let state = self.0.lock();
        state.leader.or_else(|| state.replicas.get(state.next).copied())
    }

    /// The leader, if it is known.
    pub(crate) fn known(&self) -> Option<NodeId> {
        self.0.lock().leader
    }

    /// The leader if a replica here says who that is, unless it was asked in vain: the replica of a node that came back
    /// at another address knows who led when it was stopped, until the leader of today reaches it.
    pub(crate) fn leader_or(&self, known: Option<NodeId>) -> Option<NodeId> {
        let missed = self.0.lock().missed;
        known.filter(|leader| missed != Some(*leader)).or_else(|| self.leader())
    }

    pub(crate) fn found(&self, peer: NodeId) {
        let mut state = self.0.lock();
        state.leader = Some(peer);
        state.missed = state.missed.filter(|missed| *missed != peer);
    }

    /// `peer` does not lead, or does not answer; it says who does.
    pub(crate) fn missed(&self, peer: NodeId, hint: Option<NodeId>) {
        let mut state = self.0.lock();
        state.leader = hint.filter(|hint| *hint != peer);
        state.missed = Some(peer);
        let n = state.replicas.len().max(1);
        state.next = (state.next + 1) % n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_one_replica_after_the_other_until_one_knows() {
        let route = Route::default();
        assert_eq!(route.leader(), None);
        route.set(vec![NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(route.leader(), Some(NodeId(1)));
        route.missed(NodeId(1), None);
        assert_eq!(route.leader(), Some(NodeId(2)));
        route.missed(NodeId(2), Some(NodeId(3)));
        assert_eq!((route.leader(), route.known()), (Some(NodeId(3)), Some(NodeId(3))));
        route.missed(NodeId(3), Some(NodeId(3)));
        assert_eq!(route.known(), None);
        route.found(NodeId(2));
        assert_eq!(route.leader(), Some(NodeId(2)));
    }

    #[test]
    fn a_replica_that_says_who_led_once_is_believed_until_that_one_was_asked() {
        let route = Route::default();
        route.set(vec![NodeId(1), NodeId(2)]);
        assert_eq!(route.leader_or(Some(NodeId(1))), Some(NodeId(1)));
        route.missed(NodeId(1), Some(NodeId(2)));
        assert_eq!(route.leader_or(Some(NodeId(1))), Some(NodeId(2)));
        assert_eq!(route.leader_or(Some(NodeId(3))), Some(NodeId(3)), "it was told of another one");
        route.missed(NodeId(2), None);
        assert_eq!(route.leader_or(Some(NodeId(1))), Some(NodeId(1)), "by turns");
        route.missed(NodeId(1), Some(NodeId(2)));
        route.found(NodeId(2));
        assert_eq!(route.leader_or(Some(NodeId(1))), Some(NodeId(2)));
    }
}
