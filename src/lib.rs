//! Rookery: a clustered MQTT pub/sub service.

pub mod api;
pub mod auth;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod dev;
pub mod listeners;
pub mod mqtt;
pub mod node;
pub mod telemetry;
