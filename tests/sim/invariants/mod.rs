//! What must hold, a file a promise.

mod mqtt_session_present;
mod p01_replicas_agree;
mod p02_revoked_is_out;
mod p03_one_connection;
mod p04_acknowledged_is_accepted;
mod p05_kept_is_delivered;
mod p06_once;
mod p07_order;
mod p08_subscribed_is_served;
pub mod p09_retained;
mod p10_wills;
pub mod shared;

pub use p06_once::{Lane, Receiver};
