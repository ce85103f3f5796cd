//! What one broker allows its clients (MQTT's per-tenant settings). The bounds of the system are in `crate::limits`.

use serde::{Deserialize, Serialize};

use super::outcome::Refused;
use crate::limits::MAX_PACKET_BYTES;

/// Longest client ID that any broker may allow, bytes: it is a key of shard state.
pub const MAX_CLIENT_ID_BYTES: u16 = 1024;
/// Smallest packet bound that still carries a CONNECT with a token.
const MIN_PACKET_BYTES: u32 = 8 << 10;

/// Where a broker's limits come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// Generous, for one's own use.
    #[default]
    Standard,
    /// Those that Cloudflare published for the beta of its service.
    Beta,
}

/// What a broker allows. For counts and rates, 0 means "no limit of the broker's own".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerLimits {
    /// Largest packet a client may send, bytes, headers and all (MQTT 5: Maximum Packet Size). At most
    /// `limits::MAX_PACKET_BYTES`. More: DISCONNECT 0x95.
    pub packet_bytes: u32,
    /// Longest client ID, bytes; at most [`MAX_CLIENT_ID_BYTES`]. More: CONNACK 0x85.
    pub client_id_bytes: u16,
    /// Longest user name, bytes. More: CONNACK 0x86.
    pub username_bytes: u16,
    /// Longest topic name or filter, bytes. More: 0x90 or 0x8F.
    pub topic_bytes: u16,
    /// Most slashes in a topic name or filter.
    pub topic_slashes: u16,
    /// Most QoS 1 and 2 publishes of a client that may wait for their acknowledgement (MQTT 5: Receive Maximum); not 0.
    pub receive_maximum: u16,
    /// Most QoS 1 and 2 publishes on their way to a client, besides what it allows itself; not 0.
    pub inflight_maximum: u16,
    /// Topic aliases that a client may set (MQTT 5: Topic Alias Maximum); 0: none.
    pub topic_alias_maximum: u16,
    /// Shortest Keep Alive, seconds; a shorter one is raised by Server Keep Alive. 0: as the client says.
    pub keep_alive_min_s: u16,
    /// Longest Keep Alive, seconds, also in place of the client's 0 ("never"). 0: as the client says.
    pub keep_alive_max_s: u16,
    /// Longest Session Expiry Interval, seconds; a longer one is lowered.
    pub session_expiry_max_s: u32,
    /// Packets a client may send per second; more: DISCONNECT 0x96.
    pub packets_per_s: u32,
    /// Bytes a client may send per second: the socket is read no faster.
    pub bytes_per_s: u32,
    /// Messages waiting for one session; the oldest QoS 0 is dropped first, then the newest is refused. Not 0.
    pub queue_messages: u32,
    /// Bytes waiting for one session; not 0.
    pub queue_bytes: u64,
    /// Subscriptions of one client; more: 0x97 in SUBACK.
    pub subscriptions_per_client: u32,
    /// Subscribers that one topic filter may have on a node.
    pub subscribers_per_filter: u32,
    /// Connections of the broker per node; more: CONNACK 0x97.
    pub connections_per_node: u32,
    /// Retained messages of the broker.
    pub retained_messages: u32,
    /// Bytes of retained messages of the broker.
    pub retained_bytes: u64,
    /// Messages published to the broker per second and node; more: 0x97, QoS 0 dropped.
    pub publishes_per_s: u32,
}

impl BrokerLimits {
    /// The limits of a preset.
    pub fn of(preset: Preset) -> Self {
        match preset {
            Preset::Standard => Self::standard(),
            Preset::Beta => Self::beta(),
        }
    }

    fn standard() -> Self {
        Self {
            packet_bytes: MAX_PACKET_BYTES as u32,
            client_id_bytes: 256,
            username_bytes: 1024,
            topic_bytes: u16::MAX,
            topic_slashes: 127,
            receive_maximum: 256,
            inflight_maximum: 256,
            topic_alias_maximum: 64,
            keep_alive_min_s: 0,
            keep_alive_max_s: 3600,
            session_expiry_max_s: 7 * 24 * 3600,
            packets_per_s: 0,
            bytes_per_s: 0,
            queue_messages: 10_000,
            queue_bytes: 16 << 20,
            subscriptions_per_client: 1000,
            subscribers_per_filter: 0,
            connections_per_node: 0,
            retained_messages: 100_000,
            retained_bytes: 256 << 20,
            publishes_per_s: 0,
        }
    }

    /// From the "Limits" page of Cloudflare Pub/Sub (storage in SI units). Its 23 bytes for a client ID refuse that
    /// service's own generated ids (26 characters; 32 with a broker's name before them), so 32 here.
    fn beta() -> Self {
        Self {
            packet_bytes: 64_000,
            client_id_bytes: 32,
            username_bytes: 32,
            topic_slashes: 8,
            keep_alive_min_s: 10,
            packets_per_s: 10,
            subscribers_per_filter: 1000,
            ..Self::standard()
        }
    }

    /// What no broker may have, whoever asks.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let packet = MIN_PACKET_BYTES..=MAX_PACKET_BYTES as u32;
        if !packet.contains(&self.packet_bytes) {
            let (least, most) = (packet.start(), packet.end());
            return Err(Refused::invalid(format!("packet_bytes must be from {least} to {most}")));
        }
        if !(1..=MAX_CLIENT_ID_BYTES).contains(&self.client_id_bytes) {
            return Err(Refused::invalid(format!("client_id_bytes must be from 1 to {MAX_CLIENT_ID_BYTES}")));
        }
        let windows = [self.receive_maximum, self.inflight_maximum, self.topic_bytes];
        if windows.contains(&0) || self.queue_messages == 0 || self.queue_bytes == 0 {
            return Err(Refused::invalid(
                "receive_maximum, inflight_maximum, topic_bytes, queue_messages and queue_bytes must not be 0",
            ));
        }
        if self.keep_alive_max_s != 0 && self.keep_alive_min_s > self.keep_alive_max_s {
            return Err(Refused::invalid("keep_alive_min_s must not be above keep_alive_max_s"));
        }
        Ok(())
    }
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_nonsense_is_not() {
        for preset in [Preset::Standard, Preset::Beta] {
            assert_eq!(BrokerLimits::of(preset).check(), Ok(()));
        }
        let bad = |change: fn(&mut BrokerLimits)| {
            let mut limits = BrokerLimits::default();
            change(&mut limits);
            limits.check().is_err()
        };
        assert!(bad(|l| l.packet_bytes = MAX_PACKET_BYTES as u32 + 1));
        assert!(bad(|l| l.packet_bytes = 0));
        assert!(bad(|l| l.client_id_bytes = 1025));
        assert!(bad(|l| l.client_id_bytes = 0));
        assert!(bad(|l| l.receive_maximum = 0));
        assert!(bad(|l| l.queue_bytes = 0));
        assert!(bad(|l| (l.keep_alive_min_s, l.keep_alive_max_s) = (20, 10)));
    }
}
