//! Which group owns which client ID (R6), and which nodes should hold which group.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::apply::{Answer, Cx};
use super::journal::Change;
use super::nodes;
use super::outcome::{Outcome, Refused};
use super::state::State;
use crate::ids::{BrokerId, GroupId, NodeId, Slot};
use crate::limits::{DEFAULT_SHARDS, MAX_VOTERS, SLOTS};

/// Most session shards of a cluster: each costs heartbeats and memory on every node that holds it.
pub const MAX_SHARDS: u32 = 1024;
const _: () = assert!(MAX_SHARDS <= SLOTS as u32 && DEFAULT_SHARDS <= MAX_SHARDS);
const _: () = assert!(SLOTS == 1 << SLOT_BITS);

const SLOT_BITS: u32 = 12;

/// The slot of a client ID: FNV-1a (64 bit) over the broker's id (16 bytes, big endian) and the client ID's UTF-8,
/// then the finalizer of MurmurHash3 (FNV alone mixes its high bits badly), of which the top 12 bits. It decides where
/// state lives, so it never changes.
pub fn slot_of(broker: BrokerId, client: &str) -> Slot {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let id = broker.0.to_be_bytes();
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    let mut hash = id.iter().chain(client.as_bytes()).fold(OFFSET, step);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    Slot((hash >> (64 - SLOT_BITS)) as u16)
}

/// The default placement: the whole cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Placement {
    shards: u32,
    /// By slot. A map rather than a formula, so that slots can move to groups that are added later.
    groups: Arc<Vec<GroupId>>,
    replicas: Arc<BTreeMap<GroupId, Vec<NodeId>>>,
}

impl Default for Placement {
    fn default() -> Self {
        Self::with_shards(DEFAULT_SHARDS)
    }
}

impl Placement {
    pub(super) fn with_shards(shards: u32) -> Self {
        let groups = (0..u32::from(SLOTS)).map(|slot| GroupId(1 + slot % shards)).collect();
        Self { shards, groups: Arc::new(groups), replicas: Arc::default() }
    }
}

impl State {
    /// How many session shards there are: groups 1 to this.
    pub fn shards(&self) -> u32 {
        self.placement.shards
    }

    /// The session shards' groups.
    pub fn shard_groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.placement.shards).map(GroupId)
    }

    /// The group that owns a slot.
    pub fn group_of(&self, slot: Slot) -> GroupId {
        let groups = &self.placement.groups;
        groups[usize::from(slot.0) % groups.len()]
    }

    /// The group that owns a client ID.
    pub fn group_of_client(&self, broker: BrokerId, client: &str) -> GroupId {
        self.group_of(slot_of(broker, client))
    }

    /// The nodes that should hold a group; empty before it was placed. Group 0: the wish for the metadata voters.
    pub fn replicas(&self, group: GroupId) -> &[NodeId] {
        self.placement.replicas.get(&group).map_or(&[], Vec::as_slice)
    }

    /// All groups that were placed.
    pub fn all_replicas(&self) -> &Arc<BTreeMap<GroupId, Vec<NodeId>>> {
        &self.placement.replicas
    }

    /// The groups that a node should hold.
    pub fn groups_of(&self, node: NodeId) -> impl Iterator<Item = GroupId> + '_ {
        let holds = move |(_, nodes): &(&GroupId, &Vec<NodeId>)| nodes.contains(&node);
        self.placement.replicas.iter().filter(holds).map(|(group, _)| *group)
    }
}

pub(super) fn set_replicas(state: &mut State, cx: Cx, groups: &[(GroupId, Vec<NodeId>)]) -> Answer {
    for (group, replicas) in groups {
        if group.0 > state.placement.shards {
            return Err(Refused::not_found(format!("there is no group {group}")));
        }
        let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
        if replicas.is_empty() || replicas.len() > MAX_VOTERS || distinct.len() != replicas.len() {
            return Err(Refused::invalid(format!("group {group} needs 1 to {MAX_VOTERS} different nodes")));
        }
        for node in replicas {
            nodes::existing(state, *node)?;
            if state.is_leaving(*node) && !state.replicas(*group).contains(node) {
                return Err(Refused::precondition(format!("node {node} is being removed and gets no group")));
            }
        }
    }
    Arc::make_mut(&mut state.placement.replicas).extend(groups.iter().cloned());
    state.note(cx.index, Change::Placement);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_change() {
        let broker = BrokerId(0x4c63_fa30_ee13_414b_a95b_e5b5_6d89_6fea);
        let clients = ["", "a", "01G3A5GBJE5P3GPXJZ72X4X8SA", "Gerät-7"];
        let slots = clients.map(|client| slot_of(broker, client).0);
        assert_eq!(slots, SLOT_VECTORS);
    }

    #[test]
    fn slots_and_groups_are_spread() {
        let state = State::default();
        let mut count = BTreeMap::<GroupId, u32>::new();
        for n in 0..16_000 {
            *count.entry(state.group_of_client(BrokerId(7), &format!("client-{n}"))).or_default() += 1;
        }
        assert_eq!(count.len(), DEFAULT_SHARDS as usize);
        assert!(count.values().all(|n| (850..1150).contains(n)), "{count:?}");
    }

    const SLOT_VECTORS: [u16; 4] = [2357, 3532, 1101, 3541];
}
