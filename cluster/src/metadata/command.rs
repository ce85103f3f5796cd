//! Commands: everything that can be written to the metadata group, and their bytes.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::brokers::{BrokerPatch, BrokerSettings};
use super::keys::{Kid, NewKey};
use super::level::Level;
use super::names::Name;
use super::nodes::NodeCard;
use super::tokens::Scope;
use crate::clock::UnixMillis;
use crate::consensus::UnknownCommand;
use crate::ids::{
    AccountId, BrokerId, ClusterId, GroupId, Incarnation, NamespaceId, NodeId, NodeLife, RequestId, TokenId,
};

/// First byte of an encoded command.
const VERSION: u8 = 1;

/// A command in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// A retry carries the same one and gets the same outcome.
    pub request_id: RequestId,
    /// The proposer's wall clock: replicas read no clock.
    pub at: UnixMillis,
    /// What to do.
    pub body: CommandBody,
}

/// What to do. Append-only: a variant's place and fields never change (a test pins the bytes of each).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are named after those of the records, which say what they mean")]
pub enum CommandBody {
    /// Makes this the metadata of a cluster: once. `shards` session groups share the slots (R6).
    InitCluster {
        id: ClusterId,
        ca_pem: String,
        sealed_ca_key: Vec<u8>,
        sealed_secrets: Vec<u8>,
        shards: u32,
    },
    /// Raises the committed level (R17); never lowers it.
    RaiseLevel {
        to: Level,
    },
    CreateAccount {
        id: AccountId,
        name: String,
        max_namespaces: u32,
    },
    UpdateAccount {
        id: AccountId,
        name: Option<String>,
        max_namespaces: Option<u32>,
    },
    /// Refused while it holds namespaces. Its API tokens go with it.
    DeleteAccount {
        id: AccountId,
    },
    CreateNamespace {
        id: NamespaceId,
        account: AccountId,
        name: Name,
        description: String,
        max_brokers: u32,
    },
    UpdateNamespace {
        id: NamespaceId,
        description: Option<String>,
        max_brokers: Option<u32>,
    },
    /// Refused while it holds brokers.
    DeleteNamespace {
        id: NamespaceId,
    },
    /// The first key becomes the active one, the second the next (the rotation pair).
    CreateBroker {
        id: BrokerId,
        namespace: NamespaceId,
        name: Name,
        settings: BrokerSettings,
        keys: Vec<NewKey>,
    },
    UpdateBroker {
        id: BrokerId,
        patch: BrokerPatch,
    },
    /// With its keys and revocations.
    DeleteBroker {
        id: BrokerId,
    },
    /// The active key retires (it still verifies), the next becomes active, `next` the next.
    RotateKeys {
        broker: BrokerId,
        next: NewKey,
    },
    /// Removes a retired key: tokens that it signed are no longer admitted.
    RemoveKey {
        broker: BrokerId,
        kid: Kid,
    },
    /// All or none: refused where the broker would hold more than `limits::MAX_REVOCATIONS`.
    Revoke {
        broker: BrokerId,
        jtis: Vec<String>,
    },
    /// Those not revoked are passed over.
    Unrevoke {
        broker: BrokerId,
        jtis: Vec<String>,
    },
    /// `hash` is the SHA-256 of the secret.
    CreateToken {
        id: TokenId,
        hash: [u8; 32],
        name: String,
        scope: Scope,
        expires: Option<UnixMillis>,
    },
    RevokeToken {
        id: TokenId,
    },
    /// `hash` is the SHA-256 of the token's secret; it admits `uses` nodes until `expires`.
    AddJoinToken {
        hash: [u8; 32],
        expires: UnixMillis,
        uses: u32,
    },
    RemoveJoinToken {
        hash: [u8; 32],
    },
    /// Allocates the next node id. With `join_token` (its hash), uses it up once; without, whoever proposes has
    /// established that the node may join (the first node, an administrator).
    AddNode {
        name: String,
        key_hash: [u8; 32],
        join_token: Option<[u8; 32]>,
        voter_eligible: bool,
    },
    /// A renewed certificate has another public key.
    SetNodeKey {
        node: NodeId,
        key_hash: [u8; 32],
    },
    /// A starting node's new life; expires the older one at once (R3).
    RegisterIncarnation {
        node: NodeId,
        incarnation: Incarnation,
        card: NodeCard,
    },
    /// Frees the claims of that life: proposed by that node itself when it serves no more. The leader proposes
    /// [`CommandBody::ExpireLeaseInTerm`].
    ExpireLease {
        life: NodeLife,
    },
    /// Forgets a node for good. Refused while its lease is live, it holds replicas, or it is leaving and a group has not
    /// reported that it goes on without it.
    RemoveNode {
        node: NodeId,
    },
    /// Sets who should hold each group named; the others stay. Group 0 is the wish for the metadata voters.
    SetReplicas {
        groups: Vec<(GroupId, Vec<NodeId>)>,
    },
    /// The leader of `term` has begun to grant leases: leaders of earlier terms expire none any more. (Their
    /// proposals may be forwarded late, and would end a lease that the new leader has renewed: R2.)
    LeadLeases {
        term: u64,
    },
    /// Frees the claims of that life (R2: only after a full lease without renewal), as the leader of `term`.
    ExpireLeaseInTerm {
        life: NodeLife,
        term: u64,
    },
    /// Begins the removal of a node: it gets no groups any more and those that it holds go elsewhere. Refused where a
    /// group would lose its quorum or its last replica by it.
    LeaveNode {
        node: NodeId,
    },
    /// As the leader of these groups: none of them has the leaving node as a member any more (group 0: as a voter).
    LeftGroups {
        node: NodeId,
        groups: Vec<GroupId>,
    },
    /// As [`CommandBody::UpdateBroker`]; then, where the patch names a preset, all limits are that preset's, and then
    /// each of `limits` is set by its name. What is not named stays, whatever was changed meanwhile.
    ChangeBroker {
        id: BrokerId,
        patch: BrokerPatch,
        limits: Vec<(String, u64)>,
    },
}

impl CommandBody {
    /// The level from which on this command may be applied (R17).
    pub fn level(&self) -> Level {
        Level::FIRST
    }
}

impl Command {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("writing to a vector cannot fail").into()
    }

    /// The reverse of [`Command::encode`]. What this binary does not know is an error, which stops the replica
    /// rather than letting it differ from the others (R17).
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        let command: Command = decode_versioned(bytes, VERSION, "metadata command")?;
        match command.body {
            CommandBody::RaiseLevel { to } if to > Level::LATEST => {
                Err(UnknownCommand(format!("level {to} is above {}, the highest of this binary", Level::LATEST)))
            }
            _ => Ok(command),
        }
    }
}

/// Decodes a version byte and a postcard value that fills the rest.
pub(super) fn decode_versioned<T: DeserializeOwned>(
    bytes: &[u8],
    version: u8,
    what: &str,
) -> Result<T, UnknownCommand> {
    let Some((first, rest)) = bytes.split_first() else { return Err(UnknownCommand(format!("empty {what}"))) };
    if *first != version {
        return Err(UnknownCommand(format!("{what} of version {first}")));
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, tail)) => Err(UnknownCommand(format!("{what} with {} bytes too many", tail.len()))),
        Err(error) => Err(UnknownCommand(format!("{what}: {error}"))),
    }
}
