//! What makes several Rookery nodes one: membership (SWIM), metadata and session shards (Raft), and the
//! forwarding of publishes. This crate knows no MQTT packets: topic names are text, messages are bytes.
//!
//! Rooms marked PURE take inputs and return outputs; they touch no socket, clock, disk, thread or lock.

pub mod claims;
pub mod clock;
pub mod consensus;
pub mod control;
pub mod disk;
pub mod forward;
pub mod handle;
pub mod ids;
pub mod interest;
pub mod join;
pub mod leases;
pub mod limits;
pub mod log;
pub mod membership;
pub mod metadata;
pub mod net;
pub mod pki;
pub mod placement;
pub mod retained;
pub mod rng;
pub mod sessions;
pub mod swim;
pub mod topics;
