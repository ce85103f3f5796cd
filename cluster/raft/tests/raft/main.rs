//! Several nodes in one process, over real connections, with logs that outlive a node's runtime.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod harness;
mod kills;
mod ledger;
mod members;
mod partitions;
mod proposals;
mod restarts;
mod speed;
mod stopped;
mod wires;
