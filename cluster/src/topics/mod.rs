//! Topic names and filters (MQTT 5.0 §4.7, §4.8.2): their grammar, who may use them, an index from filters to whoever
//! holds them, and the choice among those who share one. PURE: text in, matches out; knows nothing of packets.

mod acl;
mod cover;
mod grammar;
mod hash;
mod index;
mod share;

pub use acl::{Acl, BadAcl, CLIENT_ID_VARIABLE, MAX_ACL_FILTERS};
pub use cover::covers;
pub use grammar::{
    MAX_FILTER_LEVELS, MAX_TOPIC_BYTES, ParsedFilter, TopicError, matches, validate_filter, validate_topic,
};
pub use hash::Seeded;
pub use index::Index;
pub use share::{Candidate, Choice, Place, Readiness, ShareStrategy, choose, mix, name_hash};
