//! What a client is told when its connection ends: why, and where else it may go.

use std::num::NonZeroU32;

use super::*;

fn connect_with(w: &mut World, change: impl FnOnce(&mut Connect)) -> ConnKey {
    let mut connect = Connect::new(Version::V5, "c");
    change(&mut connect);
    let client = connect.client_id.clone();
    let (conn, nonce) = w.claiming_by(connect);
    w.grant(&client, nonce, 1);
    w.sent(conn, Version::V5);
    conn
}

/// Reason string and server reference of the DISCONNECT that was sent.
fn told(w: &mut World, conn: ConnKey) -> (Option<String>, Option<String>) {
    match w.sent_in_full(conn, Version::V5).pop() {
        Some(Packet::Disconnect(d)) => (d.properties.reason_string, d.properties.server_reference),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_told_to_use_another_server_is_told_which() {
    let mut w = World::new();
    w.elsewhere = true;
    let conn = connect_with(&mut w, |_| {});
    let tight = connect_with(&mut w, |c| {
        c.client_id = "tight".into();
        c.properties.maximum_packet_size = NonZeroU32::new(25);
    });
    let (old, _) = w.connect(Version::V311, "old");
    w.serving_until = w.now;
    w.step(Input::Tick);
    let text = "two:Tcp three:Tcp".to_owned();
    assert_eq!(told(&mut w, conn), (Some("the node stops serving".to_owned()), Some(text)));
    assert_eq!(told(&mut w, tight), (None, Some("two:Tcp three:Tcp".to_owned())), "what it takes");
    assert_eq!(w.sent(old, Version::V311), [], "3.1.1 has no word for it");
}

#[test]
fn reasons_are_told_where_the_client_allows_it() {
    let reason = |change: fn(&mut Connect)| {
        let mut w = World::new();
        let conn = connect_with(&mut w, change);
        w.packet(conn, Version::V5, &Packet::Connect(Box::new(Connect::new(Version::V5, "c"))));
        told(&mut w, conn).0
    };
    assert_eq!(reason(|_| {}).as_deref(), Some("a second connect"));
    assert_eq!(reason(|c| c.properties.request_problem_information = Some(false)), None);
    assert_eq!(reason(|c| c.properties.maximum_packet_size = NonZeroU32::new(20)), None);
}

#[test]
fn a_refusal_says_why_if_the_client_takes_it() {
    let refused = |change: fn(&mut Connect)| {
        let mut w = World::new();
        let conn = w.open();
        let mut connect = Connect::new(Version::V5, "c");
        change(&mut connect);
        w.packet(conn, Version::V5, &Packet::Connect(Box::new(connect)));
        w.step(Input::Authenticated { conn, result: Err(ReasonCode::NOT_AUTHORIZED) });
        match &w.sent_in_full(conn, Version::V5)[..] {
            [Packet::Connack(c)] => (c.reason, c.properties.reason_string.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused(|_| {}), (ReasonCode::NOT_AUTHORIZED, Some(text)) if !text.is_empty()));
    let quiet = refused(|c| c.properties.request_problem_information = Some(false));
    assert_eq!(quiet, (ReasonCode::NOT_AUTHORIZED, None));
}
