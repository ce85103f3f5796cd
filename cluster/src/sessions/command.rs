//! What is proposed to a shard, and what comes back.
//!
//! Bytes are one version byte, then postcard. Variants and fields are only ever appended.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Bounded, Numbered};
use crate::consensus::UnknownCommand;
use crate::handle::{Home, SessionGrant, Subscription};
use crate::ids::{BrokerId, ClientId, Epoch, NodeLife, Nonce, Sequence, SessionId};

/// Version of commands and outcomes that this binary writes.
const VERSION: u8 = 1;

/// What is claimed: a client ID within a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    /// The broker.
    pub broker: BrokerId,
    /// The client.
    pub client: ClientId,
}

/// Who claims: one connection of one life of a node (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claimant {
    /// The node and its incarnation.
    pub life: NodeLife,
    /// The connection.
    pub nonce: Nonce,
}

/// A change of one shard's state.
///
/// What a node proposes for its connections is [`Command::Numbered`]. `Claim`, `Release` and `Abandon` by themselves
/// are of logs that were written before there were numbers. An expiry and a tick carry none: they are idempotent
/// by what they name, a life or the reading of one node's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `by` wants to be the one that serves `key`.
    Claim {
        /// The client.
        key: ClaimKey,
        /// The connection.
        by: Claimant,
        /// CONNECT's Clean Start.
        clean_start: bool,
        /// Session expiry, seconds.
        session_expiry: u32,
    },
    /// `by`, which was granted `epoch`, no longer serves `key`.
    Release {
        /// The client.
        key: ClaimKey,
        /// The connection.
        by: Claimant,
        /// What it was granted.
        epoch: Epoch,
    },
    /// The connection `by` is gone, whether its claim waits or was granted in the meantime.
    Abandon {
        /// The client.
        key: ClaimKey,
        /// The connection.
        by: Claimant,
    },
    /// Group 0 has committed that this life and all earlier ones of the node have ended.
    Expire {
        /// The last life that ended.
        life: NodeLife,
    },
    /// The leader's monotonic clock, milliseconds. Shard time advances by the difference of two readings of
    /// the same life, so a repeated or reordered tick adds nothing (R16).
    Tick {
        /// Whose clock.
        by: NodeLife,
        /// Its reading.
        millis: u64,
    },
    /// The next of what a life of a node proposes to this shard (R13).
    Numbered(Numbered),
    /// The same, with what the shard may hold of the broker that it is about.
    Bounded(Bounded),
    /// Group 0 has committed that this broker is deleted: the next part of what it left is removed.
    Forget {
        /// The broker. Its id is never used again.
        broker: BrokerId,
    },
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The claimant serves the client.
    Granted {
        /// Larger than every epoch that this client had before.
        epoch: Epoch,
        /// Whether a session is there to go on with.
        session_present: bool,
    },
    /// The claimant is next, once `holder` has released or its life has ended.
    Waiting {
        /// Who holds the claim.
        holder: Claimant,
    },
    /// The claimant does not get the claim.
    Refused(Refusal),
    /// Done, or nothing to do.
    Done,
    /// Nothing changed: this proposal's number was spent before, on it or on what was put in its place.
    Spent,
    /// Nothing changed, and the number is not spent: numbers between `applied` and it are still to come.
    Gap {
        /// The last number of this life that the shard has taken.
        applied: Sequence,
    },
    /// The claim was not granted: it would take the client from a claim that its proposer had not heard of.
    Outdated {
        /// The shard's last epoch: who knows of it may claim again.
        epoch: Epoch,
    },
    /// The claimant serves the client, and its session outlives the connection, or did before.
    GrantedSession {
        /// Larger than every epoch that this client had before.
        epoch: Epoch,
        /// The session.
        session: SessionGrant,
    },
    /// What a session is subscribed to.
    Subscriptions {
        /// In the order of their filters.
        subscriptions: Vec<Subscription>,
        /// Whether there are more after these.
        more: bool,
    },
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refusal {
    /// A newer claim replaced it.
    Superseded,
    /// Takeovers of this client come too fast.
    TooFast,
    /// The claimant's life has ended.
    Expired,
    /// The broker has as many sessions here, or as many bytes of filters, as it may.
    Full,
    /// It is not refused: what it waited for serves a connection that its node had not heard of. It may claim again.
    Outdated,
}

/// What the leader's driver should do at once. Losing one costs time, never safety: revocations are in
/// [`super::ShardView`] until done, and a waiting claimant asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the holder to stop and release.
    Revoke {
        /// The client.
        key: ClaimKey,
        /// Who holds it.
        holder: Claimant,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Tell a claimant that waited that it now serves.
    Grant {
        /// The client.
        key: ClaimKey,
        /// Who got it.
        to: Claimant,
        /// Under which epoch.
        epoch: Epoch,
        /// The session, if it outlives the connection or did before.
        session: Option<SessionGrant>,
    },
    /// Tell the worker that keeps a session's queue that the session ended. If that is lost, it keeps it until its time
    /// is over.
    Discard {
        /// The client.
        key: ClaimKey,
        /// The session.
        session: SessionId,
        /// Where its queue is.
        home: Home,
    },
    /// Tell a claimant that waited that it will not.
    Refuse {
        /// The client.
        key: ClaimKey,
        /// Who is refused.
        to: Claimant,
        /// Why.
        why: Refusal,
    },
}

impl Command {
    /// As bytes for the log.
    pub fn encode(&self) -> Bytes {
        encode(VERSION, self)
    }

    /// From bytes of the log.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        decode(VERSION, bytes, "shard command")
    }
}

impl Outcome {
    /// As bytes for the proposer.
    pub fn encode(&self) -> Bytes {
        encode(VERSION, self)
    }

    /// From what the shard answered.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        decode(VERSION, bytes, "shard outcome")
    }
}

/// A version byte, then postcard.
pub(super) fn encode<T: Serialize>(version: u8, body: &T) -> Bytes {
    // Writing to a growing vector has no way to fail; the types hold nothing that postcard refuses.
    postcard::to_extend(body, vec![version]).map(Bytes::from).unwrap_or_default()
}

/// The inverse of [`encode`]; bytes left over are an error.
pub(super) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8], what: &str) -> Result<T, UnknownCommand> {
    let Some((&first, body)) = bytes.split_first() else {
        return Err(UnknownCommand(format!("{what}: empty")));
    };
    if first != version {
        return Err(UnknownCommand(format!("{what}: version {first}")));
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, left)) => Err(UnknownCommand(format!("{what}: {} bytes too many", left.len()))),
        Err(error) => Err(UnknownCommand(format!("{what}: {error}"))),
    }
}
