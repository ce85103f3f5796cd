//! Who ends a connection, and what its socket owes the client then.

use super::*;

#[test]
fn a_client_that_said_goodbye_is_owed_nothing_more() {
    for version in [Version::V311, Version::V5] {
        let mut w = World::new();
        let (conn, nonce) = w.connect(version, "c");
        let effects = w.packet(conn, version, &disconnect(ReasonCode::NORMAL_DISCONNECTION));
        let [Effect::Release { after: None, leave, nonce: released, .. }, Effect::Close { .. }] = effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!((leave, released), (Leave::default(), nonce));
        assert!(w.core.closing(conn) && w.core.has_left(conn));
        w.step(Input::Closed { conn });
        assert!(!w.core.has_left(conn));
    }
}

#[test]
fn a_client_that_the_server_ends_is_to_hear_why() {
    let mut w = World::new();
    let (conn, _) = w.connect(Version::V5, "c");
    w.step(Input::CloseAll { reason: ReasonCode::SERVER_SHUTTING_DOWN });
    assert!(w.core.closing(conn) && !w.core.has_left(conn));
    // Also one whose goodbye was wrong.
    let (conn, _) = w.connect(Version::V5, "d");
    let mut goodbye = Disconnect::new(ReasonCode::SUCCESS);
    goodbye.properties.session_expiry = Some(5);
    w.packet(conn, Version::V5, &Packet::Disconnect(goodbye));
    assert!(w.core.closing(conn) && !w.core.has_left(conn));
}
