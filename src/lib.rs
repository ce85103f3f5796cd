//! Rookery.

pub mod cli;
pub mod config;
pub mod mqtt;
