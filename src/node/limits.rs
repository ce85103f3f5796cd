//! A broker's limits, from metadata to its clients.

#[cfg(test)]
mod tests;

use rookery_cluster::metadata::BrokerLimits;
use rookery_cluster::retained::Bounds;

use crate::broker::core::{QoS, Settings, UserNameRule, WillPolicy};

/// A broker's limits as its clients' sessions need them.
pub fn settings(limits: &BrokerLimits) -> Settings {
    Settings {
        max_packet: limits.packet_bytes as usize,
        receive_maximum: limits.receive_maximum,
        send_maximum: limits.inflight_maximum,
        topic_alias_maximum: limits.topic_alias_maximum,
        keep_alive_maximum: limits.keep_alive_max_s,
        keep_alive_minimum: limits.keep_alive_min_s,
        max_client_id: usize::from(limits.client_id_bytes),
        queue_messages: limits.queue_messages as usize,
        queue_bytes: usize::try_from(limits.queue_bytes).unwrap_or(usize::MAX),
        max_subscriptions: limits.subscriptions_per_client as usize,
        // Metadata holds no other than 0, 1 and 2.
        max_qos: QoS::from_u8(limits.max_qos).unwrap_or(QoS::ExactlyOnce),
        retain_available: limits.retain,
        wildcard_available: limits.wildcards,
        shared_available: limits.shared_subscriptions,
        shared_strategy: limits.shared_strategy,
        subscription_ids_available: limits.subscription_ids,
        forward_user_properties: limits.user_properties,
        wills: if limits.wills { WillPolicy::Serve } else { WillPolicy::Ignore },
        max_session_expiry: limits.session_expiry_max_s,
        max_topic_bytes: usize::from(limits.topic_bytes),
        max_topic_levels: limits.topic_slashes,
        packets_per_second: limits.packets_per_s,
        bytes_per_second: limits.bytes_per_s,
        publishes_per_second: limits.publishes_per_s,
        subscribers_per_filter: limits.subscribers_per_filter,
        connections: limits.connections_per_node,
        user_name: UserNameRule {
            max_bytes: usize::from(limits.username_bytes),
            is_client_id: limits.username_is_client_id,
        },
        ..Settings::default()
    }
}

/// What a broker may have retained, as every node's store needs it.
pub fn retained(limits: &BrokerLimits) -> Bounds {
    Bounds::of(limits.retained_messages, limits.retained_bytes)
}
