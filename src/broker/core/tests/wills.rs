//! Wills: published as if by a client, once by their names, and retained as of one time.

use rookery_cluster::ids::{GroupId, WillName};

use super::retained::{three, world};
use super::*;

const OTHER: Holder = Holder::Peer(NodeId(3));
const NAME: WillName = WillName { shard: GroupId(3), epoch: Epoch(9) };

fn will(qos: QoS, retain: bool) -> FiringWill {
    let packet_id = (qos != QoS::AtMostOnce).then(|| id(1));
    let will = Publish { topic: "t".into(), qos, retain, packet_id, payload: "gone".into(), ..Publish::default() };
    let mut bytes = BytesMut::new();
    encode(&Packet::Publish(Box::new(will)), Version::V5, &mut bytes).expect("encodes");
    FiringWill { name: NAME, time: None, message: bytes.freeze() }
}

fn fire(w: &mut World, token: u64, will: &FiringWill) -> Vec<Effect> {
    w.step(Input::Will { token, broker: B, will })
}

/// How many times it came.
fn had(w: &mut World, conn: ConnKey) -> usize {
    let publishes = |packet: &Packet| matches!(packet, Packet::Publish(p) if p.payload == "gone");
    w.sent(conn, Version::V5).iter().filter(|packet| publishes(packet)).count()
}

#[test]
fn p10_a_will_is_published_and_confirmed_once_all_have_accepted_it() {
    let mut w = World::new();
    let s = w.subscribed("s", "t", QoS::AtLeastOnce);
    w.peer_wants("t");
    let due = will(QoS::AtLeastOnce, false);
    assert_eq!(fire(&mut w, 6, &due), []);
    assert_eq!(had(&mut w, s), 1);
    assert_eq!(w.flush().len(), 1);
    assert_eq!(w.step(Input::Accepted { from: PEER, through: 1 }), [Effect::WillPublished { token: 6 }]);
    let corrupt = FiringWill { message: "?".into(), ..due };
    assert_eq!(fire(&mut w, 8, &corrupt), [Effect::WillPublished { token: 8 }]);
}

#[test]
fn r16_a_will_that_is_published_again_comes_to_nobody_who_has_had_it() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut leader, mut next) = (World::new(), World::at(2, 0));
        let (here, there) = (leader.subscribed("a", "t", qos), next.subscribed("b", "t", qos));
        leader.peer_wants("t");
        let due = will(qos, false);
        fire(&mut leader, 6, &due);
        assert_eq!(had(&mut leader, here), 1);
        let [Effect::Send { batch, .. }] = &leader.flush()[..] else { panic!("one batch") };
        let origin = origin(leader.core.life, WorkerId(0));
        next.step(Input::Forwarded { origin, via: Via::Worker, runs: &batch.runs });
        assert_eq!(had(&mut next, there), 1);
        // The shard never heard of it: the leader after that tries again, and so might this one.
        fire(&mut next, 1, &due);
        assert_eq!(had(&mut next, there), 0);
        fire(&mut leader, 7, &due);
        assert_eq!(had(&mut leader, here), 0);
        let [Effect::Send { batch, .. }] = &leader.flush()[..] else { panic!("it goes to others all the same") };
        next.step(Input::Forwarded { origin, via: Via::Worker, runs: &batch.runs });
        assert_eq!(had(&mut next, there), 0);
        let another = FiringWill { name: WillName { epoch: Epoch(10), ..NAME }, ..due };
        fire(&mut next, 2, &another);
        assert_eq!(had(&mut next, there), 1, "the end of another connection");
    }
}

#[test]
fn r16_a_retained_will_is_written_as_of_the_time_that_was_decided() {
    let mut w = world(three());
    let mut due = will(QoS::AtLeastOnce, true);
    let [Effect::TimeWill { token: 6, time }] = fire(&mut w, 6, &due)[..] else { panic!("asks for it") };
    assert!(!w.core.has_batches(), "nothing is published yet");
    due.time = Some(time);
    assert_eq!(fire(&mut w, 6, &due), []);
    let sent = w.flush();
    assert_eq!(sent.len(), 3);
    for effect in &sent {
        let Effect::Send { batch, .. } = effect else { panic!("{effect:?}") };
        assert!(batch.runs.iter().flat_map(|run| &run.retained).all(|kept| kept.time == time), "{batch:?}");
    }
    let accept = |w: &mut World, from| w.step(Input::Accepted { from, through: 1 });
    assert_eq!(accept(&mut w, PEER), []);
    assert_eq!(accept(&mut w, Holder::Store), []);
    assert_eq!(accept(&mut w, OTHER), [Effect::WillPublished { token: 6 }]);
}

#[test]
fn p9_a_retained_will_that_no_majority_has_is_tried_again() {
    let mut w = world(three());
    let due = FiringWill { time: Some(rookery_cluster::retained::Time(5)), ..will(QoS::AtLeastOnce, true) };
    fire(&mut w, 6, &due);
    w.flush();
    w.step(Input::Accepted { from: Holder::Store, through: 1 });
    w.step(Input::Expired { holder: OTHER });
    assert_eq!(w.step(Input::Expired { holder: PEER }), [Effect::WillRefused { token: 6 }]);
    let mut w = world(three().needing(3));
    assert_eq!(fire(&mut w, 7, &due), [Effect::WillRefused { token: 7 }]);
    assert_eq!(w.core.rooms.len(), 0);
}

/// A node that has just begun to serve leads a shard: what it published now would reach nobody.
#[test]
fn r11_a_will_waits_until_it_is_known_who_wants_it() {
    let mut w = World::new();
    w.core.interest_complete = false;
    let due = will(QoS::AtLeastOnce, false);
    assert_eq!(fire(&mut w, 6, &due), [Effect::WillRefused { token: 6 }]);
    w.step(Input::InterestComplete);
    assert_eq!(fire(&mut w, 7, &due), [Effect::WillPublished { token: 7 }]);
}
