//! The composition root: wires the rooms of one node, and takes them down again.
//!
//! ```text
//!  control plane (its own threads, R18)                          workers (a thread each)
//!  listeners ── handshakes ──────────────────── Mail::Adopt ──►  core · sockets
//!  auth ◄── Services::authenticate ─────────────────────────────┤
//!  claims, leases ── raft groups 0..S ── logs                   │
//!  forward (interest) ◄─ subscribe ─────────────────────────────┤
//!  data plane: forward (publishes) ◄─ send ─────────────────────┘
//! ```
//!
//! A node serves under one life (R3). When the cluster ends that life, everything is taken down and started again
//! under a new one, in the same process.

mod admin;
mod authority;
mod card;
mod catch_up;
mod checks;
mod client_tls;
mod data_plane;
mod error;
mod figures;
mod follow;
pub mod found;
mod health;
mod limits;
mod moves;
mod peers;
mod removal;
mod run;
mod services;
mod sparing;
mod stores;

pub use error::{GONE, NodeError};
pub use run::serve;
