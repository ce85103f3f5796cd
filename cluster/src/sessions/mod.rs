//! One session shard's replicated state (PURE): which node and epoch serves each client ID (P3), who waits
//! to take it over, and which lives of nodes are known to have ended.
//!
//! [`ShardState::apply`] takes a [`Command`] that a quorum has committed, and gives an [`Outcome`] for whoever
//! proposed it and [`Effect`]s for the shard leader's driver. Everything that the driver must go on sending
//! until it is done (R4) is also in [`ShardView`], so that a new leader starts from the state alone.
//!
//! A file a verb: `claim`, `release`, `expire`, `tick`, `forget`; and `numbered`, through which all that a node proposes for
//! its connections comes in, once and in order (R13). [`Outbox`] is the proposer's end of that stream.

mod bounds;
mod claim;
mod command;
mod durable;
mod expire;
mod forget;
mod machine;
mod numbered;
mod outbox;
mod release;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_bounds;
#[cfg(test)]
mod tests_durable;
#[cfg(test)]
mod tests_numbered;
#[cfg(test)]
mod tests_random;
#[cfg(test)]
mod tests_snapshot;
mod tick;
mod wills;

pub use bounds::{Bounded, Tally, Within};
pub use command::{ClaimKey, Claimant, Command, Effect, Outcome, Refusal};
pub use machine::{Machine, Observer};
pub use numbered::{Numbered, Proposal};
pub use outbox::{Full, Outbox, Round, Sending, Ticket};
pub use state::{Held, Revocation, ShardState, ShardView};
pub use wills::Will;

/// Takeovers of one client ID that may come at once, before the rate counts (R5).
pub const TAKEOVER_BURST: u32 = 50;
/// Shard time in which one more takeover of a client ID is allowed, milliseconds (R5).
pub const TAKEOVER_REFILL_MILLIS: u64 = 100;
/// Claimants that lost, remembered per client while its record lives, so that a late copy of their claim is
/// not taken for a newer one.
pub const GONE_MEMORY: usize = 8;
/// Bytes of filters in one answer to [`Proposal::Recall`], but for the last one.
pub const RECALL_BYTES: usize = 256 << 10;
/// Sessions, and as many wills, that one command removes of a deleted broker.
pub const FORGET_STEP: usize = 256;
/// Records looked at per command while claims of ended lives are being removed.
pub const SWEEP_STEP: usize = 64;
