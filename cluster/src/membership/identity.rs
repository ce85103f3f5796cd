//! A member's identity within SWIM.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeId, NodeLife};

/// One life of a node, at an address. Of two identities of a node the newer life wins, then the one that was
/// renewed more often (a node does that when it hears that it is taken for down).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Which life of which node.
    pub life: NodeLife,
    /// How often this life refuted being down.
    pub renewals: u16,
    /// Where it takes datagrams.
    pub address: SocketAddr,
}

impl Identity {
    pub(super) fn new(life: NodeLife, address: SocketAddr) -> Self {
        Self { life, renewals: 0, address }
    }

    /// Whoever is at `address`: to announce to.
    pub(super) fn unknown_at(address: SocketAddr) -> Self {
        Self::new(NodeLife { node: UNKNOWN, incarnation: Incarnation(0) }, address)
    }
}

/// No node has this id (ids start at 1).
const UNKNOWN: NodeId = NodeId(0);

/// What is unique among members: the node. The unknown node equals every other, so that an announcement is
/// taken by whoever it reaches; it is never a member itself.
pub struct Slot(NodeId);

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.0 == UNKNOWN || other.0 == UNKNOWN
    }
}

impl foca::Identity for Identity {
    type Addr = Slot;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewals: self.renewals.saturating_add(1), ..self.clone() })
    }

    fn addr(&self) -> Slot {
        Slot(self.life.node)
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.life.incarnation, self.renewals) > (adversary.life.incarnation, adversary.renewals)
    }
}
