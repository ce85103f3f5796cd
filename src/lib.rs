//! Rookery.

pub mod mqtt;
