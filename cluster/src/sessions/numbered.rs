//! Numbered: what one life of a node proposes, taken once and in order (R13).
//!
//! A proposal that is sent again carries the number that it had, so whichever copy is committed first counts and the
//! others change nothing. A number may be sent again with [`Proposal::Nothing`] instead: once that is committed, what
//! was proposed under it before can have no effect any more, wherever a copy of it still is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::state::Wish;
use super::{ClaimKey, Claimant, Effect, Outcome, Refusal, ShardState, Will, Within};
use crate::handle::Leave;
use crate::ids::{Epoch, NodeLife, Nonce, Sequence};
use crate::retained::Time;

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
        /// What is published if the connection is lost.
        will: Option<Will>,
    },
    /// The connection, which was granted `epoch`, no longer serves `key`.
    Release {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
        /// What it was granted.
        epoch: Epoch,
        /// What becomes of its session and its will.
        leave: Leave,
    },
    /// The connection is gone, whether its claim waits or was granted in the meantime.
    Abandon {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
    },
    /// The connection, which was granted `epoch`, changes what its session is subscribed to.
    Subscribe {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
        /// What it was granted.
        epoch: Epoch,
        /// The filters, with their options, or without if they are not wanted any more.
        changes: Vec<(Arc<str>, Option<u64>)>,
    },
    /// The connection wants to know what its session is subscribed to.
    Recall {
        /// The client.
        key: ClaimKey,
        /// The connection.
        nonce: Nonce,
        /// What comes after this filter, in their order.
        after: Option<Arc<str>>,
    },
    /// The will of the connection that was granted `epoch` is published.
    WillPublished {
        /// The client.
        key: ClaimKey,
        /// Which of its connections.
        epoch: Epoch,
    },
    /// The will of the connection that was granted `epoch` is retained as of `time`.
    WillTimed {
        /// The client.
        key: ClaimKey,
        /// Which of its connections.
        epoch: Epoch,
        /// Hybrid time, see [`Time`].
        time: u64,
    },
    /// The claim that was granted `epoch` serves a connection by now that the shard was not told of. It gets a new epoch,
    /// and whoever waits for it claims again, having heard of that.
    Renew {
        /// The client.
        key: ClaimKey,
        /// The connection that it was granted to.
        nonce: Nonce,
        /// What that was granted.
        epoch: Epoch,
    },
}

impl ShardState {
    /// `within`: what the shard may hold of the broker, if the proposer says it.
    pub(super) fn numbered(&mut self, numbered: Numbered, within: Option<Within>, out: &mut Vec<Effect>) -> Outcome {
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
            Proposal::Claim { key, nonce, clean_start, session_expiry, heard, will } => {
                self.claim(key, Wish { by: by(nonce), clean_start, session_expiry }, will, Some(heard), within, out)
            }
            Proposal::Release { key, nonce, epoch, leave } => {
                self.release(&key, by(nonce), Some(epoch), Some(leave), out)
            }
            Proposal::Abandon { key, nonce } => self.release(&key, by(nonce), None, None, out),
            Proposal::Subscribe { key, nonce, epoch, changes } => {
                self.subscribe(&key, by(nonce), epoch, changes, within)
            }
            Proposal::Recall { key, nonce, after } => self.recall(&key, by(nonce), after.as_ref()),
            Proposal::WillPublished { key, epoch } => {
                self.will_published(key, epoch);
                Outcome::Done
            }
            Proposal::WillTimed { key, epoch, time } => {
                self.will_timed(key, epoch, Time(time));
                Outcome::Done
            }
            Proposal::Renew { key, nonce, epoch } => self.renew(&key, by(nonce), epoch, out),
        }
    }

    /// The answer to a copy. Of a claim it is how the claim stands now: the first answer may have been lost.
    fn spent(&self, life: NodeLife, what: &Proposal) -> Outcome {
        let standing = match what {
            Proposal::Claim { key, nonce, .. } | Proposal::Renew { key, nonce, .. } => {
                self.standing(key, Claimant { life, nonce: *nonce })
            }
            Proposal::Recall { key, nonce, after } => {
                Some(self.recall(key, Claimant { life, nonce: *nonce }, after.as_ref()))
            }
            _ => None,
        };
        standing.unwrap_or(Outcome::Spent)
    }
}
