//! What a broker allows its clients, as the session and the core need it.

/// Limits of one broker. Node-independent: they come from the broker's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest packet taken from or sent to a client, bytes on the wire; at most
    /// `cluster::limits::MAX_PACKET_BYTES`.
    pub max_packet: usize,
    /// QoS 1 publishes that a client may have unacknowledged (MQTT 5 §3.3.4), 1 to 65,535.
    pub receive_maximum: u16,
    /// QoS 1 publishes that Rookery keeps unacknowledged towards a client, whatever more it allows.
    pub send_maximum: u16,
    /// Topic aliases a client may set (0: none).
    pub topic_alias_maximum: u16,
    /// Longest keep-alive, seconds; a longer or absent one is answered with Server Keep Alive. 0: any.
    pub keep_alive_maximum: u16,
    /// Longest client ID, bytes.
    pub max_client_id: usize,
    /// Bytes that may wait for one client's socket; more QoS 0 is dropped and counted (P12).
    pub outbound_bytes: usize,
    /// QoS 1 messages that may wait for one client's window; more are dropped and counted (P12).
    pub queue_messages: usize,
    /// Bytes of those messages.
    pub queue_bytes: usize,
    /// Bytes that may wait for all clients of the broker on one worker (R19).
    pub broker_bytes: usize,
    /// Subscriptions of one client.
    pub max_subscriptions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_packet: rookery_cluster::limits::MAX_PACKET_BYTES,
            receive_maximum: 1024,
            send_maximum: 1024,
            topic_alias_maximum: 64,
            keep_alive_maximum: 0,
            max_client_id: 1024,
            outbound_bytes: 8 << 20,
            queue_messages: 10_000,
            queue_bytes: 16 << 20,
            broker_bytes: 512 << 20,
            max_subscriptions: 10_000,
        }
    }
}
