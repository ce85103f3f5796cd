//! What of MQTT a broker's clients may use: what the broker's settings grant.

use rookery_cluster::ids::is_generated_client_id;
use rookery_cluster::topics::{Acl, ParsedFilter, validate_topic};

use super::{Ending, Settings, WillPolicy};
use crate::mqtt::codec::{ConnackProperties, Connect, PublishRef, QoS, ReasonCode, Subscribe, Will};

impl Settings {
    /// Highest QoS that is served to the broker's clients.
    pub fn qos(&self) -> QoS {
        self.max_qos
    }

    /// Whether retained messages are.
    pub fn retain(&self) -> bool {
        self.retain_available
    }

    /// Whether shared subscriptions are.
    pub fn shared(&self) -> bool {
        self.shared_available
    }

    /// The Session Expiry Interval that holds for a client that asks for `wanted`, seconds.
    pub fn session_expiry(&self, wanted: u32) -> u32 {
        wanted.min(self.max_session_expiry)
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

/// Checks who connects, and as what, against the broker's limits.
///
/// # Errors
/// 0x85 the client ID is too long; 0x86 the user name is too long, or not the client ID where it must be.
pub(super) fn names(connect: &Connect, client_id: &str, settings: &Settings) -> Result<(), Ending> {
    let too_long = client_id.len() > settings.max_client_id && !is_generated_client_id(client_id);
    if client_id.is_empty() || too_long {
        return Err(Ending::with(ReasonCode::CLIENT_ID_INVALID, "client id too long"));
    }
    let user_name = connect.user_name.as_deref().unwrap_or_default();
    if user_name.len() > settings.user_name.max_bytes {
        return Err(Ending::with(ReasonCode::BAD_CREDENTIALS, "user name too long"));
    }
    if settings.user_name.is_client_id && !user_name.is_empty() && user_name != client_id {
        return Err(Ending::with(ReasonCode::BAD_CREDENTIALS, "user name is not the client id"));
    }
    Ok(())
}

/// Checks a will against what the client may publish. One that is ignored may be anything.
///
/// # Errors
/// 0x9B its QoS or 0x9A its retain is not available; 0x90 the topic is too long, too deep or no topic name; 0x87 the
/// token does not allow the topic.
pub(super) fn will(will: &Will, settings: &Settings, acl: &Acl) -> Result<(), Ending> {
    if settings.wills == WillPolicy::Ignore {
        return Ok(());
    }
    if will.qos > settings.qos() {
        return Err(Ending::with(ReasonCode::QOS_NOT_SUPPORTED, "will of a qos above the announced maximum"));
    }
    if will.retain && !settings.retain() {
        return Err(Ending::with(ReasonCode::RETAIN_NOT_SUPPORTED, "retained will"));
    }
    if validate_topic(&will.topic).is_err() {
        return Err(Ending::with(ReasonCode::TOPIC_NAME_INVALID, "will to what is no topic name"));
    }
    topic(&will.topic, settings, acl)
}

/// Checks what a PUBLISH asks for.
///
/// # Errors
/// Ends the connection: 0x9B (MQTT 5 §3.2.2.3.4), 0x9A (§3.2.2.3.5).
pub fn publish(publish: &PublishRef<'_>, settings: &Settings) -> Result<(), Ending> {
    if publish.qos > settings.qos() {
        return Err(Ending::with(ReasonCode::QOS_NOT_SUPPORTED, "publish of a qos above the announced maximum"));
    }
    if publish.retain && !settings.retain() {
        return Err(Ending::with(ReasonCode::RETAIN_NOT_SUPPORTED, "retained publish"));
    }
    Ok(())
}

/// Checks the valid topic name of a publish. Allocates nothing.
///
/// # Errors
/// 0x90 it is too long or too deep; 0x87 the token does not allow it.
pub fn topic(name: &str, settings: &Settings, acl: &Acl) -> Result<(), Ending> {
    if !fits(name, settings) {
        return Err(Ending::with(ReasonCode::TOPIC_NAME_INVALID, "topic name too long or too deep"));
    }
    if !acl.may_publish(name) {
        return Err(Ending::with(ReasonCode::NOT_AUTHORIZED, "publish to a topic that the token does not allow"));
    }
    Ok(())
}

/// Checks what a SUBSCRIBE asks for.
///
/// # Errors
/// Ends the connection: 0xA1, 0x9E, and 0x90 for wildcards, which is the code that the "MQTT compatibility" page has
/// (the standard has 0xA2).
pub fn subscribe(subscribe: &Subscribe, settings: &Settings) -> Result<(), Ending> {
    if subscribe.subscription_id.is_some() && !settings.subscription_ids_available {
        return Err(Ending::with(ReasonCode::SUBSCRIPTION_IDS_NOT_SUPPORTED, "subscription identifier"));
    }
    let any = |is: fn(&str) -> bool| subscribe.filters.iter().any(|wanted| is(&wanted.filter));
    if !settings.shared_available && any(|filter| filter.starts_with("$share/")) {
        return Err(Ending::with(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, "shared subscription"));
    }
    if !settings.wildcard_available && any(|filter| filter.contains(['+', '#'])) {
        return Err(Ending::with(ReasonCode::TOPIC_NAME_INVALID, "subscription with a wildcard"));
    }
    Ok(())
}

/// Checks a valid filter of a SUBSCRIBE: `text` as it was sent, `parsed` what it says.
///
/// # Errors
/// What SUBACK says: 0x8F it is too long or too deep; 0x87 the token does not allow all that it matches.
pub fn filter(text: &str, parsed: &ParsedFilter<'_>, settings: &Settings, acl: &Acl) -> Result<(), ReasonCode> {
    if !fits(text, settings) {
        return Err(ReasonCode::TOPIC_FILTER_INVALID);
    }
    if acl.may_subscribe(parsed) { Ok(()) } else { Err(ReasonCode::NOT_AUTHORIZED) }
}

/// Whether a topic name or filter is within the broker's bounds.
fn fits(text: &str, settings: &Settings) -> bool {
    let most = usize::from(settings.max_topic_levels);
    text.len() <= settings.max_topic_bytes
        && (text.len() <= most || text.bytes().filter(|byte| *byte == b'/').count() <= most)
}
