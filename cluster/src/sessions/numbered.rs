//! Numbered: what one life of a node proposes, taken once and in order (R13).
//!
//! A proposal that is sent again carries the number that it had, so whichever copy is committed first counts and the
//! others change nothing. A number may be sent again with [`Proposal::Nothing`] instead: once that is committed, what
//! was proposed under it before can have no effect any more, wherever a copy of it still is.

use serde::{Deserialize, Serialize};

use super::state::Wish;
use super::{ClaimKey, Claimant, Effect, Outcome, Refusal, ShardState};
use crate::ids::{Epoch, NodeLife, Nonce, Sequence};

/// One of the numbered proposals of a life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Whose.
    pub life: NodeLife,
    /// Its place, from 1 without a gap.
    pub number: Sequence,
    /// What is proposed.
    pub what: Proposal,
}

/// What a node proposes for its connections. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// In place of what nobody wants any more.
    Nothing,
    /// The connection wants to be the one that serves `key`.
    Claim {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
        /// CONNECT's Clean Start.
        clean_start: bool,
        /// Session expiry, seconds.
        session_expiry: u32,
        /// The last epoch of the shard that the node had heard of while the connection was there. A claim takes a
        /// client from nobody who got it later.
        heard: Epoch,
    },
    /// The connection, which was granted `epoch`, no longer serves `key`.
    Release {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
        /// What it was granted.
        epoch: Epoch,
    },
    /// The connection is gone, whether its claim waits or was granted in the meantime.
    Abandon {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
    },
}

impl ShardState {
    pub(super) fn numbered(&mut self, numbered: Numbered, out: &mut Vec<Effect>) -> Outcome {
        let Numbered { life, number, what } = numbered;
        if self.has_ended(life) {
            return Outcome::Refused(Refusal::Expired);
        }
        let applied = self.streams.get(&life).copied().unwrap_or_default();
        if number <= applied {
            return self.spent(life, &what);
        }
        if number > applied.next() {
            return Outcome::Gap { applied };
        }
        self.end_earlier_lives(life, out);
        if self.streams.insert(life, number).is_none() {
            self.count(life);
        }
        let by = |nonce| Claimant { life, nonce };
        match what {
            Proposal::Nothing => Outcome::Done,
            Proposal::Claim { key, nonce, clean_start, session_expiry, heard } => {
                self.claim(key, Wish { by: by(nonce), clean_start, session_expiry }, Some(heard), out)
            }
            Proposal::Release { key, nonce, epoch } => self.release(&key, by(nonce), Some(epoch), out),
            Proposal::Abandon { key, nonce } => self.release(&key, by(nonce), None, out),
        }
    }

    /// The answer to a copy. Of a claim it is how the claim stands now: the first answer may have been lost.
    fn spent(&self, life: NodeLife, what: &Proposal) -> Outcome {
        let standing = match what {
            Proposal::Claim { key, nonce, .. } => self.standing(key, Claimant { life, nonce: *nonce }),
            _ => None,
        };
        standing.unwrap_or(Outcome::Spent)
    }
}
