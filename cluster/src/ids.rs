//! Identifiers. A bare integer never crosses a room's door: each kind of id is a type of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! int_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $int);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u128);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:032x})", stringify!($name), self.0)
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                if text.len() != 32 {
                    return Err(BadId);
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| BadId)
            }
        }
    };
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hexadecimal digits")]
pub struct BadId;

int_id! {
    /// A node of the cluster, from 1; never reused.
    NodeId(u64)
}
int_id! {
    /// One life of a node's process: a starting node registers a larger one (R3).
    Incarnation(u64)
}
int_id! {
    /// A Raft group: 0 is the metadata group, 1 and up are session shards.
    GroupId(u32)
}
int_id! {
    /// One of `limits::SLOTS` hash slots of a placement (R6).
    Slot(u16)
}
int_id! {
    /// How often the claim on a client ID changed hands; anything stamped with an older one is dropped.
    Epoch(u64)
}
int_id! {
    /// A session that outlives its connections, unique in its shard: the epoch under which it was made.
    SessionId(u64)
}
int_id! {
    /// Place in what one life of a node proposes to one shard, from 1 (R13).
    Sequence(u64)
}
int_id! {
    /// One connection of a node's incarnation, across all its workers (R5).
    Nonce(u64)
}
int_id! {
    /// An event loop of this node, from 0.
    WorkerId(u16)
}
int_id! {
    /// A position in a Raft group's log.
    LogIndex(u64)
}
hex_id! {
    /// A whole cluster; made when it is initialised.
    ClusterId
}
hex_id! {
    /// A tenant account.
    AccountId
}
hex_id! {
    /// A namespace: a collection of brokers.
    NamespaceId
}
hex_id! {
    /// A broker: a tenant with its own hostname, keys, credentials and limits.
    BrokerId
}
hex_id! {
    /// Made by whoever first sends a write; a retry carries the same one and gets the same outcome.
    RequestId
}
hex_id! {
    /// An API token's public half.
    TokenId
}

impl GroupId {
    /// The metadata group.
    pub const METADATA: GroupId = GroupId(0);
}

/// A client ID as MQTT has it: UTF-8 text, cheap to clone.
pub type ClientId = Arc<str>;

impl Sequence {
    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whether a client ID has the form of those that the service makes: a ULID, 26 characters of Crockford's base 32, the
/// first of them 0 to 7.
pub fn is_generated_client_id(id: &str) -> bool {
    let base32 = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z') && !b"ILOU".contains(&byte);
    id.len() == 26 && id.as_bytes()[0] <= b'7' && id.bytes().all(base32)
}

/// One life of one node: what a lease, a claim or a stream belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeLife {
    /// The node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}
/// What a will is known by wherever it arrives: the connection that left it. Epochs of a shard are given once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WillName {
    /// The client's shard.
    pub shard: GroupId,
    /// Under which the connection served.
    pub epoch: Epoch,
}
