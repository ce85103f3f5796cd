//! Messages for shared subscriptions that were on their way to a node whose life ended.

use super::*;

const SHARED: &str = "$share/g/t";

fn publish(w: &mut World, conn: ConnKey, qos: QoS, packet_id: u16) {
    let packet_id = (qos != QoS::AtMostOnce).then(|| id(packet_id));
    let publish = Publish { topic: "t".into(), qos, packet_id, payload: "x".into(), ..Publish::default() };
    w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
}

fn payloads(w: &mut World, conn: ConnKey) -> usize {
    w.sent(conn, Version::V5).iter().filter(|packet| matches!(packet, Packet::Publish(_))).count()
}

#[test]
fn what_a_node_did_not_accept_before_it_ended_is_for_members_elsewhere() {
    let mut w = World::new();
    w.peer_wants(SHARED);
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, QoS::AtLeastOnce, 1);
    assert!(matches!(&w.flush()[..], [Effect::Send { to: PEER, batch }] if batch.seq == 1));
    w.step(Input::Accepted { from: PEER, through: 1 });
    publish(&mut w, from, QoS::AtLeastOnce, 2);
    assert!(matches!(&w.flush()[..], [Effect::Send { to: PEER, batch }] if batch.seq == 2));
    publish(&mut w, from, QoS::AtLeastOnce, 3);
    publish(&mut w, from, QoS::AtMostOnce, 0);
    let member = w.subscribed("m", SHARED, QoS::AtLeastOnce);
    w.step(Input::Expired { holder: PEER });
    assert_eq!(
        payloads(&mut w, member),
        2,
        "the second, on its way, and the third, that waited; not the first, accepted"
    );
    assert_eq!(w.flush(), [], "nothing is for the node that is gone");
    assert_eq!(w.core.stats.publishes_redelivered, 2);
    assert_eq!(w.core.stats.dropped.get(&DropReason::NoShareMember), None);
}

#[test]
fn nobody_else_gets_qos_2_and_what_has_nobody_is_counted() {
    let mut w = World::new();
    w.peer_wants(SHARED);
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, QoS::AtLeastOnce, 1);
    publish(&mut w, from, QoS::ExactlyOnce, 2);
    w.flush();
    w.step(Input::Expired { holder: PEER });
    assert_eq!(w.core.stats.dropped.get(&DropReason::NoShareMember), Some(&1));
    assert_eq!(w.core.stats.dropped.get(&DropReason::ShareUnfinished), Some(&1));
    assert_eq!(w.sent(from, Version::V5).len(), 2, "neither holds its publisher back");
}
