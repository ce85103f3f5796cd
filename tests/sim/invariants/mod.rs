//! What must hold, a file a promise.

mod p01_replicas_agree;
mod p02_revoked_is_out;
mod p03_one_connection;
mod p04_acknowledged_is_accepted;
mod p07_order;
mod p08_subscribed_is_served;
pub mod p09_retained;
pub mod shared;
