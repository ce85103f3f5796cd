//! Rookery's Raft groups: group 0 is the metadata group, the others are session shards. The only place that
//! names openraft.
//!
//! [`Groups`] is the door: it implements [`Consensus`](rookery_cluster::consensus::Consensus) for the rooms
//! above, which bring their state machines ([`Replicated`](rookery_cluster::consensus::Replicated)) and logs
//! ([`GroupLog`](rookery_cluster::log::GroupLog)).
//!
//! Inside: `codec` (bytes of entries and votes), `store` (openraft's log over a `GroupLog`), `machine` and
//! `snapshot` (openraft's state machine over a `Replicated`, in memory, with a snapshot file), `replica` (one
//! group here), `batcher` (proposals become entries and find the leader), `net` (calls between nodes).

mod batcher;
mod codec;
mod config;
#[doc(hidden)]
pub mod fuzz;
mod groups;
mod machine;
mod net;
mod peers;
mod reads;
mod replica;
mod route;
mod snapshot;
mod store;
#[cfg(test)]
mod suite;
mod types;

pub use config::{GroupConfig, InitError, Settings, StartError};
pub use groups::Groups;
pub use net::service::RaftService;
