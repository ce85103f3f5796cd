//! What a command came to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keys::Kid;
use crate::consensus::UnknownCommand;
use crate::ids::{AccountId, BrokerId, NamespaceId, NodeId, TokenId};

/// First byte of an encoded outcome.
const VERSION: u8 = 1;

/// What a command came to. Everyone who sends the same request gets the same one. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, or it was so already.
    Done,
    /// Done; this is the new thing's identity.
    Created(Created),
    /// Nothing was changed.
    Refused(Refused),
}

/// The identity of a new thing. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Created {
    /// An account.
    Account(AccountId),
    /// A namespace.
    Namespace(NamespaceId),
    /// A broker.
    Broker(BrokerId),
    /// A signing key.
    Key(Kid),
    /// An API token.
    Token(TokenId),
    /// A node.
    Node(NodeId),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of reason: decides the status of the API's answer.
    pub kind: RefusedKind,
    /// For people; lower case, no full stop.
    pub message: String,
}

/// Kinds of refusal. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RefusedKind {
    /// What the command names does not exist.
    NotFound,
    /// The name, id or key is taken.
    AlreadyExists,
    /// The state does not allow it now.
    Precondition,
    /// A bound is reached.
    LimitReached,
    /// The command makes no sense in any state.
    Invalid,
}

impl Outcome {
    /// The outcome as a result: what was created (if anything), or the refusal.
    pub fn into_result(self) -> Result<Option<Created>, Refused> {
        match self {
            Outcome::Done => Ok(None),
            Outcome::Created(created) => Ok(Some(created)),
            Outcome::Refused(refused) => Err(refused),
        }
    }

    /// Bytes for the proposer.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("writing to a vector cannot fail");
        bytes.into()
    }

    /// The reverse of [`Outcome::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        super::command::decode_versioned(bytes, VERSION, "metadata outcome")
    }
}

impl Refused {
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::NotFound, message: message.into() }
    }
    pub(super) fn exists(message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::AlreadyExists, message: message.into() }
    }
    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::Precondition, message: message.into() }
    }
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::LimitReached, message: message.into() }
    }
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: RefusedKind::Invalid, message: message.into() }
    }
}
