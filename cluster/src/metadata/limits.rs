//! What one broker allows its clients (MQTT's per-tenant settings). The bounds of the system are in `crate::limits`.

mod record;

use serde::{Deserialize, Serialize};

pub use self::record::LimitEntry;
use super::namespaces::{DEFAULT_MAX_BROKERS, DEFAULT_MAX_NAMESPACES};
use super::outcome::Refused;
use crate::limits::MAX_PACKET_BYTES;
use crate::topics::ShareStrategy;

/// Longest client ID that any broker may allow, bytes: it is a key of shard state.
pub const MAX_CLIENT_ID_BYTES: u16 = 1024;
/// Smallest packet bound that still carries a CONNECT with a token.
const MIN_PACKET_BYTES: u32 = 8 << 10;
/// Namespaces of an account and brokers of a namespace that Cloudflare published for its beta.
const BETA_NAMESPACES_AND_BROKERS: u32 = 3;

/// Where a broker's limits come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// Generous, for one's own use.
    #[default]
    Standard,
    /// Those that Cloudflare published for the beta of its service.
    Beta,
}

impl Preset {
    /// The preset's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Beta => "beta",
        }
    }

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Standard, Self::Beta].into_iter().find(|preset| preset.name() == name)
    }

    /// How many namespaces an account may hold.
    pub const fn max_namespaces(self) -> u32 {
        match self {
            Self::Standard => DEFAULT_MAX_NAMESPACES,
            Self::Beta => BETA_NAMESPACES_AND_BROKERS,
        }
    }

    /// How many brokers a namespace may hold.
    pub const fn max_brokers(self) -> u32 {
        match self {
            Self::Standard => DEFAULT_MAX_BROKERS,
            Self::Beta => BETA_NAMESPACES_AND_BROKERS,
        }
    }
}

record::record! {
    /// What a broker allows. For counts and rates, 0 means "no limit of the broker's own". docs/reference/limits.md says
    /// what a client sees of each.
    #[derive(Clone, Debug, PartialEq, Eq)]
    first {
        /// Largest packet a client may send, bytes, headers and all (MQTT 5: Maximum Packet Size). At most
        /// `limits::MAX_PACKET_BYTES`. More: DISCONNECT 0x95.
        packet_bytes: u32,
        /// Longest client ID, bytes, but for IDs of the form that the service generates; at most
        /// [`MAX_CLIENT_ID_BYTES`]. More: CONNACK 0x85.
        client_id_bytes: u16,
        /// Longest user name, bytes. More: CONNACK 0x86.
        username_bytes: u16,
        /// Longest topic name or filter, bytes. More: 0x90 or 0x8F.
        topic_bytes: u16,
        /// Most slashes in a topic name or filter. More: 0x90 or 0x8F.
        topic_slashes: u16,
        /// Most QoS 1 and 2 publishes of a client that may wait for their acknowledgement (MQTT 5: Receive Maximum); not
        /// 0.
        receive_maximum: u16,
        /// Most QoS 1 and 2 publishes on their way to a client, besides what it allows itself; not 0.
        inflight_maximum: u16,
        /// Topic aliases that a client may set (MQTT 5: Topic Alias Maximum); 0: none.
        topic_alias_maximum: u16,
        /// Shortest Keep Alive, seconds; a shorter one is raised by Server Keep Alive. 0: as the client says.
        keep_alive_min_s: u16,
        /// Longest Keep Alive, seconds, also in place of the client's 0 ("never"). 0: as the client says.
        keep_alive_max_s: u16,
        /// Longest Session Expiry Interval, seconds; a longer one is lowered.
        session_expiry_max_s: u32,
        /// Packets a client may send per second; more: DISCONNECT 0x96.
        packets_per_s: u32,
        /// Bytes a client may send per second: the socket is read no faster.
        bytes_per_s: u32,
        /// Messages waiting for one session; the oldest QoS 0 is dropped first, then the newest is refused. Not 0.
        queue_messages: u32,
        /// Bytes waiting for one session; not 0.
        queue_bytes: u64,
        /// Subscriptions of one client; more: 0x97 in SUBACK.
        subscriptions_per_client: u32,
        /// Subscribers that one topic filter may have on a node; more: 0x97 in SUBACK.
        subscribers_per_filter: u32,
        /// Connections of the broker per node; more: CONNACK 0x97.
        connections_per_node: u32,
        /// Retained messages of the broker; at most `limits::RETAINED_MESSAGES` of any. More: 0x97.
        retained_messages: u32,
        /// Bytes of retained messages of the broker; at most `limits::RETAINED_BYTES` of any. More: 0x97.
        retained_bytes: u64,
        /// Messages that a client may publish per second; more: 0x97, QoS 0 dropped.
        publishes_per_s: u32,
    }
    1 added Added {
        /// Highest QoS of publishes and subscriptions, 0 to 2. A publish above it: DISCONNECT 0x9B.
        max_qos: u8 = 2,
        /// Whether retained messages may be published. Else: DISCONNECT 0x9A.
        retain: bool = true,
        /// Whether filters may have wildcards. Else: DISCONNECT 0x90.
        wildcards: bool = true,
        /// Whether subscriptions may be shared. Else: DISCONNECT 0x9E.
        shared_subscriptions: bool = true,
        /// Whether subscriptions may have identifiers. Else: DISCONNECT 0xA1.
        subscription_ids: bool = true,
        /// Whether user properties of publishes are forwarded.
        user_properties: bool = true,
        /// Whether wills are published; else they are ignored.
        wills: bool = true,
        /// Whether a user name must be the client ID. Else: CONNACK 0x86.
        username_is_client_id: bool = false,
    }
    2 shared Shared {
        /// How a member of a shared subscription is chosen.
        shared_strategy: ShareStrategy = ShareStrategy::Local,
    }
    3 kept Kept {
        /// Sessions of the broker that outlive their connections, in the whole cluster; at most `limits::SESSIONS` of any.
        /// Counted by each shard for itself. More: CONNACK 0x97.
        sessions: u32 = 0,
        /// Bytes of the filters that those are subscribed to, each with 32 more; at most `limits::SESSION_FILTER_BYTES` of
        /// any. Counted as they are. More: 0x97 in SUBACK.
        session_filter_bytes: u64 = 0,
    }
}

impl BrokerLimits {
    /// The limits of a preset.
    pub fn of(preset: Preset) -> Self {
        match preset {
            Preset::Standard => Self::standard(),
            Preset::Beta => Self::beta(),
        }
    }

    /// These limits with some of them changed, by name, in order.
    ///
    /// # Errors
    /// There is no such limit, or it cannot have that value.
    pub fn with(mut self, changes: &[(String, u64)]) -> Result<Self, Refused> {
        changes.iter().try_for_each(|(key, value)| self.set(key, *value))?;
        Ok(self)
    }

    fn standard() -> Self {
        Self {
            packet_bytes: MAX_PACKET_BYTES as u32,
            client_id_bytes: MAX_CLIENT_ID_BYTES,
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
            max_qos: 2,
            retain: true,
            wildcards: true,
            shared_subscriptions: true,
            subscription_ids: true,
            user_properties: true,
            wills: true,
            username_is_client_id: false,
            shared_strategy: ShareStrategy::Local,
            sessions: 100_000,
            session_filter_bytes: 256 << 20,
        }
    }

    /// From the pages "Limits" and "MQTT compatibility" of Cloudflare Pub/Sub (storage in SI units).
    fn beta() -> Self {
        Self {
            packet_bytes: 64_000,
            client_id_bytes: 23,
            username_bytes: 32,
            topic_bytes: 65_000,
            topic_slashes: 8,
            keep_alive_min_s: 10,
            session_expiry_max_s: 7 * 24 * 3600,
            packets_per_s: 10,
            subscribers_per_filter: 1000,
            max_qos: 0,
            retain: false,
            wildcards: false,
            shared_subscriptions: false,
            subscription_ids: false,
            user_properties: false,
            wills: false,
            username_is_client_id: true,
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
        if self.max_qos > 2 {
            return Err(Refused::invalid("max_qos must be 0, 1 or 2"));
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
        assert!(bad(|l| l.max_qos = 3));
        assert!(bad(|l| (l.keep_alive_min_s, l.keep_alive_max_s) = (20, 10)));
    }

    fn hex(limits: &BrokerLimits) -> String {
        postcard::to_allocvec(limits).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What stood in logs and snapshots before limits were added to the record.
    const FIRST: &str = "80f4032020ffff030880028002400a901c80f5240a00904e80808008e807e80700a08d068080808001";

    #[test]
    fn a_record_without_the_added_limits_is_read_and_written_as_ever() {
        let first: Vec<u8> =
            (0..FIRST.len()).step_by(2).map(|at| u8::from_str_radix(&FIRST[at..at + 2], 16).unwrap()).collect();
        let mut bytes = first;
        bytes.push(0);
        let old: BrokerLimits = postcard::from_bytes(&bytes).unwrap();
        let expected = BrokerLimits {
            packet_bytes: 64_000,
            client_id_bytes: 32,
            username_bytes: 32,
            topic_slashes: 8,
            keep_alive_min_s: 10,
            packets_per_s: 10,
            subscribers_per_filter: 1000,
            sessions: 0,
            session_filter_bytes: 0,
            ..BrokerLimits::standard()
        };
        assert_eq!(old, expected);
        assert_eq!(hex(&old), format!("{FIRST}00"));
    }

    #[test]
    fn a_record_with_added_limits_keeps_them_all() {
        let beta = BrokerLimits { sessions: 0, session_filter_bytes: 0, ..BrokerLimits::beta() };
        assert_eq!(
            hex(&beta),
            "000180f4031720e8fb030880028002400a901c80f5240a00904e80808008e807e80700a08d068080808001000000000000000001"
        );
        let bytes = postcard::to_allocvec(&(7_u8, &beta, 9_u8)).unwrap();
        assert_eq!(postcard::from_bytes(&bytes), Ok((7_u8, beta, 9_u8)));
        let mut other_version = postcard::to_allocvec(&BrokerLimits::beta()).unwrap();
        other_version[1] = 4;
        assert!(postcard::from_bytes::<BrokerLimits>(&other_version).is_err());
        assert!(postcard::from_bytes::<BrokerLimits>(&other_version[..20]).is_err());
    }

    #[test]
    fn a_record_is_written_in_the_oldest_version_that_can_say_it() {
        let old = BrokerLimits { sessions: 0, session_filter_bytes: 0, ..BrokerLimits::beta() };
        let old = BrokerLimits { shared_strategy: ShareStrategy::HashTopic, ..old };
        let beta = BrokerLimits { sessions: 300, session_filter_bytes: 2, ..old.clone() };
        assert_eq!(
            hex(&old),
            "000280f4031720e8fb030880028002400a901c80f5240a00904e80808008e807e80700a08d06808080800100000000000000000103"
        );
        assert_eq!(
            hex(&beta),
            "000380f4031720e8fb030880028002400a901c80f5240a00904e80808008e807e80700a08d06808080800100000000000000000103ac0202"
        );
        let bytes = postcard::to_allocvec(&(7_u8, &beta, 9_u8)).unwrap();
        assert_eq!(postcard::from_bytes(&bytes), Ok((7_u8, beta, 9_u8)));
    }

    #[test]
    fn limits_are_set_by_name() {
        let beta = BrokerLimits::beta();
        let mut copied = BrokerLimits::standard();
        for LimitEntry { key, value, .. } in beta.entries() {
            copied.set(key, value).unwrap();
        }
        assert_eq!(copied, beta);
        assert!(copied.set("no_such_limit", 1).is_err());
        assert!(copied.set("retain", 2).is_err());
        assert!(copied.set("topic_bytes", 65_536).is_err());
        assert!(copied.set("shared_strategy", 4).is_err());
        assert_eq!(copied, beta, "a refused change changes nothing");
    }

    #[test]
    fn presets_have_names() {
        for preset in [Preset::Standard, Preset::Beta] {
            assert_eq!(Preset::named(preset.name()), Some(preset));
        }
        assert_eq!(Preset::named("Beta"), None);
        assert_eq!((Preset::Beta.max_namespaces(), Preset::Beta.max_brokers()), (3, 3));
    }
}
