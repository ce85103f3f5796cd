//! What a listener counts. Plain numbers: `telemetry` gives them names.

use std::collections::BTreeMap;

/// Why a handshake did not make a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It took longer than the deadline.
    Timeout,
    /// The client closed, or its socket broke.
    Gone,
    /// TLS could not be agreed on, or what came was none.
    Tls,
    /// Not a WebSocket request (HTTP 400, if it was HTTP at all).
    WebSocket,
    /// The path of the request is none of ours (HTTP 404).
    Path,
    /// The client did not offer the subprotocol `mqtt` (HTTP 400, MQTT-6.0.0-3).
    Subprotocol,
    /// The Host header is unreadable, or not the TLS server name (HTTP 400).
    Host,
}

impl Failure {
    /// The label of the counter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Gone => "gone",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::Path => "path",
            Self::Subprotocol => "subprotocol",
            Self::Host => "host",
        }
    }
}

/// Counters of one listener, from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Sockets accepted.
    pub accepted: u64,
    /// Of these, handed to workers.
    pub handed_over: u64,
    /// Of these, closed because the node has all the connections that it may have.
    pub refused_by_cap: u64,
    /// Of these, lost in the handshake, by reason.
    pub handshake_failures: BTreeMap<Failure, u64>,
    /// Errors of accept itself (no file descriptors left, mostly).
    pub accept_errors: u64,
}
