//! The page "Limits", and the limits that it has not.

use rookery_cluster::ids::SessionId;
use rookery_cluster::limits::CONNECT_DEADLINE;

use super::*;
use crate::mqtt::codec::Unsubscribe;

mod retained;

#[test]
fn subscribers_per_topic() {
    assert_eq!(BrokerLimits::of(Preset::Beta).subscribers_per_filter, 1000);
    let mut w = World::with(&[("subscribers_per_filter", 2)]);
    let (a, b, c, d) = (w.v5("a"), w.v5("b"), w.v5("c"), w.v5("d"));
    for conn in [a, b, a] {
        assert_eq!(w.subscribe(conn, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    }
    assert_eq!(w.subscribe(c, "t", QoS::AtMostOnce), Some(ReasonCode::QUOTA_EXCEEDED));
    assert_eq!(w.subscribe(c, "other", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    w.step(Input::Closed { conn: a });
    assert_eq!(w.subscribe(c, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    assert_eq!(w.subscribe(d, "t", QoS::AtMostOnce), Some(ReasonCode::QUOTA_EXCEEDED));
    let unsubscribe = Unsubscribe { packet_id: id(3), filters: vec!["t".into()], user_properties: Vec::new() };
    w.send(b, Version::V5, Packet::Unsubscribe(unsubscribe));
    assert_eq!(w.subscribe(d, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
}

/// A session without a connection is a subscriber still.
#[test]
fn subscribers_that_are_kept() {
    let mut w = World::with(&[("subscribers_per_filter", 1)]);
    let grant = |present| Some(SessionGrant { id: SessionId(1), present, home: None });
    let mut connect = Connect { clean_start: false, ..Connect::new(Version::V5, "p") };
    connect.properties.session_expiry = Some(100);
    let (conn, _) = w.connect_to("p", connect.clone(), grant(false));
    assert_eq!(w.subscribe(conn, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    w.step(Input::Closed { conn });
    let other = w.v5("other");
    assert_eq!(w.subscribe(other, "t", QoS::AtMostOnce), Some(ReasonCode::QUOTA_EXCEEDED));
    let (conn, _) = w.connect_to("p", connect.clone(), grant(true));
    assert_eq!(w.subscribe(conn, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0), "it has it already");
    w.step(Input::Closed { conn });
    let clean = Connect { clean_start: true, ..connect };
    w.connect_to("p", clean, grant(false));
    assert_eq!(w.subscribe(other, "t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
}

/// "Connections per Device": the newer connection's claim revokes the older one's.
#[test]
fn connections_per_device() {
    let mut w = World::beta();
    let conn = w.open(Connect::new(Version::V5, "c"));
    let effects = w.authenticated(conn, "c");
    let [Effect::Claim(claim)] = &effects[..] else { panic!("{effects:?}") };
    let (broker, client, nonce, epoch) = (B, claim.client.clone(), claim.nonce, Epoch(1));
    let granted = ClaimEvent::Granted { broker, client: client.clone(), nonce, epoch, session: None };
    w.step(Input::Claim(granted));
    w.got(conn, Version::V5);
    w.step(Input::Claim(ClaimEvent::Revoked { broker, client, nonce, epoch }));
    w.ended(conn, ReasonCode::SESSION_TAKEN_OVER);
}

#[test]
fn packets_per_second() {
    let mut w = World::beta();
    let conn = w.v5("c");
    for _ in 0..10 {
        w.send(conn, Version::V5, Packet::Pingreq);
    }
    assert_eq!(w.got(conn, Version::V5), (vec![Packet::Pingresp; 10], false));
    w.pass(100);
    w.send(conn, Version::V5, Packet::Pingreq);
    assert_eq!(w.got(conn, Version::V5), (vec![Packet::Pingresp], false));
    w.send(conn, Version::V5, Packet::Pingreq);
    w.ended(conn, ReasonCode::MESSAGE_RATE_TOO_HIGH);
    let conn = w.client(Version::V311, "d");
    for _ in 0..11 {
        w.publish(conn, Version::V311, "t", QoS::AtMostOnce);
    }
    w.closed(conn);
}

#[test]
fn topic_length() {
    assert_eq!(BrokerLimits::of(Preset::Beta).topic_bytes, 65_000, "65k in SI units");
    let mut w = World::with(&[("topic_bytes", 5)]);
    let conn = w.v5("c");
    assert_eq!(w.subscribe(conn, "abcde", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    assert_eq!(w.subscribe(conn, "abcdef", QoS::AtMostOnce), Some(ReasonCode::TOPIC_FILTER_INVALID));
    refused_in_each_way(&mut w, "abcdef", ReasonCode::TOPIC_NAME_INVALID);
}

#[test]
fn topic_depth() {
    let (eight, nine) = ("a/b/c/d/e/f/g/h/i", "a/b/c/d/e/f/g/h/i/j");
    let mut w = World::beta();
    let conn = w.v5("c");
    assert_eq!(w.subscribe(conn, eight, QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    assert_eq!(w.subscribe(conn, nine, QoS::AtMostOnce), Some(ReasonCode::TOPIC_FILTER_INVALID));
    w.publish(conn, Version::V5, eight, QoS::AtMostOnce);
    assert!(matches!(&w.got(conn, Version::V5).0[..], [Packet::Publish(_)]));
    w.publish(conn, Version::V5, nine, QoS::AtMostOnce);
    w.ended(conn, ReasonCode::TOPIC_NAME_INVALID);
    refused_in_each_way(&mut World::with(&[("topic_slashes", 8)]), nine, ReasonCode::TOPIC_NAME_INVALID);
}

#[test]
fn message_size() {
    let mut w = World::beta();
    let conn = w.v5("c");
    // The first byte, the length (3), the topic (3), no properties (1).
    let fits = Publish { payload: vec![0; 64_000 - 8].into(), ..message("t", QoS::AtMostOnce) };
    w.send(conn, Version::V5, Packet::Publish(Box::new(fits.clone())));
    assert_eq!(w.got(conn, Version::V5), (vec![], false));
    let too_large = Publish { payload: vec![0; 64_000 - 7].into(), ..fits };
    w.send(conn, Version::V5, Packet::Publish(Box::new(too_large)));
    w.ended(conn, ReasonCode::PACKET_TOO_LARGE);
}

#[test]
fn client_id_length() {
    let reason = |w: &mut World, client: &str| w.connect_as(client, Connect::new(Version::V5, client)).1.reason;
    let mut w = World::beta();
    assert_eq!(reason(&mut w, &"x".repeat(23)), ReasonCode::SUCCESS);
    assert_eq!(reason(&mut w, &"x".repeat(24)), ReasonCode::CLIENT_ID_INVALID);
    assert_eq!(reason(&mut w, "01G3A5GBJE5P3GPXJZ72X4X8SA"), ReasonCode::SUCCESS, "the service made it");
    assert_eq!(reason(&mut w, "01g3a5gbje5p3gpxjz72x4x8sa"), ReasonCode::CLIENT_ID_INVALID);
    let (_, connack) = w.connect_as("d", Connect::new(Version::V5, ""));
    assert_eq!(connack.properties.assigned_client_id.as_deref(), Some("d"), "none is that of the token");
    let mut w = World::standard();
    assert_eq!(reason(&mut w, &"x".repeat(1024)), ReasonCode::SUCCESS);
    assert_eq!(reason(&mut w, &"x".repeat(1025)), ReasonCode::CLIENT_ID_INVALID);
}

#[test]
fn user_names() {
    let named = |name: &str, client: &str| {
        let (user_name, password) = (Some(name.into()), Some("token".into()));
        Connect { user_name, password, ..Connect::new(Version::V5, client) }
    };
    let mut w = World::beta();
    for (name, client, expected) in [
        ("c", "c", ReasonCode::SUCCESS),
        ("c", "", ReasonCode::SUCCESS),
        ("", "c", ReasonCode::SUCCESS),
        ("PubSub", "c", ReasonCode::BAD_CREDENTIALS),
        (&"c".repeat(33), "c", ReasonCode::BAD_CREDENTIALS),
    ] {
        assert_eq!(w.connack(named(name, client)).reason, expected, "{name:?} {client:?}");
    }
    let mut w = World::with(&[("username_bytes", 32)]);
    assert_eq!(w.connack(named(&"x".repeat(32), "c")).reason, ReasonCode::SUCCESS, "free but for its length");
    assert_eq!(w.connack(named(&"x".repeat(33), "c")).reason, ReasonCode::BAD_CREDENTIALS);
    let mut w = World::with(&[("username_is_client_id", 1)]);
    assert_eq!(w.connack(named("d", "c")).reason, ReasonCode::BAD_CREDENTIALS);
}

/// "Connect Interval". No CONNECT says which version the client has, so nothing is said (MQTT 5 §4.13).
#[test]
fn connect_interval() {
    assert_eq!(CONNECT_DEADLINE, Duration::from_secs(10));
    let mut w = World::beta();
    let conn = w.core.open(w.now, ([127, 0, 0, 1], 9).into(), None, Transport::Tls);
    w.pass(9_999);
    assert_eq!(w.got(conn, Version::V5), (vec![], false));
    w.pass(1);
    assert_eq!(w.got(conn, Version::V5), (vec![], true));
}

#[test]
fn minimum_keep_alive() {
    let keep_alive = |seconds| Connect { keep_alive: seconds, ..Connect::new(Version::V5, "c") };
    let mut w = World::beta();
    assert_eq!(w.connack(keep_alive(9)).properties.server_keep_alive, Some(10));
    assert_eq!(w.connack(keep_alive(10)).properties.server_keep_alive, None);
    assert_eq!(w.connack(keep_alive(0)).properties.server_keep_alive, Some(3600), "never is too long");
    let (conn, _) = w.connect_as("k", keep_alive(1));
    w.pass(14_999);
    assert_eq!(w.got(conn, Version::V5), (vec![], false));
    w.pass(1);
    w.ended(conn, ReasonCode::KEEP_ALIVE_TIMEOUT);
    let mut w = World::with(&[("keep_alive_max_s", 0), ("keep_alive_min_s", 10)]);
    assert_eq!(w.connack(keep_alive(0)).properties.server_keep_alive, None, "0 turns it off, it is not short");
    assert_eq!(World::standard().connack(keep_alive(1)).properties.server_keep_alive, None);
}

#[test]
fn maximum_session_expiry() {
    let week = 7 * 24 * 3600;
    assert_eq!(settings(&BrokerLimits::of(Preset::Beta)).max_session_expiry, week);
    let mut connect = Connect::new(Version::V5, "c");
    connect.properties.session_expiry = Some(u32::MAX);
    let told = World::beta().connack(connect).properties.session_expiry;
    assert!(told.is_some_and(|seconds| seconds <= week), "{told:?}");
}

#[test]
fn connections_per_node() {
    let mut w = World::with(&[("connections_per_node", 2)]);
    let (a, _) = (w.v5("a"), w.v5("b"));
    assert_eq!(w.connack(Connect::new(Version::V5, "c")).reason, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(w.connack(Connect::new(Version::V311, "c")).reason, ReasonCode::SERVER_UNAVAILABLE);
    w.step(Input::Closed { conn: a });
    assert_eq!(w.connack(Connect::new(Version::V5, "c")).reason, ReasonCode::SUCCESS);
}

#[test]
fn publishes_per_second() {
    let mut w = World::with(&[("publishes_per_s", 2)]);
    let (conn, to) = (w.v5("c"), w.v5("s"));
    w.subscribe(to, "t", QoS::AtMostOnce);
    for _ in 0..3 {
        w.publish(conn, Version::V5, "t", QoS::AtMostOnce);
    }
    assert_eq!(w.got(conn, Version::V5), (vec![], false), "what is too much of QoS 0 is dropped");
    assert_eq!(w.got(to, Version::V5).0.len(), 2);
    assert_eq!(w.core.stats.dropped.values().sum::<u64>(), 1);
    w.publish(conn, Version::V5, "t", QoS::AtLeastOnce);
    w.publish(conn, Version::V5, "t", QoS::ExactlyOnce);
    let refused = Ack::new(id(7), ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(w.got(conn, Version::V5), (vec![Packet::Puback(refused.clone()), Packet::Pubrec(refused)], false));
    w.pass(500);
    w.publish(conn, Version::V5, "t", QoS::AtLeastOnce);
    assert_eq!(w.got(conn, Version::V5).0, [Packet::Puback(Ack::new(id(7), ReasonCode::SUCCESS))]);
    let conn = w.client(Version::V311, "d");
    for _ in 0..2 {
        w.publish(conn, Version::V311, "t", QoS::AtMostOnce);
    }
    w.publish(conn, Version::V311, "t", QoS::AtLeastOnce);
    w.closed(conn);
}

#[test]
fn bytes_per_second() {
    let mut w = World::with(&[("bytes_per_s", 100)]);
    let (conn, to) = (w.v5("c"), w.v5("s"));
    w.subscribe(to, "t", QoS::AtMostOnce);
    // 300 bytes in all: as many as may come in three seconds, or one, and the two of which one's worth is there.
    let large = Publish { payload: vec![0; 293].into(), ..message("t", QoS::AtMostOnce) };
    w.send(conn, Version::V5, Packet::Publish(Box::new(large)));
    assert_eq!(w.got(to, Version::V5).0.len(), 1);
    assert!(!w.core.wants_read(conn));
    w.publish(conn, Version::V5, "t", QoS::AtMostOnce);
    w.pass(1900);
    assert!(!w.core.wants_read(conn));
    assert_eq!(w.got(to, Version::V5).0.len(), 0, "what had been read by then waits, too");
    w.pass(200);
    assert!(w.core.wants_read(conn));
    assert_eq!(w.got(to, Version::V5).0.len(), 1);
}

/// A publish that is refused before anything is done: told by the acknowledgement where it has one that can say so.
pub(super) fn refused_in_each_way(w: &mut World, topic: &str, reason: ReasonCode) {
    let conn = w.v5("p");
    w.publish(conn, Version::V5, topic, QoS::AtLeastOnce);
    assert_eq!(w.got(conn, Version::V5), (vec![Packet::Puback(Ack::new(id(7), reason))], false));
    w.publish(conn, Version::V5, topic, QoS::ExactlyOnce);
    assert_eq!(w.got(conn, Version::V5), (vec![Packet::Pubrec(Ack::new(id(7), reason))], false));
    w.publish(conn, Version::V5, topic, QoS::AtMostOnce);
    w.ended(conn, reason);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let conn = w.client(Version::V311, "older");
        w.publish(conn, Version::V311, topic, qos);
        w.closed(conn);
    }
}

/// Applied to clients that are connected, too.
#[test]
fn shared_strategy() {
    let mut w = World::with(&[]);
    let (a, b, p) = (w.v5("a"), w.v5("b"), w.v5("p"));
    for conn in [a, b] {
        assert_eq!(w.subscribe(conn, "$share/g/t", QoS::AtMostOnce), Some(ReasonCode::GRANTED_QOS_0));
    }
    let got = |w: &mut World| {
        (0..8).for_each(|_| w.publish(p, Version::V5, "t", QoS::AtMostOnce));
        [a, b].map(|conn| w.got(conn, Version::V5).0.len())
    };
    assert_eq!(got(&mut w), [4, 4], "in turns");
    for word in ["hash_topic", "hash_client"] {
        let entry = w.limits.entries().into_iter().find(|entry| entry.key == "shared_strategy").unwrap();
        let code = entry.words.iter().position(|known| *known == word).unwrap() as u64;
        w.limits.set("shared_strategy", code).unwrap();
        let settings = Arc::new(settings(&w.limits));
        w.step(Input::Reconfigured { broker: B, settings });
        assert!(got(&mut w).contains(&8), "{word}: all to one");
    }
}
