//! Several nodes in one process, over real connections, with logs that outlive a node's runtime.

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
