//! R14's fence, at the workers that publish.

use super::*;

const TO: Holder = PEER;

fn drain(ticket: u64) -> Input<'static> {
    Input::Drain { ticket, broker: B, to: TO }
}

fn published(w: &mut World) -> ConnKey {
    w.peer_wants("t");
    let (conn, _) = w.connect(Version::V5, "p");
    let publish = Publish { topic: "t".into(), qos: QoS::AtLeastOnce, packet_id: Some(id(1)), ..Publish::default() };
    w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
    conn
}

#[test]
fn r14_a_worker_that_has_nothing_for_the_home_says_so_at_once() {
    let mut w = World::new();
    assert_eq!(w.step(drain(1)), [Effect::Drained { ticket: 1 }]);
    published(&mut w);
    w.flush();
    w.step(Input::Accepted { from: TO, through: 1 });
    assert_eq!(w.step(drain(2)), [Effect::Drained { ticket: 2 }]);
}

#[test]
fn r14_what_was_published_before_is_accepted_before_the_worker_says_that_it_is_drained() {
    let mut w = World::new();
    published(&mut w);
    assert_eq!(w.step(drain(1)), [], "it is in no batch yet");
    let [Effect::Send { batch, .. }] = &w.flush()[..] else { panic!("one batch") };
    let batch = batch.clone();
    assert_eq!(w.step(drain(2)), [], "it is on its way");
    w.step(Input::NoCredit { to: TO, batch });
    assert_eq!(w.step(drain(3)), [], "it waits for credit");
    assert!(matches!(w.step(Input::Room { to: TO })[..], [Effect::Send { .. }]));
    let effects = w.step(Input::Accepted { from: TO, through: 1 });
    assert_eq!(effects, [1, 2, 3].map(|ticket| Effect::Drained { ticket }));
    assert_eq!(w.core.drains.len(), 0);
}

#[test]
fn r14_a_home_whose_life_is_over_is_owed_nothing() {
    let mut w = World::new();
    published(&mut w);
    assert_eq!(w.step(drain(1)), []);
    assert_eq!(w.step(Input::Expired { holder: TO }), [Effect::Drained { ticket: 1 }]);
}
