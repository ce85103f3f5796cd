//! CONNECT: what is checked once the sender is known, and CONNACK (MQTT 5 §3.1, §3.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use rookery_cluster::limits::MAX_WILL_BYTES;
use rookery_cluster::topics::Acl;

use super::{Ending, Settings, WillPolicy, allow};
use crate::mqtt::codec::{
    Connack, ConnackProperties, Connect, Packet, PacketId, Publish, QoS, ReasonCode, Version, encode,
};

/// A CONNACK without properties, bytes.
const REFUSAL_BYTES: u32 = 5;

/// Checks before anybody is authenticated: only what costs nothing.
pub fn check_unauthenticated(connect: &Connect) -> Result<(), Ending> {
    if connect.properties.authentication_method.is_some() {
        return Err(Ending::with(ReasonCode::BAD_AUTHENTICATION_METHOD, "no enhanced authentication is offered"));
    }
    Ok(())
}

/// Whether the client takes so little that not even a refusal may be sent (MQTT-3.1.2-24).
pub fn takes_nothing(connect: &Connect) -> bool {
    connect.properties.maximum_packet_size.is_some_and(|most| most.get() < REFUSAL_BYTES)
}

/// Whether the CONNACK that admits the client is within its Maximum Packet Size (MQTT-3.1.2-24). A refusal is.
fn check_size(connect: &Connect, client_id: &str, settings: &Settings) -> Result<(), Ending> {
    let Some(most) = connect.properties.maximum_packet_size else { return Ok(()) };
    let mut bytes = BytesMut::new();
    match encode(&connack(connect, client_id, settings, false), connect.version, &mut bytes) {
        Ok(size) if size <= most.get() as usize => Ok(()),
        _ => Err(Ending::with(ReasonCode::PACKET_TOO_LARGE, "the client takes no connack that admits it")),
    }
}

/// Checks of an authenticated client's CONNECT against its broker's settings.
pub fn check(connect: &Connect, client_id: &str, settings: &Settings, acl: &Acl) -> Result<(), Ending> {
    check_size(connect, client_id, settings)?;
    allow::names(connect, client_id, settings)?;
    connect.will.as_ref().map_or(Ok(()), |will| allow::will(will, settings, acl))
}

/// The keep-alive that holds, seconds (Server Keep Alive, MQTT 5 §3.2.2.3.14).
pub fn keep_alive(connect: &Connect, settings: &Settings) -> u16 {
    let kept = match settings.keep_alive_maximum {
        0 => connect.keep_alive,
        most if connect.keep_alive == 0 => most,
        most => connect.keep_alive.min(most),
    };
    if kept == 0 { 0 } else { kept.max(settings.keep_alive_minimum) }
}

/// How long the session outlives its connection, seconds; `u32::MAX`: for ever. A 3.1.1 session without Clean Session
/// has no interval of its own (3.1.1: §3.1.2.4): it lives as long as the broker allows.
pub fn session_expiry(connect: &Connect, settings: &Settings) -> u32 {
    let wanted = match connect.version {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0),
        Version::V311 if connect.clean_start => 0,
        Version::V311 => u32::MAX,
    };
    settings.session_expiry(wanted)
}

/// The will as it is published and kept meanwhile: an MQTT 5 PUBLISH.
///
/// # Errors
/// When it does not encode, or is larger than a shard keeps.
pub fn will(connect: &Connect, settings: &Settings) -> Result<Option<(Bytes, u32)>, Ending> {
    let Some(will) = connect.will.as_ref().filter(|_| settings.wills == WillPolicy::Serve) else { return Ok(None) };
    let mut properties = will.properties.clone();
    if !settings.forward_user_properties {
        properties.user_properties.clear();
    }
    let publish = Publish {
        qos: will.qos,
        retain: will.retain,
        topic: will.topic.clone(),
        packet_id: (will.qos != QoS::AtMostOnce).then_some(PacketId::MIN),
        properties,
        payload: will.payload.clone(),
        ..Publish::default()
    };
    let mut bytes = BytesMut::new();
    encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut bytes)
        .map_err(|_| Ending::with(ReasonCode::MALFORMED_PACKET, "a will that cannot be encoded"))?;
    if bytes.len() > MAX_WILL_BYTES {
        return Err(Ending::with(ReasonCode::PACKET_TOO_LARGE, "a will larger than is kept"));
    }
    Ok(Some((bytes.freeze(), will.delay.unwrap_or(0))))
}

/// The CONNACK that admits the client.
pub fn connack(connect: &Connect, client_id: &str, settings: &Settings, session_present: bool) -> Packet {
    let mut connack = Connack::new(session_present, ReasonCode::SUCCESS);
    if connect.version == Version::V5 {
        connack.properties = properties(connect, client_id, settings);
    }
    Packet::Connack(Box::new(connack))
}

fn properties(connect: &Connect, client_id: &str, settings: &Settings) -> ConnackProperties {
    let kept = keep_alive(connect, settings);
    let wanted = connect.properties.session_expiry.unwrap_or(0);
    let expiry = session_expiry(connect, settings);
    let mut properties = ConnackProperties {
        session_expiry: (expiry != wanted).then_some(expiry),
        // Without QoS 1 and 2 there is nothing for it to bound (MQTT 5 §3.2.2.3.3).
        receive_maximum: NonZeroU16::new(settings.receive_maximum).filter(|_| settings.qos() > QoS::AtMostOnce),
        maximum_packet_size: u32::try_from(settings.max_packet).ok().and_then(NonZeroU32::new),
        assigned_client_id: connect.client_id.is_empty().then(|| client_id.to_owned()),
        topic_alias_maximum: Some(settings.topic_alias_maximum).filter(|most| *most > 0),
        server_keep_alive: (kept != connect.keep_alive).then_some(kept),
        ..ConnackProperties::default()
    };
    allow::announce(settings, &mut properties);
    properties
}

/// The CONNACK that refuses, and the largest packet that the client takes. Without its CONNECT nothing is known of what it
/// allows, so it gets the reason code alone.
pub fn refusal(ending: Ending, connect: Option<&Connect>) -> (Packet, usize) {
    let mut connack = Connack::new(false, ending.reason);
    let Some(connect) = connect else { return (Packet::Connack(Box::new(connack)), usize::MAX) };
    let properties = &connect.properties;
    let wanted = connect.version == Version::V5 && properties.request_problem_information.unwrap_or(true);
    connack.properties.reason_string = wanted.then(|| ending.what.to_owned());
    let most = properties.maximum_packet_size.map_or(usize::MAX, |most| most.get() as usize);
    (Packet::Connack(Box::new(connack)), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connack_of(packet: Packet) -> Connack {
        match packet {
            Packet::Connack(c) => *c,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connack_announces_what_is_granted() {
        let settings = Settings { keep_alive_maximum: 60, max_session_expiry: 600, ..Settings::default() };
        let mut c = Connect::new(Version::V5, "");
        c.keep_alive = 600;
        c.properties.session_expiry = Some(3600);
        let got = connack_of(connack(&c, "01ABC", &settings, false)).properties;
        assert_eq!(got.assigned_client_id.as_deref(), Some("01ABC"));
        assert_eq!(got.server_keep_alive, Some(60));
        assert_eq!(got.session_expiry, Some(600));
        assert_eq!(got.maximum_qos, None, "absent says 2 (MQTT 5 §3.2.2.3.4)");
    }

    #[test]
    fn connack_of_the_older_version_has_no_properties() {
        let c = Connect::new(Version::V311, "a");
        assert_eq!(connack_of(connack(&c, "a", &Settings::default(), false)).properties, ConnackProperties::default());
    }

    #[test]
    fn too_long_client_id_and_unknown_authentication_method() {
        let mut c = Connect::new(Version::V5, "a");
        assert_eq!(
            check(&c, &"x".repeat(1025), &Settings::default(), &Acl::all()).expect_err("long").reason,
            ReasonCode::CLIENT_ID_INVALID
        );
        c.properties.authentication_method = Some("SCRAM-SHA-1".into());
        assert_eq!(check_unauthenticated(&c).expect_err("method").reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
    }
}
