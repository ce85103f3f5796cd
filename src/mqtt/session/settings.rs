//! What a broker allows its clients, as the session and the core need it.

use rookery_cluster::topics::ShareStrategy;

use crate::mqtt::codec::QoS;

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
    /// Shortest keep-alive, seconds; a shorter one, but for 0, is raised by Server Keep Alive. 0: any.
    pub keep_alive_minimum: u16,
    /// Longest client ID, bytes; IDs of the form that the service generates are always allowed.
    pub max_client_id: usize,
    /// Bytes that may wait for one client's socket; more QoS 0 is dropped and counted (P12).
    pub outbound_bytes: usize,
    /// QoS 1 messages that may wait for one client's window; more are dropped and counted (P12).
    pub queue_messages: usize,
    /// Bytes of those messages.
    pub queue_bytes: usize,
    /// Bytes that the broker may keep on one node, for all of its clients (R19).
    pub broker_bytes: usize,
    /// Subscriptions of one client.
    pub max_subscriptions: usize,
    /// Highest QoS of a client's publishes, and the highest that a subscription is granted.
    pub max_qos: QoS,
    /// Whether clients may publish retained messages.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_available: bool,
    /// Whether filters may start with `$share/`.
    pub shared_available: bool,
    /// How a member of a shared subscription is chosen.
    pub shared_strategy: ShareStrategy,
    /// Whether a SUBSCRIBE may carry a Subscription Identifier.
    pub subscription_ids_available: bool,
    /// Whether user properties of publishes reach subscribers.
    pub forward_user_properties: bool,
    /// What becomes of a CONNECT's will.
    pub wills: WillPolicy,
    /// Longest Session Expiry Interval, seconds; a longer one is lowered in CONNACK.
    pub max_session_expiry: u32,
    /// Longest topic name or filter, bytes.
    pub max_topic_bytes: usize,
    /// Most forward slashes in a topic name or filter.
    pub max_topic_levels: u16,
    /// Packets that a client may send per second; 0: any number.
    pub packets_per_second: u32,
    /// Bytes that a client may send per second, averaged: its socket is read no faster. 0: any number.
    pub bytes_per_second: u32,
    /// Messages that a client may publish per second; 0: any number.
    pub publishes_per_second: u32,
    /// Subscribers that one filter may have on a node; 0: any number.
    pub subscribers_per_filter: u32,
    /// Connections of the broker that a node may have; 0: any number.
    pub connections: u32,
    /// What user name a CONNECT may carry.
    pub user_name: UserNameRule,
}

/// What becomes of a CONNECT's will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WillPolicy {
    /// It is published as the standard says.
    #[default]
    Serve,
    /// It is taken and forgotten.
    Ignore,
}

/// What user name a CONNECT may carry. None, or an empty one, is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserNameRule {
    /// Longest, bytes.
    pub max_bytes: usize,
    /// Whether it must be the client ID.
    pub is_client_id: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_packet: rookery_cluster::limits::MAX_PACKET_BYTES,
            receive_maximum: 1024,
            send_maximum: 1024,
            topic_alias_maximum: 64,
            keep_alive_maximum: 0,
            keep_alive_minimum: 0,
            max_client_id: 1024,
            outbound_bytes: 8 << 20,
            queue_messages: 10_000,
            queue_bytes: 16 << 20,
            broker_bytes: 512 << 20,
            max_subscriptions: 10_000,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_available: true,
            shared_available: true,
            shared_strategy: ShareStrategy::Local,
            subscription_ids_available: true,
            forward_user_properties: true,
            wills: WillPolicy::Serve,
            max_session_expiry: u32::MAX,
            max_topic_bytes: usize::from(u16::MAX),
            max_topic_levels: u16::MAX,
            packets_per_second: 0,
            bytes_per_second: 0,
            publishes_per_second: 0,
            subscribers_per_filter: 0,
            connections: 0,
            user_name: UserNameRule { max_bytes: usize::from(u16::MAX), is_client_id: false },
        }
    }
}
