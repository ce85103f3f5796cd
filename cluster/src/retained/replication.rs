//! What a node knows of the others to keep its retained messages like theirs (P9): who must take a new one, and whether
//! it has all of them itself.

use std::collections::BTreeSet;

use super::{Copied, Gate};
use crate::clock::Moment;
use crate::ids::NodeId;

/// One life of a node among the others.
#[derive(Debug)]
pub struct Replication {
    gate: Gate,
    peers: Vec<NodeId>,
    members: usize,
    /// Peers that were live at the start and have not said their time.
    unheard: Option<BTreeSet<NodeId>>,
    told: bool,
    in_step: bool,
}

impl Replication {
    /// A node that knows nobody yet.
    pub fn new(own: NodeId) -> Self {
        Self { gate: Gate::new(own), peers: Vec::new(), members: 1, unheard: None, told: false, in_step: false }
    }

    /// All members of the cluster, this node included.
    pub fn on_members(&mut self, members: BTreeSet<NodeId>) {
        self.members = members.len();
        self.gate.on_members(members);
    }

    /// The live peers.
    pub fn on_live(&mut self, live: &BTreeSet<NodeId>) {
        self.peers = live.iter().copied().collect();
        match &mut self.unheard {
            // Peers that come later are told by this node.
            Some(unheard) => unheard.retain(|node| live.contains(node)),
            None => self.unheard = Some(live.clone()),
        }
        self.gate.on_live(live);
    }

    /// This node's time is no longer behind what `peer` has seen.
    pub fn on_followed(&mut self, peer: NodeId) {
        if let Some(unheard) = &mut self.unheard {
            unheard.remove(&peer);
        }
    }

    /// Whether what is written here waits for `peer`'s time.
    pub fn waits_for(&self, peer: NodeId) -> bool {
        self.unheard.as_ref().is_none_or(|unheard| unheard.contains(&peer))
    }

    /// Everything that `peer` had was copied, by a comparison that began at that moment.
    pub fn on_copied(&mut self, peer: NodeId, began: Moment, copied: Copied) {
        self.gate.on_copied(peer, began, copied);
    }

    /// Whether `peer` is to be copied from before this node answers.
    pub fn copies_from(&self, peer: NodeId) -> bool {
        self.gate.copies_from(peer)
    }

    /// Whether the live peers are to be compared with once more, from `now` on: see [`Gate`]. True once.
    pub fn again(&mut self, now: Moment) -> bool {
        self.gate.again(&self.peers, now)
    }

    /// The live peers, who must all take what is published from now on.
    pub fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// How many of them, with this node's own disk, are a majority of the members.
    pub fn needed(&self) -> u16 {
        u16::try_from(self.members / 2).unwrap_or(u16::MAX)
    }

    /// Whether what is written here from now on is later than all that was acknowledged anywhere, and nobody was told
    /// so: true once. What was acknowledged is held by every node that was live then.
    pub fn falls_in_step(&mut self) -> bool {
        let heard = self.unheard.as_ref().is_some_and(BTreeSet::is_empty);
        heard && !std::mem::replace(&mut self.in_step, true)
    }

    /// Whether this node has everything by now and nobody was told so: true once. `sound`: whether its disk is.
    pub fn completes(&mut self, sound: bool) -> bool {
        self.gate.open(sound) && !std::mem::replace(&mut self.told, true)
    }

    /// See [`Gate::confirmed`].
    pub fn confirmed(&self, now: Moment) -> Option<Moment> {
        self.gate.confirmed(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retained::Took;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    #[test]
    fn a_majority_counts_members_and_news_is_told_once() {
        let mut it = Replication::new(NodeId(1));
        for (members, needed) in [(&[1][..], 0), (&[1, 2], 1), (&[1, 2, 3], 1), (&[1, 2, 3, 4, 5], 2)] {
            it.on_members(set(members));
            assert_eq!(it.needed(), needed);
        }
        it.on_members(set(&[1, 2]));
        it.on_live(&set(&[2]));
        assert_eq!(it.peers(), [NodeId(2)]);
        assert!(!it.completes(true));
        assert!(!it.falls_in_step());
        it.on_followed(NodeId(2));
        assert!(it.falls_in_step());
        assert!(!it.falls_in_step());
        it.on_copied(NodeId(2), Moment::default(), Copied { sound: true, took: Took { agrees: true, gained: false } });
        assert!(it.completes(true));
        assert!(!it.completes(true));
    }
}
