//! Why a client has no connection, or no success.

use std::io;
use std::time::Duration;

use crate::mqtt::codec::{DecodeError, EncodeError, PacketType, ReasonCode};

/// What went wrong. After any but [`ClientError::Failed`] and [`ClientError::Encode`] the connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one of ours.
    #[error("{url:?} is not a server's URL: {problem}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No TCP connection.
    #[error("cannot connect to {to}: {error}")]
    Connect {
        /// `host:port`.
        to: String,
        /// What the system said.
        error: io::Error,
    },
    /// No TLS session.
    #[error("tls with {name} failed: {error}")]
    Tls {
        /// The server name asked for.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// A file with certificates cannot be used.
    #[error("cannot trust {what}: {problem}")]
    Trust {
        /// The file.
        what: String,
        /// Why.
        problem: String,
    },
    /// No WebSocket.
    #[error("websocket handshake failed: {0}")]
    WebSocket(String),
    /// CONNACK with a failure.
    #[error("the server refused the connection: {reason}{}", detail(.text))]
    Refused {
        /// Its code (3.1.1's, as version 5 says it).
        reason: ReasonCode,
        /// Its reason string.
        text: Option<String>,
    },
    /// The server sent DISCONNECT.
    #[error("the server disconnected: {reason}{}", detail(.text))]
    Disconnected {
        /// Its code.
        reason: ReasonCode,
        /// Its reason string.
        text: Option<String>,
    },
    /// The server closed without a word.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Lost(io::Error),
    /// The server refused a publish or a filter; the connection goes on.
    #[error("{what} failed: {reason}")]
    Failed {
        /// What was refused.
        what: &'static str,
        /// The code.
        reason: ReasonCode,
    },
    /// Nothing came in time.
    #[error("no {what} within {after:?}")]
    Timeout {
        /// What was awaited.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The server sent what is not MQTT.
    #[error("the server sent a bad packet: {0}")]
    Decode(DecodeError),
    /// What was to be sent is not MQTT.
    #[error("cannot be sent: {0}")]
    Encode(EncodeError),
    /// The server sent a packet that has no place here.
    #[error("the server sent an unexpected {packet:?}")]
    Unexpected {
        /// Which.
        packet: PacketType,
    },
}

impl ClientError {
    /// An error of the stream. The far side's closing in the middle of something is a close like any other.
    pub(super) fn lost(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Lost(error),
        }
    }
}

fn detail(text: &Option<String>) -> String {
    text.as_ref().map_or_else(String::new, |text| format!(" ({text})"))
}
