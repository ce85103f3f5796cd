//! Retained messages (P9, R15): one per topic of a broker, the last written by a hybrid clock. PURE; `store` is the
//! driver that keeps a table on disk.
//!
//! Every node holds every record. A record is a message or the *tombstone* of one; of two the later stamp wins, on
//! every node and in any order of arrival, so that tables which have seen the same writes are the same.
//!
//! Two ways bring records: the publisher's node sends each to every live node on its forwarding stream, and each node
//! asks every live peer, when it starts and now and then, for what it lacks: digests of
//! [`BUCKETS`] parts of each broker, then the records of the parts that differ ([`Comparison`],
//! [`Table::digests`], [`Table::records`]).
//!
//! Digests are over messages, without tombstones, so that one that goes changes no digest. It may go once every other
//! member is known to hold no message that it removes: equal digests show that, and where they differ the records do
//! ([`Table::removes`], [`Gate::confirmed`], [`Table::bury`]).

mod comparison;
mod digest;
mod gate;
mod record;
mod replication;
mod scan;
pub mod store;
mod table;
#[cfg(test)]
mod tests;

pub use comparison::{Ask, Comparison, Copied, Next, Took};
pub use digest::{BUCKETS, Digests, differing};
pub use gate::Gate;
pub use record::{Record, Stamp, Time};
pub use replication::Replication;
pub use table::{Bounds, Came, Cursor, Found, Full, Page, Pages, Table, Totals};
