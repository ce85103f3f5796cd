//! The page "MQTT compatibility": what the beta refuses and how, what it announces, and that each can be had alone.

use super::*;
use crate::mqtt::codec::{MessageProperties, Will};

#[test]
fn qos_1_and_2_are_refused_with_0x9b() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut w = World::beta();
        let conn = w.v5("c");
        w.publish(conn, Version::V5, "t", qos);
        w.ended(conn, ReasonCode::QOS_NOT_SUPPORTED);
        let conn = w.client(Version::V311, "d");
        w.publish(conn, Version::V311, "t", qos);
        w.closed(conn);
    }
    let mut w = World::with(&[("max_qos", 1)]);
    let conn = w.v5("c");
    w.publish(conn, Version::V5, "t", QoS::AtLeastOnce);
    let puback = Packet::Puback(Ack::new(id(7), ReasonCode::NO_MATCHING_SUBSCRIBERS));
    assert_eq!(w.got(conn, Version::V5), (vec![puback], false));
    w.publish(conn, Version::V5, "t", QoS::ExactlyOnce);
    w.ended(conn, ReasonCode::QOS_NOT_SUPPORTED);
}

#[test]
fn subscriptions_are_granted_the_qos_that_there_is() {
    for (mut w, granted) in
        [(World::beta(), ReasonCode::GRANTED_QOS_0), (World::with(&[("max_qos", 1)]), ReasonCode::GRANTED_QOS_1)]
    {
        let conn = w.v5("c");
        assert_eq!(w.subscribe(conn, "t", QoS::ExactlyOnce), Some(granted));
    }
}

#[test]
fn retain_is_refused_with_0x9a() {
    for mut w in [World::beta(), World::with(&[("retain", 0)])] {
        let conn = w.v5("c");
        let retained = Publish { retain: true, ..message("t", QoS::AtMostOnce) };
        w.send(conn, Version::V5, Packet::Publish(Box::new(retained)));
        w.ended(conn, ReasonCode::RETAIN_NOT_SUPPORTED);
    }
}

#[test]
fn wildcards_are_refused_with_0x90() {
    for filter in ["a/+", "+", "#", "a/#"] {
        for mut w in [World::beta(), World::with(&[("wildcards", 0)])] {
            let conn = w.v5("c");
            assert_eq!(w.subscribe(conn, "a/b", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
            w.send(conn, Version::V5, subscribe(filter, QoS::AtMostOnce, None));
            w.ended(conn, ReasonCode::TOPIC_NAME_INVALID);
            let conn = w.client(Version::V311, "d");
            w.send(conn, Version::V311, subscribe(filter, QoS::AtMostOnce, None));
            w.closed(conn);
        }
    }
}

#[test]
fn shared_subscriptions_are_refused_with_0x9e() {
    for mut w in [World::beta(), World::with(&[("shared_subscriptions", 0)])] {
        let conn = w.v5("c");
        w.send(conn, Version::V5, subscribe("$share/g/t", QoS::AtMostOnce, None));
        w.ended(conn, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
    }
}

#[test]
fn subscription_identifiers_are_refused_with_0xa1() {
    for mut w in [World::beta(), World::with(&[("subscription_ids", 0)])] {
        let conn = w.v5("c");
        w.send(conn, Version::V5, subscribe("t", QoS::AtMostOnce, Some(5)));
        w.ended(conn, ReasonCode::SUBSCRIPTION_IDS_NOT_SUPPORTED);
    }
}

#[test]
fn user_properties_are_not_forwarded() {
    let properties = |user: &[(&str, &str)]| MessageProperties {
        content_type: Some("text/plain".into()),
        response_topic: Some("r".into()),
        correlation_data: Some("id".into()),
        message_expiry: Some(60),
        user_properties: user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..MessageProperties::default()
    };
    let user = [("a", "1"), ("b", "2")];
    for (mut w, expected) in
        [(World::beta(), &[][..]), (World::with(&[("user_properties", 0)]), &[][..]), (World::standard(), &user[..])]
    {
        let (from, to) = (w.v5("p"), w.v5("s"));
        w.subscribe(to, "t", QoS::AtMostOnce);
        let sent = Publish { properties: properties(&user), ..message("t", QoS::AtMostOnce) };
        w.send(from, Version::V5, Packet::Publish(Box::new(sent)));
        let (got, _) = w.got(to, Version::V5);
        let [Packet::Publish(got)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(got.properties, properties(expected));
    }
}

fn with_will(topic: &str, qos: QoS, retain: bool) -> Connect {
    let (topic, properties) = (topic.into(), MessageProperties::default());
    let will = Will { qos, retain, topic, payload: "gone".into(), delay: None, properties };
    Connect { will: Some(will), ..Connect::new(Version::V5, "c") }
}

#[test]
fn wills_are_ignored() {
    for mut w in [World::beta(), World::with(&[("wills", 0)])] {
        let watch = w.v5("watch");
        w.subscribe(watch, "will", QoS::AtMostOnce);
        for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::ExactlyOnce, true)] {
            let (conn, connack) = w.connect_as("c", with_will("will", qos, retain));
            assert_eq!(connack.reason, ReasonCode::SUCCESS);
            w.step(Input::Closed { conn });
            w.pass(1000);
            assert_eq!(w.got(watch, Version::V5).0, []);
        }
    }
}

#[test]
fn a_will_beyond_what_is_announced_is_refused() {
    for (limit, will, reason) in [
        (("max_qos", 1), with_will("t", QoS::ExactlyOnce, false), ReasonCode::QOS_NOT_SUPPORTED),
        (("retain", 0), with_will("t", QoS::AtMostOnce, true), ReasonCode::RETAIN_NOT_SUPPORTED),
        (("topic_slashes", 1), with_will("a/b/c", QoS::AtMostOnce, false), ReasonCode::TOPIC_NAME_INVALID),
    ] {
        assert_eq!(World::with(&[limit]).connack(will).reason, reason, "{limit:?}");
    }
}

/// "User Name & Password: yes", "QoS 0: yes", "Enhanced Authentication: not supported".
#[test]
fn what_the_beta_has() {
    let mut w = World::beta();
    let (from, to) = (w.v5("p"), w.v5("s"));
    w.subscribe(to, "t", QoS::AtMostOnce);
    w.publish(from, Version::V5, "t", QoS::AtMostOnce);
    assert!(matches!(&w.got(to, Version::V5).0[..], [Packet::Publish(p)] if p.topic == "t"));
    let mut connect = Connect::new(Version::V5, "c");
    connect.properties.authentication_method = Some("SCRAM-SHA-256".into());
    assert_eq!(w.connack(connect).reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
}

#[test]
fn connack_announces_what_is_withheld() {
    let told = |mut w: World| w.connack(Connect::new(Version::V5, "c")).properties;
    let beta = told(World::beta());
    assert_eq!(beta.maximum_qos, Some(QoS::AtMostOnce));
    assert_eq!(beta.retain_available, Some(false));
    assert_eq!(beta.wildcard_subscription_available, Some(false));
    assert_eq!(beta.shared_subscription_available, Some(false));
    assert_eq!(beta.subscription_ids_available, Some(false));
    assert_eq!(beta.receive_maximum, None, "\"Receive Maximum: not yet supported\"");
    assert_eq!(beta.maximum_packet_size.map(|size| size.get()), Some(64_000));
    let standard = told(World::standard());
    assert_eq!(standard.wildcard_subscription_available, None);
    assert_eq!(standard.subscription_ids_available, None);
    assert_eq!(standard.receive_maximum.map(|most| most.get()), Some(256));
    let alone = told(World::with(&[("max_qos", 1), ("wildcards", 0), ("receive_maximum", 9), ("packet_bytes", 9000)]));
    assert_eq!(alone.maximum_qos, Some(QoS::AtLeastOnce));
    assert_eq!(alone.wildcard_subscription_available, Some(false));
    assert_eq!(alone.subscription_ids_available, None);
    assert_eq!(alone.receive_maximum.map(|most| most.get()), Some(9));
    assert_eq!(alone.maximum_packet_size.map(|size| size.get()), Some(9000));
}
