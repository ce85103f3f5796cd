//! PURE. From who is there to who should hold what. Deterministic, and moves no more than it must.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{GroupId, NodeId};
use crate::limits::SHARD_REPLICAS;

/// Voters of the metadata group, at most: five bear two failures, and each more costs every write.
pub const META_VOTERS: usize = 5;
const _: () = assert!(META_VOTERS <= crate::limits::MAX_VOTERS && META_VOTERS % 2 == 1);

/// A node that has registered at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// Whether its lease is live. Groups are given to live nodes only, and taken from nodes that are not live
    /// only by an administrator: they mostly come back.
    pub live: bool,
    /// Whether it is being removed: it gets no groups, and those that it holds go to others.
    pub leaving: bool,
    /// Whether it may vote in the metadata group.
    pub voter: bool,
    /// Where it stands: region and zone. Replicas of a group are spread over them.
    pub zone: String,
}

/// A group's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that vote.
    pub voters: BTreeSet<NodeId>,
    /// Those that only follow.
    pub learners: BTreeSet<NodeId>,
}

/// What should change in who holds the groups 0 to `shards`, given who should hold them so far.
pub fn replicas(
    seats: &[Seat],
    current: &BTreeMap<GroupId, Vec<NodeId>>,
    shards: u32,
) -> BTreeMap<GroupId, Vec<NodeId>> {
    let mut wish = current.clone();
    let staying: Vec<Seat> = seats.iter().filter(|s| !s.leaving).cloned().collect();
    let leaving: BTreeSet<NodeId> = seats.iter().filter(|s| s.leaving).map(|s| s.node).collect();
    let eligible: Vec<Seat> = staying.iter().filter(|s| s.voter).cloned().collect();
    let voters = odd(eligible.len().min(META_VOTERS));
    let mut meta = Spread::new(&eligible);
    meta.settle(wish.entry(GroupId::METADATA).or_default(), voters, &leaving);
    let replicas = if staying.len() < SHARD_REPLICAS { 1 } else { SHARD_REPLICAS };
    let mut spread = Spread::new(&staying);
    for (_, nodes) in wish.range(GroupId(1)..=GroupId(shards)) {
        spread.count(nodes);
    }
    for group in (1..=shards).map(GroupId) {
        spread.settle(wish.entry(group).or_default(), replicas, &leaving);
    }
    while spread.even_out(&mut wish, shards) {}
    wish.retain(|group, nodes| !nodes.is_empty() && current.get(group) != Some(nodes));
    wish
}

/// The largest odd number of voters among `n` (an even one more bears no more failures); 0 of 0.
fn odd(n: usize) -> usize {
    n.saturating_sub(1) / 2 * 2 + n.min(1)
}

/// How many groups each node holds.
struct Spread<'a> {
    seats: &'a [Seat],
    load: BTreeMap<NodeId, usize>,
}

impl<'a> Spread<'a> {
    fn new(seats: &'a [Seat]) -> Self {
        Self { seats, load: seats.iter().map(|s| (s.node, 0)).collect() }
    }

    fn count(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            *self.load.entry(*node).or_default() += 1;
        }
    }

    fn zone(&self, node: NodeId) -> Option<&'a str> {
        self.seats.iter().find(|s| s.node == node).map(|s| s.zone.as_str())
    }

    /// How many of `nodes` stand in the zone of `node`.
    fn crowd(&self, nodes: &[NodeId], node: NodeId) -> usize {
        nodes.iter().filter(|n| **n != node && self.zone(**n) == self.zone(node)).count()
    }

    /// Takes leaving nodes out, unless nobody could hold the group instead, and fills up. A group that cannot be filled
    /// goes on with those that stay: a copy is given up with its node only.
    fn settle(&mut self, nodes: &mut Vec<NodeId>, wanted: usize, leaving: &BTreeSet<NodeId>) {
        let mut next: Vec<NodeId> = nodes.iter().copied().filter(|n| !leaving.contains(n)).collect();
        self.fill(&mut next, wanted);
        if !next.is_empty() {
            *nodes = next;
        }
    }

    /// Adds live nodes until there are `wanted`: first from the emptiest zone, then the least loaded.
    fn fill(&mut self, nodes: &mut Vec<NodeId>, wanted: usize) {
        while nodes.len() < wanted {
            let free = self.seats.iter().filter(|s| s.live && !nodes.contains(&s.node)).map(|s| s.node);
            let Some(best) = free.min_by_key(|n| (self.crowd(nodes, *n), self.load[n], *n)) else { return };
            self.count(&[best]);
            nodes.push(best);
        }
    }

    /// Moves one group from a node that holds two more than another; `false` if there is nothing to gain.
    fn even_out(&mut self, wish: &mut BTreeMap<GroupId, Vec<NodeId>>, shards: u32) -> bool {
        let mut live: Vec<NodeId> = self.seats.iter().filter(|s| s.live).map(|s| s.node).collect();
        live.sort_by_key(|n| (self.load[n], *n));
        for to in &live {
            for from in live.iter().rev().filter(|from| self.load[from] > self.load[to] + 1) {
                let fits = |nodes: &&mut Vec<NodeId>| self.may_move(nodes, *from, *to);
                let mut shards = wish.range_mut(GroupId(1)..=GroupId(shards)).map(|(_, nodes)| nodes);
                if let Some(nodes) = shards.find(fits) {
                    nodes.iter_mut().filter(|n| *n == from).for_each(|n| *n = *to);
                    *self.load.entry(*from).or_default() -= 1;
                    self.count(&[*to]);
                    return true;
                }
            }
        }
        false
    }

    fn may_move(&self, nodes: &[NodeId], from: NodeId, to: NodeId) -> bool {
        // A group of one has no other copy to go on from if the move goes wrong half-way: leave it.
        if nodes.len() < 2 || !nodes.contains(&from) || nodes.contains(&to) {
            return false;
        }
        let rest: Vec<NodeId> = nodes.iter().copied().filter(|n| *n != from).collect();
        self.crowd(&rest, to) <= self.crowd(&rest, from)
    }
}

/// What a group's leader should make of its members `now`, or nothing. A node that is neither a member nor live
/// would never catch up, so that a change which needs it waits.
pub fn members(group: GroupId, wish: &[NodeId], now: &Members, seats: &[Seat]) -> Option<Members> {
    let there = |node: &NodeId| {
        let member = now.voters.contains(node) || now.learners.contains(node);
        member || seats.iter().any(|s| s.node == *node && s.live)
    };
    let mut voters: BTreeSet<NodeId> = wish.iter().copied().collect();
    if voters.is_empty() || !voters.iter().all(there) {
        voters = now.voters.clone();
    }
    let learners = match group {
        GroupId::METADATA => seats.iter().map(|s| s.node).filter(|n| there(n) && !voters.contains(n)).collect(),
        _ => BTreeSet::new(),
    };
    let next = Members { voters, learners };
    (!next.voters.is_empty() && next != *now).then_some(next)
}

/// Who should lead a shard: its replicas take turns by the group's number; one that is not live is passed over.
/// The metadata group stays where it is.
pub fn leader(group: GroupId, wish: &[NodeId], seats: &[Seat]) -> Option<NodeId> {
    if group == GroupId::METADATA || wish.is_empty() {
        return None;
    }
    let mut nodes = wish.to_vec();
    nodes.sort_unstable();
    let first = group.0 as usize % nodes.len();
    let live = |node: &&NodeId| seats.iter().any(|s| s.node == **node && s.live);
    nodes.iter().cycle().skip(first).take(nodes.len()).find(live).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seat(node: u64) -> Seat {
        Seat { node: NodeId(node), live: true, leaving: false, voter: true, zone: String::new() }
    }

    fn seats(n: u64) -> Vec<Seat> {
        (1..=n).map(seat).collect()
    }

    fn ids(nodes: &[u64]) -> Vec<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().map(|n| NodeId(*n)).collect()
    }

    /// Applies the plan until it asks for nothing more: once.
    fn place(seats: &[Seat], current: &mut BTreeMap<GroupId, Vec<NodeId>>, shards: u32) -> usize {
        let changes = replicas(seats, current, shards);
        let count = changes.len();
        current.extend(changes);
        assert_eq!(replicas(seats, current, shards), BTreeMap::new(), "one plan is enough");
        count
    }

    fn loads(current: &BTreeMap<GroupId, Vec<NodeId>>) -> BTreeMap<NodeId, usize> {
        let mut loads = BTreeMap::new();
        for node in current.range(GroupId(1)..).flat_map(|(_, nodes)| nodes) {
            *loads.entry(*node).or_default() += 1;
        }
        loads
    }

    #[test]
    fn a_cluster_grows_from_one_node() {
        let mut current = BTreeMap::new();
        assert_eq!(place(&seats(1), &mut current, 16), 17);
        assert!(current.values().all(|nodes| *nodes == ids(&[1])));
        assert_eq!(place(&seats(2), &mut current, 16), 0);
        place(&seats(3), &mut current, 16);
        assert!(current.values().all(|nodes| nodes.len() == 3 && nodes[0] == NodeId(1)));
        place(&seats(4), &mut current, 16);
        assert_eq!(current[&GroupId(0)], ids(&[1, 2, 3]));
        assert_eq!(loads(&current).into_values().collect::<Vec<_>>(), vec![12, 12, 12, 12]);
        place(&seats(5), &mut current, 16);
        assert_eq!(current[&GroupId(0)].len(), 5);
        assert_eq!(loads(&current).into_values().max(), Some(10));
    }

    #[test]
    fn no_more_groups_move_than_must() {
        let mut current = BTreeMap::new();
        place(&seats(3), &mut current, 16);
        let before = current.clone();
        place(&seats(4), &mut current, 16);
        let moved = current.iter().filter(|(g, nodes)| g.0 > 0 && before[*g] != **nodes).count();
        assert_eq!(moved, 12);
    }

    #[test]
    fn a_dead_node_keeps_its_groups_and_gets_no_others() {
        let mut current = BTreeMap::new();
        place(&seats(4), &mut current, 8);
        let before = current.clone();
        let mut some = seats(4);
        some[3].live = false;
        assert_eq!(place(&some, &mut current, 8), 0);
        assert_eq!(current, before);
        let mut fresh = BTreeMap::new();
        place(&some, &mut fresh, 8);
        assert!(fresh.values().all(|nodes| !nodes.contains(&NodeId(4))));
    }

    #[test]
    fn a_leaving_nodes_groups_go_to_others() {
        let mut current = BTreeMap::new();
        place(&seats(4), &mut current, 16);
        let mut some = seats(4);
        some[0].leaving = true;
        place(&some, &mut current, 16);
        assert!(current.values().all(|nodes| nodes.len() == 3 && !nodes.contains(&NodeId(1))), "{current:?}");
        some[1].leaving = true;
        place(&some, &mut current, 16);
        assert!(current.values().all(|nodes| *nodes == ids(&[3, 4]) || *nodes == ids(&[4, 3])), "{current:?}");
        some[2].leaving = true;
        place(&some, &mut current, 16);
        assert!(current.values().all(|nodes| *nodes == ids(&[4])));
        some[3].leaving = true;
        assert_eq!(place(&some, &mut current, 16), 0, "the last stays");
    }

    #[test]
    fn a_leaving_node_goes_on_learning_the_metadata() {
        let now = Members { voters: set(&[1, 2, 3]), learners: set(&[]) };
        let mut some = seats(3);
        some[2].leaving = true;
        let next = Members { voters: set(&[1, 2]), learners: set(&[3]) };
        assert_eq!(members(GroupId(0), &ids(&[1, 2]), &now, &some), Some(next.clone()));
        let gone = Members { voters: set(&[1, 2]), learners: set(&[]) };
        assert_eq!(members(GroupId(0), &ids(&[1, 2]), &next, &some[..2]), Some(gone.clone()));
        assert_eq!(members(GroupId(3), &ids(&[1, 2]), &now, &some), Some(gone));
    }

    #[test]
    fn replicas_spread_over_zones() {
        let mut six = seats(6);
        for (at, seat) in six.iter_mut().enumerate() {
            seat.zone = ["a", "a", "a", "b", "b", "c"][at].to_owned();
        }
        let mut current = BTreeMap::new();
        place(&six, &mut current, 16);
        for nodes in current.range(GroupId(1)..).map(|(_, nodes)| nodes) {
            let zones: BTreeSet<&str> = nodes.iter().map(|n| six[n.0 as usize - 1].zone.as_str()).collect();
            assert_eq!(zones.len(), 3);
        }
    }

    #[test]
    fn metadata_voters_are_odd_and_eligible() {
        assert_eq!((0..8).map(odd).collect::<Vec<_>>(), vec![0, 1, 1, 3, 3, 5, 5, 7]);
        let mut four = seats(4);
        four[0].voter = false;
        let mut current = BTreeMap::new();
        place(&four, &mut current, 1);
        assert_eq!(current[&GroupId(0)], ids(&[2, 3, 4]));
    }

    #[test]
    fn members_follow_the_wish_when_the_new_ones_are_there() {
        let now = Members { voters: set(&[1, 2, 3]), learners: set(&[]) };
        let wish = ids(&[2, 3, 4]);
        let next = Members { voters: set(&[2, 3, 4]), learners: set(&[]) };
        assert_eq!(members(GroupId(3), &wish, &now, &seats(4)), Some(next.clone()));
        assert_eq!(members(GroupId(3), &wish, &next, &seats(4)), None);
        let mut some = seats(4);
        some[3].live = false;
        assert_eq!(members(GroupId(3), &wish, &now, &some), None, "it could not catch up");
        some[0].live = false;
        assert_eq!(members(GroupId(3), &ids(&[1, 2, 3]), &now, &some), None, "a dead member stays");
        assert_eq!(members(GroupId(3), &[], &now, &some), None);
    }

    #[test]
    fn everyone_else_learns_the_metadata() {
        let now = Members { voters: set(&[1]), learners: set(&[9]) };
        let mut some = seats(4);
        some[3].live = false;
        let next = Members { voters: set(&[1]), learners: set(&[2, 3]) };
        assert_eq!(members(GroupId(0), &ids(&[1]), &now, &some), Some(next));
    }

    #[test]
    fn replicas_take_turns_in_leading() {
        let wish = ids(&[3, 1, 2]);
        let lead = |seats: &[Seat]| (1..=4).map(|g| leader(GroupId(g), &wish, seats)).collect::<Vec<_>>();
        assert_eq!(lead(&seats(3)), [2, 3, 1, 2].map(|n| Some(NodeId(n))));
        let mut some = seats(3);
        some[1].live = false;
        assert_eq!(lead(&some), [3, 3, 1, 3].map(|n| Some(NodeId(n))));
        assert_eq!(leader(GroupId(0), &wish, &some), None);
    }

    proptest! {
        #[test]
        fn any_history_ends_balanced(steps in prop::collection::vec((1..8_u64, any::<bool>(), 0..3_u8), 1..12)) {
            let mut nodes: BTreeMap<u64, Seat> = BTreeMap::new();
            let mut current = BTreeMap::new();
            for (node, live, zone) in steps {
                nodes.insert(node, Seat { live, zone: zone.to_string(), ..seat(node) });
                let seats: Vec<Seat> = nodes.values().cloned().collect();
                let before = current.clone();
                place(&seats, &mut current, 8);
                for (group, wish) in &current {
                    let distinct: BTreeSet<_> = wish.iter().collect();
                    prop_assert_eq!(distinct.len(), wish.len());
                    let old = before.get(group).cloned().unwrap_or_default();
                    prop_assert!(old.len() <= wish.len());
                    prop_assert!(wish.iter().all(|n| old.contains(n) || nodes[&n.0].live));
                }
            }
        }
    }
}
