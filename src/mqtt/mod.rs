//! MQTT: bytes and packets, and what a client's session makes of them.

pub mod codec;
pub mod session;
