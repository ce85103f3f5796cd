//! What a worker counts. Plain numbers: `telemetry` gives them names.

use std::collections::BTreeMap;

pub use crate::mqtt::session::Dropped;

/// Why a publish did not reach somebody (P12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// One subscriber's own bounds.
    Subscriber(Dropped),
    /// The broker's bytes on this node are used up (R19).
    BrokerMemory,
    /// The node's bytes are used up, and the broker has more of them than are left (R19).
    NodeMemory,
    /// A destination had no credit for `limits::PUBLISH_TIMEOUT` (R10).
    DestinationStuck,
    /// It waited for a destination whose life ended.
    DestinationExpired,
    /// It was for a shared subscription of which nobody is left.
    NoShareMember,
    /// Its receiver was gone in the middle of a QoS 2 delivery: nobody else of the group gets it (MQTT-4.8.2-5).
    ShareUnfinished,
    /// It was to be retained, and the broker has as many messages as it may (it is delivered all the same).
    RetainedFull,
    /// Bytes from another node that do not decode.
    Corrupt,
    /// Its client publishes more messages of QoS 0 per second than its broker allows.
    PublishRate,
}

impl DropReason {
    /// The label of the counter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Subscriber(Dropped::TooLarge) => "packet_too_large",
            Self::Subscriber(Dropped::SlowSubscriber) => "slow_subscriber",
            Self::Subscriber(Dropped::QueueFull) => "queue_full",
            Self::Subscriber(Dropped::Expired) => "expired",
            Self::Subscriber(Dropped::Offline) => "offline",
            Self::BrokerMemory => "broker_memory",
            Self::NodeMemory => "node_memory",
            Self::DestinationStuck => "destination_stuck",
            Self::DestinationExpired => "destination_expired",
            Self::NoShareMember => "no_share_member",
            Self::ShareUnfinished => "share_unfinished",
            Self::RetainedFull => "retained_full",
            Self::Corrupt => "corrupt",
            Self::PublishRate => "publish_rate",
        }
    }
}

/// Counters of one worker, from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sockets taken over.
    pub connections_opened: u64,
    /// CONNACKs with success.
    pub clients_admitted: u64,
    /// CONNACKs with a refusal, by reason code.
    pub clients_refused: BTreeMap<u8, u64>,
    /// Connections that the server ended, by the reason code of DISCONNECT.
    pub disconnects_sent: BTreeMap<u8, u64>,
    /// PUBLISH packets taken from clients.
    pub publishes_received: u64,
    /// PUBLISH packets refused by PUBACK or PUBREC, by reason code.
    pub publishes_refused: BTreeMap<u8, u64>,
    /// Payload bytes of those taken.
    pub payload_bytes_received: u64,
    /// PUBLISH packets written or queued for clients.
    pub publishes_delivered: u64,
    /// Publishes of shared subscriptions that went to another member, because the first was gone.
    pub publishes_redelivered: u64,
    /// Publishes handed to other workers and nodes (once for each).
    pub publishes_forwarded: u64,
    /// Publishes that came from other workers and nodes.
    pub publishes_from_others: u64,
    /// Times that a publisher was read no further because its broker's share towards a destination was used up.
    pub publishers_paused: u64,
    /// Publishes not delivered, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Wills published here for the clients of the shards that this node leads.
    pub wills_published: u64,
    /// SUBACK barriers that timed out (P8).
    pub barrier_timeouts: u64,
    /// Malformed packets and protocol errors.
    pub protocol_errors: u64,
    /// Connections ended because the client broke WebSocket's rules, by the label of the reason.
    pub transport_errors: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts one drop.
    pub fn drop(&mut self, reason: DropReason, n: u64) {
        if n > 0 {
            *self.dropped.entry(reason).or_default() += n;
        }
    }
}
