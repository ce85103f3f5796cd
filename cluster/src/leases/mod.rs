//! Node leases (R1 to R4). The tables are PURE: [`Holder`] is a node's own lease, [`LeaseTable`] the
//! metadata leader's memory of all of them. [`driver`] gives them a clock, the network and group 0.
//!
//! Why nobody serves past the moment at which its claims become free: the holder counts [`limits::LEASE`]
//! from before its request left, less a margin; the leader counts it from after it was sure to lead, plus a
//! margin; and a new leader counts it afresh from when it has applied all that earlier leaders committed.
//!
//! [`limits::LEASE`]: crate::limits::LEASE

pub mod driver;
mod holder;
mod table;

pub use holder::{Ask, Holder};
pub use table::{LeaseTable, Verdict};
