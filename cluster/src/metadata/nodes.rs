//! Nodes, their lives and leases (R1 to R3).

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::accounts::check_label;
use super::apply::{Answer, Cx};
use super::cluster::{check_join_token, use_join_token};
use super::command::CommandBody as Body;
use super::journal::Change;
use super::leaving;
use super::level::Level;
use super::maps;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::{Incarnation, NodeId, NodeLife};

/// Nodes of a cluster at one time.
pub const MAX_NODES: usize = 1000;
/// Longest address or other text of a node's card, bytes.
const MAX_TEXT_BYTES: usize = 255;

/// Where a node is reached; `host:port`, empty where it does not listen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Raft, control and forwarding between nodes (mutual TLS).
    pub peer: String,
    /// SWIM datagrams.
    pub swim: String,
    /// MQTT over TCP.
    pub mqtt: String,
    /// MQTT over TLS.
    pub mqtts: String,
    /// MQTT over WebSocket.
    pub ws: String,
    /// MQTT over WebSocket over TLS.
    pub wss: String,
    /// The administration API, gRPC.
    pub grpc: String,
    /// The administration API, REST and console.
    pub http: String,
}

/// What a node says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// Where it is reached.
    pub addresses: Addresses,
    /// Region; empty: none.
    pub region: String,
    /// Zone within the region; empty: none. Voters and replicas are spread over zones.
    pub zone: String,
    /// Version of its binary.
    pub version: String,
    /// The highest level that its binary knows (R17).
    pub level: Level,
}

impl Default for NodeCard {
    fn default() -> Self {
        let (region, zone, version) = Default::default();
        Self { addresses: Addresses::default(), region, zone, version, level: Level::LATEST }
    }
}

/// Whether a life may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lease {
    /// The node has joined but registered no life yet.
    Never,
    /// Not committed as expired. Whether the node itself may still serve is for its own clock to say (R2).
    Live,
    /// Expired: claims of this life are free.
    Expired,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// For people; unique.
    pub name: String,
    /// SHA-256 of its certificate's public key.
    pub key_hash: [u8; 32],
    /// Whether it may become a voter of the metadata group.
    pub voter_eligible: bool,
    /// When it was added.
    pub joined_at: UnixMillis,
    /// Its current life; 0 before the first.
    pub incarnation: Incarnation,
    /// When that life registered.
    pub started_at: UnixMillis,
    /// That life's lease.
    pub lease: Lease,
    /// What that life says of itself.
    pub card: NodeCard,
}

impl NodeRecord {
    /// Its current life.
    pub fn life(&self) -> NodeLife {
        NodeLife { node: self.id, incarnation: self.incarnation }
    }
}

/// The nodes; ids are never used again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Nodes {
    #[serde(deserialize_with = "maps::read")]
    pub(super) records: OrdMap<NodeId, Arc<NodeRecord>>,
    /// The highest id ever given.
    last: NodeId,
    /// The newest term whose leader grants and expires leases.
    lease_term: u64,
}

impl State {
    /// Whether the lease of this life is known to have expired: by command, by a newer life, or because the node
    /// was removed. A life that this view has not heard of yet is not expired.
    pub fn is_expired(&self, life: NodeLife) -> bool {
        match self.node(life.node) {
            None => self.was_removed(life.node),
            Some(node) if node.incarnation == life.incarnation => node.lease == Lease::Expired,
            Some(node) => node.incarnation > life.incarnation,
        }
    }

    /// Whether this was a node of the cluster and is none any more. Ids are given once, so it never will be again.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.node(node).is_none() && (NodeId(1)..=self.nodes.last).contains(&node)
    }

    /// The node of this name.
    pub fn find_node(&self, name: &str) -> Option<&Arc<NodeRecord>> {
        self.nodes().find(|node| node.name == name)
    }

    /// The node whose certificate has this public key (SHA-256 of it).
    pub fn node_of_key(&self, key_hash: &[u8; 32]) -> Option<&Arc<NodeRecord>> {
        self.nodes().find(|node| node.key_hash == *key_hash)
    }

    pub(super) fn refresh_live(&mut self) {
        let live = self.nodes().filter(|node| node.lease == Lease::Live);
        let live: BTreeMap<_, _> = live.map(|node| (node.id, node.incarnation)).collect();
        self.index.live = Arc::new(live);
    }
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::AddNode { name, key_hash, join_token, voter_eligible } => {
            add(state, cx, name, *key_hash, join_token.as_ref(), *voter_eligible)
        }
        Body::SetNodeKey { node, key_hash } => set_key(state, cx, *node, *key_hash),
        Body::RemoveNode { node } => remove(state, cx, *node),
        _ => Err(Refused::invalid("not a command about nodes")),
    }
}

fn add(
    state: &mut State,
    cx: Cx,
    name: &str,
    key_hash: [u8; 32],
    join_token: Option<&[u8; 32]>,
    voter_eligible: bool,
) -> Answer {
    check_label("a node's name", name)?;
    if state.find_node(name).is_some() {
        return Err(Refused::exists(format!("node {name} already exists")));
    }
    key_is_free(state, &key_hash)?;
    if state.nodes.records.len() >= MAX_NODES {
        return Err(Refused::limit(format!("the cluster has {MAX_NODES} nodes, the most it can hold")));
    }
    if let Some(hash) = join_token {
        check_join_token(state, cx, hash)?;
        use_join_token(state, hash);
        state.note(cx.index, Change::Cluster);
    }
    let id = NodeId(state.nodes.last.0 + 1);
    state.nodes.last = id;
    let record = NodeRecord {
        id,
        name: name.to_owned(),
        key_hash,
        voter_eligible,
        joined_at: cx.at,
        incarnation: Incarnation(0),
        started_at: UnixMillis(0),
        lease: Lease::Never,
        card: NodeCard { level: state.level, ..NodeCard::default() },
    };
    store(state, cx, record);
    Ok(Outcome::Created(Created::Node(id)))
}

fn set_key(state: &mut State, cx: Cx, node: NodeId, key_hash: [u8; 32]) -> Answer {
    let mut record = existing(state, node)?.as_ref().clone();
    if record.key_hash != key_hash {
        key_is_free(state, &key_hash)?;
        record.key_hash = key_hash;
        store(state, cx, record);
    }
    Ok(Outcome::Done)
}

pub(super) fn register(state: &mut State, cx: Cx, node: NodeId, incarnation: Incarnation, card: &NodeCard) -> Answer {
    let mut record = existing(state, node)?.as_ref().clone();
    check_card(card)?;
    if state.is_drained(node) {
        return Err(Refused::precondition(format!("node {} is being removed", record.name)));
    }
    if incarnation <= record.incarnation {
        let current = record.incarnation;
        return Err(Refused::precondition(format!("incarnation {incarnation} is not newer than {current}")));
    }
    if card.level < state.level {
        let (highest, level) = (card.level, state.level);
        return Err(Refused::precondition(format!(
            "this binary knows level {highest} at most, the cluster is at level {level}"
        )));
    }
    let older = record.life();
    let was_live = record.lease == Lease::Live;
    (record.incarnation, record.lease, record.card) = (incarnation, Lease::Live, card.clone());
    record.started_at = cx.at;
    if was_live {
        state.note(cx.index, Change::LeaseExpired(older));
    }
    store(state, cx, record);
    Ok(Outcome::Done)
}

pub(super) fn expire(state: &mut State, cx: Cx, life: NodeLife) -> Answer {
    if state.is_expired(life) {
        return Ok(Outcome::Done);
    }
    let mut record = existing(state, life.node)?.as_ref().clone();
    if record.incarnation != life.incarnation || record.lease != Lease::Live {
        return Err(Refused::precondition(format!("node life {life} has not registered")));
    }
    record.lease = Lease::Expired;
    state.note(cx.index, Change::LeaseExpired(life));
    store(state, cx, record);
    Ok(Outcome::Done)
}

pub(super) fn lead_leases(state: &mut State, term: u64) -> Answer {
    check_term(state, term)?;
    state.nodes.lease_term = term;
    Ok(Outcome::Done)
}

pub(super) fn expire_in_term(state: &mut State, cx: Cx, life: NodeLife, term: u64) -> Answer {
    check_term(state, term)?;
    let answer = expire(state, cx, life)?;
    state.nodes.lease_term = term;
    Ok(answer)
}

fn check_term(state: &State, term: u64) -> Result<(), Refused> {
    let granting = state.nodes.lease_term;
    if term < granting {
        return Err(Refused::precondition(format!("a leader of term {granting} grants the leases")));
    }
    Ok(())
}

fn remove(state: &mut State, cx: Cx, node: NodeId) -> Answer {
    let record = existing(state, node)?;
    let name = &record.name;
    if record.lease == Lease::Live {
        return Err(Refused::precondition(format!("node {name} still has a live lease; stop it first")));
    }
    if let Some(group) = state.groups_of(node).next() {
        return Err(Refused::precondition(format!("node {name} still holds a replica of group {group}")));
    }
    leaving::may_go(state, node)?;
    state.leaving.remove(&node);
    state.nodes.records.remove(&node);
    state.refresh_live();
    state.note(cx.index, Change::Node(node));
    Ok(Outcome::Done)
}

fn store(state: &mut State, cx: Cx, record: NodeRecord) {
    let id = record.id;
    state.nodes.records.insert(id, Arc::new(record));
    state.refresh_live();
    state.note(cx.index, Change::Node(id));
}

pub(super) fn existing(state: &State, id: NodeId) -> Result<&Arc<NodeRecord>, Refused> {
    state.node(id).ok_or_else(|| Refused::not_found(format!("there is no node {id}")))
}

fn key_is_free(state: &State, key_hash: &[u8; 32]) -> Result<(), Refused> {
    match state.node_of_key(key_hash) {
        Some(node) => Err(Refused::exists(format!("node {} has the same public key", node.name))),
        None => Ok(()),
    }
}

fn check_card(card: &NodeCard) -> Result<(), Refused> {
    let a = &card.addresses;
    let texts =
        [&a.peer, &a.swim, &a.mqtt, &a.mqtts, &a.ws, &a.wss, &a.grpc, &a.http, &card.region, &card.zone, &card.version];
    if texts.iter().any(|text| text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control)) {
        return Err(Refused::invalid(format!(
            "an address, region, zone or version has at most {MAX_TEXT_BYTES} bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;
    use crate::metadata::RefusedKind;

    #[test]
    fn only_the_newest_leader_expires_leases() {
        let mut state = State::default();
        let cx = Cx { index: LogIndex(1), at: UnixMillis(0) };
        add(&mut state, cx, "a", [1; 32], None, true).unwrap();
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        register(&mut state, cx, life.node, life.incarnation, &NodeCard::default()).unwrap();
        assert_eq!(lead_leases(&mut state, 3), Ok(Outcome::Done));
        let late = expire_in_term(&mut state, cx, life, 2);
        assert_eq!(late.map_err(|r| r.kind), Err(RefusedKind::Precondition));
        assert!(!state.is_expired(life));
        assert_eq!(expire_in_term(&mut state, cx, life, 3), Ok(Outcome::Done));
        assert!(state.is_expired(life));
    }
}
