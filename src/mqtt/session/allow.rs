//! What of MQTT a broker's clients may use: what the broker's settings grant, as far as this program serves it.

use super::Settings;
use crate::mqtt::codec::{ConnackProperties, QoS};

/// What this program serves, whatever a broker grants. Here alone: who builds the rest of a feature turns it on here,
/// and from then on CONNACK announces it.
pub mod built {
    use crate::mqtt::codec::QoS;

    /// Highest QoS.
    pub const MAX_QOS: QoS = QoS::ExactlyOnce;
    /// Retained messages.
    pub const RETAIN: bool = false;
    /// Shared subscriptions.
    pub const SHARED: bool = true;
    /// Wills.
    pub const WILLS: bool = true;
    /// Longest time that a session outlives its connection, seconds.
    pub const SESSION_EXPIRY: u32 = u32::MAX;
}

impl Settings {
    /// Highest QoS that is served to the broker's clients.
    pub fn qos(&self) -> QoS {
        self.max_qos.min(built::MAX_QOS)
    }

    /// Whether retained messages are.
    pub fn retain(&self) -> bool {
        self.retain_available && built::RETAIN
    }

    /// Whether shared subscriptions are.
    pub fn shared(&self) -> bool {
        self.shared_available && built::SHARED
    }

    /// The Session Expiry Interval that holds for a client that asks for `wanted`, seconds.
    pub fn session_expiry(&self, wanted: u32) -> u32 {
        wanted.min(self.max_session_expiry).min(built::SESSION_EXPIRY)
    }
}

/// Tells what is withheld (MQTT 5 §3.2.2.3). What is granted is the default of the properties and is not said.
pub(super) fn announce(settings: &Settings, to: &mut ConnackProperties) {
    let qos = settings.qos();
    to.maximum_qos = (qos < QoS::ExactlyOnce).then_some(qos);
    to.retain_available = withheld(settings.retain());
    to.wildcard_subscription_available = withheld(settings.wildcard_available);
    to.shared_subscription_available = withheld(settings.shared());
    to.subscription_ids_available = withheld(settings.subscription_ids_available);
}

fn withheld(granted: bool) -> Option<bool> {
    (!granted).then_some(false)
}
