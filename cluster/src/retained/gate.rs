//! When a node that started may answer for retained messages, and which tombstones every member has.

use std::collections::{BTreeMap, BTreeSet};

use super::Copied;
use crate::clock::Moment;
use crate::ids::NodeId;

/// What a node has copied from whom.
///
/// An acknowledged message is on disk at a majority of the members and was taken by every node that was live then. A node
/// that starts has them all once it copied from every live peer, each of which knew it to be live by then, and from so
/// many members that every majority has one among them. It counts itself if its disk is
/// [sound](super::store::Store::sound), and others by their word that they are.
///
/// Peers are compared by their messages, so one that has a deletion is not asked for it where there is nothing to delete yet.
/// If a message was copied, from another one that does not have the deletion, all are compared with once more: what was
/// copied then either stands everywhere or is deleted. One such round is enough: whatever comes later was published later,
/// and comes from its publisher's node.
#[derive(Debug)]
pub struct Gate {
    own: NodeId,
    members: BTreeSet<NodeId>,
    /// Peers that were live at the start and were not copied from yet in this round.
    waiting: Option<BTreeSet<NodeId>>,
    round: Round,
    /// Who was copied from, and whether that counts.
    sources: BTreeMap<NodeId, bool>,
    /// When the last comparison with each member began that found no message which a tombstone here removed.
    confirmed: BTreeMap<NodeId, Moment>,
    open: bool,
}

/// How often all peers were compared with.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Not once; whether messages were gained so far.
    First { gained: bool },
    /// Once, until then.
    Second { since: Moment },
}

impl Gate {
    /// A gate that is shut.
    pub fn new(own: NodeId) -> Self {
        Self {
            own,
            members: BTreeSet::new(),
            waiting: None,
            round: Round::First { gained: false },
            sources: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            open: false,
        }
    }

    /// All members of the cluster, this node included.
    pub fn on_members(&mut self, members: BTreeSet<NodeId>) {
        self.members = members;
    }

    /// The live peers.
    pub fn on_live(&mut self, live: &BTreeSet<NodeId>) {
        match &mut self.waiting {
            // Peers that come later copy from this node, and are sent everything from then on.
            Some(waiting) => waiting.retain(|node| live.contains(node)),
            None => self.waiting = Some(live.clone()),
        }
    }

    /// All that `peer` had was copied, by a comparison that began at that moment. If it agrees, it had no message that a
    /// tombstone here, come before then, removes.
    pub fn on_copied(&mut self, peer: NodeId, began: Moment, copied: Copied) {
        let Copied { sound, took } = copied;
        *self.sources.entry(peer).or_default() |= sound;
        if took.agrees {
            self.confirmed.insert(peer, began);
        }
        match &mut self.round {
            Round::First { gained } => *gained |= took.gained,
            Round::Second { since } if began < *since => return,
            Round::Second { .. } => {}
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.remove(&peer);
        }
    }

    /// Whether `peer` is to be copied from before this node answers.
    pub fn copies_from(&self, peer: NodeId) -> bool {
        !self.open && self.waiting.as_ref().is_some_and(|waiting| waiting.contains(&peer))
    }

    /// Begins the second round, if all of the first were heard and there is need of it: true once.
    pub fn again(&mut self, live: &[NodeId], now: Moment) -> bool {
        let first_is_over = self.waiting.as_ref().is_some_and(BTreeSet::is_empty);
        if self.open || !first_is_over || self.round != (Round::First { gained: true }) {
            return false;
        }
        self.round = Round::Second { since: now };
        self.waiting = Some(live.iter().copied().filter(|peer| self.sources.contains_key(peer)).collect());
        true
    }

    /// Whether the node has everything. Stays so.
    pub fn open(&mut self, own_sound: bool) -> bool {
        self.open |= self.has_everything(own_sound);
        self.open
    }

    fn has_everything(&self, own_sound: bool) -> bool {
        if self.round == (Round::First { gained: true }) {
            return false;
        }
        if self.members.is_empty() || self.waiting.as_ref().is_none_or(|waiting| !waiting.is_empty()) {
            return false;
        }
        let others = self.members.iter().filter(|node| **node != self.own);
        if others.clone().all(|node| self.sources.contains_key(node)) {
            return true;
        }
        let counted = others.filter(|node| self.sources.get(node) == Some(&true)).count() + usize::from(own_sound);
        counted >= self.members.len() - self.members.len() / 2
    }

    /// Every other member has had the tombstones that came before this; `None` if some were not compared with.
    pub fn confirmed(&self, now: Moment) -> Option<Moment> {
        let others = self.members.iter().filter(|node| **node != self.own);
        let since = others.map(|node| self.confirmed.get(node).copied()).collect::<Option<Vec<_>>>()?;
        Some(since.into_iter().min().unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::retained::Took;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    fn gate(members: &[u64], live: &[u64]) -> Gate {
        let mut gate = Gate::new(NodeId(1));
        gate.on_members(set(members));
        gate.on_live(&set(live));
        gate
    }

    fn at(n: u64) -> Moment {
        Moment(Duration::from_secs(n))
    }

    fn copied(sound: bool, agrees: bool, gained: bool) -> Copied {
        Copied { sound, took: Took { agrees, gained } }
    }

    #[test]
    fn p9_what_was_copied_is_compared_once_more_with_those_who_may_have_deleted_it() {
        let mut g = gate(&[1, 2, 3], &[2, 3]);
        g.on_copied(NodeId(2), at(1), copied(true, true, false));
        g.on_copied(NodeId(3), at(1), copied(true, true, true));
        assert!(!g.open(true), "2 may have deleted what 3 had");
        assert!(g.again(&[NodeId(2), NodeId(3)], at(2)));
        assert!(!g.again(&[NodeId(2), NodeId(3)], at(2)));
        assert!(g.copies_from(NodeId(2)) && g.copies_from(NodeId(3)));
        g.on_copied(NodeId(2), at(1), copied(true, true, false));
        assert!(g.copies_from(NodeId(2)), "that comparison began too early");
        g.on_copied(NodeId(2), at(3), copied(true, true, true));
        assert!(!g.open(true));
        g.on_live(&set(&[2]));
        assert!(g.open(true), "3 is gone");
        let mut g = gate(&[1, 2], &[2]);
        g.on_copied(NodeId(2), at(1), copied(true, true, false));
        assert!(!g.again(&[NodeId(2)], at(2)), "nothing came");
        assert!(g.open(true));
    }

    #[test]
    fn a_single_node_has_everything() {
        assert!(!Gate::new(NodeId(1)).open(true), "it does not know yet that it is alone");
        assert!(gate(&[1], &[]).open(false));
    }

    #[test]
    fn it_copies_from_every_live_peer_and_meets_every_majority() {
        let mut g = gate(&[1, 2, 3], &[2, 3]);
        g.on_copied(NodeId(2), at(1), copied(true, true, false));
        assert!(!g.open(true), "3 is live too");
        g.on_live(&set(&[2]));
        assert!(!g.open(false), "1 and 3 may be those that have it");
        assert!(g.open(true));
        assert!(g.open(false), "it stays");
        let mut alone = gate(&[1, 2, 3], &[]);
        assert!(!alone.open(true), "2 and 3 may have what 1 lacks");
        alone.on_live(&set(&[2]));
        alone.on_copied(NodeId(2), at(1), copied(false, true, false));
        assert!(!alone.open(true), "2 does not know what it lacks");
        alone.on_copied(NodeId(3), at(1), copied(false, true, false));
        assert!(alone.open(false), "there is nobody else to ask");
    }

    #[test]
    fn tombstones_go_when_every_member_has_them() {
        let mut g = gate(&[1, 2, 3], &[2]);
        g.on_copied(NodeId(2), at(5), copied(true, true, false));
        assert_eq!(g.confirmed(at(9)), None);
        g.on_copied(NodeId(3), at(7), copied(true, false, false));
        assert_eq!(g.confirmed(at(9)), None);
        g.on_copied(NodeId(3), at(8), copied(true, true, false));
        assert_eq!(g.confirmed(at(9)), Some(at(5)));
        g.on_copied(NodeId(2), at(9), copied(true, false, false));
        assert_eq!(g.confirmed(at(9)), Some(at(5)), "what it had then it has");
        assert_eq!(gate(&[1], &[]).confirmed(at(9)), Some(at(9)));
    }
}
