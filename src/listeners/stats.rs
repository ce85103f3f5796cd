//! What a listener counts. Plain numbers: `telemetry` gives them names.

use std::collections::BTreeMap;

/// Why a connection was closed at once, however well it would have behaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The node has all the connections that it may have (`limits.connections`).
    Connections,
    /// Its source address has (`limits.connections_per_address`).
    Address,
    /// Its source address has [`MAX_HANDSHAKES_PER_ADDRESS`](super::MAX_HANDSHAKES_PER_ADDRESS) handshakes in progress.
    Handshakes,
    /// It is no proxy's, at a listener for proxies (`listeners.proxy_from`).
    ProxySource,
}

impl Refusal {
    /// The label of the counter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "connections_per_address",
            Self::Handshakes => "handshakes_per_address",
            Self::ProxySource => "proxy_source",
        }
    }
}

/// Why a handshake did not make a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It took longer than the deadline.
    Timeout,
    /// The client closed, or its socket broke.
    Gone,
    /// What came is no header of the PROXY protocol, or one that makes no sense.
    Proxy,
    /// A header of the PROXY protocol's version 1.
    ProxyV1,
    /// TLS could not be agreed on, or what came was none.
    Tls,
    /// The client named protocols (ALPN), and the listener's is not among them.
    Alpn,
    /// Not a WebSocket request (HTTP 400, 405 or 426; nothing, if it was no HTTP at all).
    WebSocket,
    /// The request is larger than [`MAX_REQUEST_BYTES`](super::upgrade::MAX_REQUEST_BYTES) (HTTP 431).
    TooLarge,
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
            Self::Proxy => "proxy",
            Self::ProxyV1 => "proxy_v1",
            Self::Tls => "tls",
            Self::Alpn => "alpn",
            Self::WebSocket => "websocket",
            Self::TooLarge => "request_too_large",
            Self::Path => "path",
            Self::Subprotocol => "subprotocol",
            Self::Host => "host",
        }
    }
}

/// Counters of the listeners of one kind, from their start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Sockets accepted.
    pub accepted: u64,
    /// Of these, handed to workers.
    pub handed_over: u64,
    /// Of these, closed at once, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Of these, lost in the handshake, by reason.
    pub handshake_failures: BTreeMap<Failure, u64>,
    /// TLS sessions that were resumed, and so cost no signature.
    pub resumed: u64,
    /// Errors of accept itself (no file descriptors left, mostly).
    pub accept_errors: u64,
}
