//! What the registry of claims says that is to be done, and answers.

use super::resting::Grant;
use crate::handle::{ClaimEvent, ClaimRefusal, Leave};
use crate::ids::{Epoch, WorkerId};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// How soon a proposal is to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// As soon as what was handed over before has its outcome.
    Now,
    /// With the next one that is in haste, or after a moment: nobody waits for it.
    Lazy,
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Tell a worker.
    Post(WorkerId, ClaimEvent),
    /// Release what nobody serves.
    Release(Ending),
    /// Both.
    Both(WorkerId, ClaimEvent, Ending),
    /// Somebody waits for the release of this client, which is on its way.
    Hurry(ClaimKey),
    /// Nobody pursues this claim, and its connection is gone: see to it that no copy of its proposal has an effect.
    Withdraw(ClaimKey, Claimant),
    /// Have the shard give this claim a new epoch; then comes [`Registry::renewed`].
    Renew(ClaimKey, Grant),
    /// A release found no room.
    Dropped,
}

/// A claim that is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The client.
    pub key: ClaimKey,
    /// The connection.
    pub by: Claimant,
    /// What it was granted.
    pub epoch: Epoch,
    /// What it leaves behind.
    pub leave: Leave,
    /// Whether somebody may wait for it.
    pub haste: Haste,
    /// It may have a later epoch by now: it is abandoned.
    pub renewing: bool,
}

impl Ending {
    /// One for which somebody may wait.
    pub(super) fn at_once(key: ClaimKey, by: Claimant, epoch: Epoch, leave: Leave) -> Self {
        Self { key, by, epoch, leave, haste: Haste::Now, renewing: false }
    }

    /// One that leaves nothing behind.
    pub(super) fn plain(key: ClaimKey, Grant { by, epoch }: Grant, haste: Haste) -> Self {
        Self { key, by, epoch, leave: Leave::default(), haste, renewing: false }
    }
}

/// How a claim begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Propose it; its bell rings when something about it has changed.
    Ask,
    /// The same, after this release.
    AskAfter(Ending),
    /// It serves already, under the claim of an earlier connection: tell the worker.
    Serves(ClaimEvent),
    /// The same connection has claimed before.
    Known,
    /// Too many wait.
    Full,
}

/// How an unanswered claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Its connection waits.
    Yes,
    /// Its connection is gone.
    Gone,
    /// It was answered.
    Settled,
}

/// The shard's refusal as a worker is told of it.
pub fn refusal(why: Refusal) -> ClaimRefusal {
    match why {
        // Who may claim again is not told that it is refused.
        Refusal::Superseded | Refusal::Outdated => ClaimRefusal::Superseded,
        Refusal::TooFast => ClaimRefusal::TooFast,
        Refusal::Expired => ClaimRefusal::Unavailable,
        Refusal::Full => ClaimRefusal::Full,
    }
}
