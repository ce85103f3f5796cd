//! The token's ACL on publishes, subscriptions and wills.

use rookery_cluster::ids::SessionId;

use super::rows::refused_in_each_way;
use super::*;
use crate::mqtt::codec::{MessageProperties, Will};

fn allowed(publish: &[&str], subscribe: &[&str]) -> World {
    let owned = |filters: &[&str]| filters.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut w = World::standard();
    w.acl = Acl::new(&owned(publish), &owned(subscribe), "p").unwrap();
    w
}

#[test]
fn publishes() {
    let mut w = allowed(&["up/${clientid}/+"], &["#"]);
    let to = w.v5("s");
    w.subscribe(to, "#", QoS::AtMostOnce);
    refused_in_each_way(&mut w, "up/other/x", ReasonCode::NOT_AUTHORIZED);
    assert_eq!(w.got(to, Version::V5).0, [], "nothing of it was delivered");
    assert_eq!(w.core.stats.publishes_refused.get(&0x87), Some(&2));
    let conn = w.v5("p");
    w.publish(conn, Version::V5, "up/p/x", QoS::ExactlyOnce);
    assert_eq!(w.got(conn, Version::V5).0, [Packet::Pubrec(Ack::new(id(7), ReasonCode::SUCCESS))]);
    assert_eq!(w.got(to, Version::V5).0.len(), 1);
}

/// What the server says of itself is for those whose token names it.
#[test]
fn system_topics() {
    for (right, reason) in [
        ("#", ReasonCode::NOT_AUTHORIZED),
        ("+/#", ReasonCode::NOT_AUTHORIZED),
        ("$SYS/cluster/#", ReasonCode::NOT_AUTHORIZED),
        ("$SYS/#", ReasonCode::GRANTED_QOS_0),
        ("$SYS/broker/#", ReasonCode::GRANTED_QOS_0),
    ] {
        let mut w = allowed(&["#", "$SYS/#"], &[right]);
        let conn = w.v5("p");
        assert_eq!(w.subscribe(conn, "$SYS/broker/#", QoS::AtMostOnce), Some(reason), "{right}");
        w.publish(conn, Version::V5, "$SYS/broker/x", QoS::AtLeastOnce);
        let refused = Packet::Puback(Ack::new(id(7), ReasonCode::NOT_AUTHORIZED));
        assert_eq!(w.got(conn, Version::V5).0, [refused], "nobody else publishes there");
    }
}

/// The topic of a refused publish may have set an alias: both ends know it, and what comes by it is refused alike.
#[test]
fn an_alias_is_no_way_round() {
    let mut w = allowed(&["a"], &[]);
    let conn = w.v5("p");
    for topic in ["b", ""] {
        let publish = Publish { topic_alias: Some(1), ..message(topic, QoS::AtLeastOnce) };
        w.send(conn, Version::V5, Packet::Publish(Box::new(publish)));
        assert_eq!(w.got(conn, Version::V5).0, [Packet::Puback(Ack::new(id(7), ReasonCode::NOT_AUTHORIZED))]);
    }
}

#[test]
fn subscriptions_filter_by_filter() {
    let mut w = allowed(&[], &["down/${clientid}/#", "all"]);
    let conn = w.v5("p");
    let filters = ["down/p/+", "down/+/x", "all", "#", "down/p"].map(|f| SubscribeFilter::new(f, QoS::AtMostOnce));
    let packet =
        Subscribe { packet_id: id(1), filters: filters.into(), subscription_id: None, user_properties: Vec::new() };
    w.send(conn, Version::V5, Packet::Subscribe(packet.clone()));
    let (ok, no) = (ReasonCode::GRANTED_QOS_0, ReasonCode::NOT_AUTHORIZED);
    let (got, _) = w.got(conn, Version::V5);
    let [Packet::Suback(suback)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(suback.reasons, [ok, no, ok, no, ok]);

    let conn = w.client(Version::V311, "older");
    w.send(conn, Version::V311, Packet::Subscribe(packet));
    let (got, _) = w.got(conn, Version::V311);
    let [Packet::Suback(suback)] = &got[..] else { panic!("{got:?}") };
    let no = ReasonCode::UNSPECIFIED_ERROR;
    assert_eq!(suback.reasons, [ok, no, ok, no, ok], "0x80 is what 3.1.1 has");
}

#[test]
fn topics_of_the_server_are_named_or_not_read() {
    let mut w = allowed(&["#"], &["#"]);
    let conn = w.v5("p");
    assert_eq!(w.subscribe(conn, "$SYS/#", QoS::AtMostOnce), Some(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(w.subscribe(conn, "#", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    w.publish(conn, Version::V5, "$SYS/x", QoS::AtLeastOnce);
    assert_eq!(w.got(conn, Version::V5).0, [Packet::Puback(Ack::new(id(7), ReasonCode::NOT_AUTHORIZED))]);
    let mut w = allowed(&[], &["$SYS/#"]);
    let conn = w.v5("p");
    assert_eq!(w.subscribe(conn, "$SYS/broker/+", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
}

#[test]
fn a_will_is_refused_at_connect() {
    let mut w = allowed(&["up/#"], &[]);
    let (topic, properties) = ("down/p".to_owned(), MessageProperties::default());
    let will = Will { qos: QoS::AtMostOnce, retain: false, topic, payload: "gone".into(), delay: None, properties };
    for version in [Version::V5, Version::V311] {
        let connect = Connect { will: Some(will.clone()), ..Connect::new(version, "p") };
        assert_eq!(w.connack(connect).reason, ReasonCode::NOT_AUTHORIZED);
    }
}

#[test]
fn a_session_that_is_gone_on_with_loses_what_the_newer_token_does_not_allow() {
    let mut w = allowed(&[], &["a", "b"]);
    let grant = |present| Some(SessionGrant { id: SessionId(1), present, home: None });
    let mut connect = Connect { clean_start: false, ..Connect::new(Version::V5, "p") };
    connect.properties.session_expiry = Some(100);
    let (conn, _) = w.connect_to("p", connect.clone(), grant(false));
    for filter in ["a", "b"] {
        assert_eq!(w.subscribe(conn, filter, QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    }
    w.step(Input::Closed { conn });
    w.acl = Acl::new(&[], &["a".to_owned()], "p").unwrap();
    let (conn, connack) = w.connect_to("p", connect, grant(true));
    assert!(connack.session_present);
    w.acl = Acl::all();
    let from = w.v5("from");
    for topic in ["b", "a"] {
        w.publish(from, Version::V5, topic, QoS::AtMostOnce);
    }
    let (got, _) = w.got(conn, Version::V5);
    assert!(matches!(&got[..], [Packet::Publish(publish)] if publish.topic == "a"), "{got:?}");
    assert!(w.core.wants_read(conn));
}
