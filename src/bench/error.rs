//! Why there is no result.

use std::io;

use crate::mqtt::codec::ReasonCode;

/// What ended a run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Flags that make no sense.
    #[error("{0}")]
    Options(String),
    /// The credentials cannot be used.
    #[error("{file}: {problem}")]
    Credentials {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A server that cannot be reached.
    #[error("cannot connect to {server}: {error}")]
    Connect {
        /// `host:port`.
        server: String,
        /// What the system said.
        error: io::Error,
    },
    /// CONNACK or SUBACK with a failure.
    #[error("{server} refused {what}: {reason}")]
    Refused {
        /// `host:port`.
        server: String,
        /// What was asked for.
        what: &'static str,
        /// Its code.
        reason: ReasonCode,
    },
    /// A connection that ended while it was in use.
    #[error("{server} closed the connection of {client}{}", because(.reason))]
    Closed {
        /// `host:port`.
        server: String,
        /// The client ID.
        client: String,
        /// The code, if it sent DISCONNECT.
        reason: Option<ReasonCode>,
    },
    /// Not MQTT, or not what belongs there.
    #[error("{server} sent what does not belong there: {what}")]
    Protocol {
        /// `host:port`.
        server: String,
        /// What.
        what: String,
    },
    /// No write had a good answer.
    #[error("the administration api refused every write: {0}")]
    Api(String),
    /// A process that is not there.
    #[error("cannot read the cpu time and memory of process {pid}: {error}")]
    Process {
        /// Which.
        pid: u32,
        /// What the system said.
        error: io::Error,
    },
    /// The event loop failed.
    #[error("the event loop failed: {0}")]
    Io(#[from] io::Error),
}

fn because(reason: &Option<ReasonCode>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}
