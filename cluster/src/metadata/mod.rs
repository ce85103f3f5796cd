//! PURE. The cluster's metadata (Raft group 0): accounts, namespaces, brokers, keys, revocations, API tokens, nodes,
//! leases and placement. [`apply`] is the one way to change a [`State`]; ids, times, key material and random bytes
//! come inside the [`Command`], so that every replica reaches the same bytes. Readers hold an `Arc<State>`, which is
//! cheap to make and never changes (P1).
//!
//! [`handle`] is the driver's side: the [`Metadata`] handle over `consensus::Consensus`.

mod accounts;
mod apply;
mod brokers;
mod cluster;
mod command;
pub mod handle;
mod journal;
mod keys;
mod leaving;
mod level;
mod limits;
mod maps;
mod names;
mod namespaces;
mod nodes;
mod outcome;
mod placement;
mod replicated;
mod requests;
mod revocations;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

pub use accounts::{Account, MAX_ACCOUNTS};
pub use apply::apply;
pub use brokers::{AuthType, Broker, BrokerPatch, BrokerSettings, ClaimMode, MAX_DESCRIPTION_BYTES, MAX_URL_BYTES};
pub use cluster::{Cluster, JoinToken, MAX_JOIN_TOKENS};
pub use command::{Command, CommandBody};
pub use handle::{Metadata, machine};
pub use journal::{Change, JOURNAL_MEMORY};
pub use keys::{Key, KeyState, Kid, MAX_KEYS, NewKey};
pub use level::Level;
pub use limits::{BrokerLimits, LimitEntry, MAX_CLIENT_ID_BYTES, Preset};
pub use names::{BadName, Name};
pub use namespaces::{DEFAULT_MAX_BROKERS, DEFAULT_MAX_NAMESPACES, Namespace};
pub use nodes::{Addresses, Lease, MAX_NODES, NodeCard, NodeRecord};
pub use outcome::{Created, Outcome, Refused, RefusedKind};
pub use placement::{MAX_SHARDS, slot_of};
pub use replicated::MetadataMachine;
pub use revocations::MAX_JTI_BYTES;
pub use state::State;
pub use tokens::{ApiToken, MAX_API_TOKENS, Scope};
