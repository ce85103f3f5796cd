//! R13: what is sent again after a reconnect is known by who had it.

use super::*;

/// The publisher's connection is gone in every moment of its handshakes, and each time it comes back at another node.
#[test]
fn r13_a_publish_that_is_sent_again_at_another_node_is_delivered_once() {
    let mut s = Scene::new(3);
    let to = s.kept("lou", THREE, Terms::KEEP);
    s.kept_subscribes(to, "t", QoS::ExactlyOnce);
    let mut id = s.kept("kay", ONE, Terms::KEEP);
    let mut msgs = Vec::new();
    for round in 0..30_u64 {
        msgs.extend((0..3).map(|_| s.0.publish(id, "t", QoS::ExactlyOnce)));
        s.0.run(Duration::from_micros(round * 250));
        id = s.kept("kay", [TWO, THREE, ONE][round as usize % 3], Terms::KEEP);
        assert!(s.present(id));
    }
    s.must("all handshakes end", 2000, |w| w.keepers.all["kay"].out.is_empty());
    s.must("all delivered", 2000, |w| w.socks.get(to).got == msgs);
    s.end();
}

/// The subscriber's connection is gone in every moment of its handshakes.
#[test]
fn r13_a_delivery_that_is_sent_again_from_another_node_is_one() {
    let mut s = Scene::new(3);
    let publisher = s.up("bob", THREE);
    let mut id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::ExactlyOnce);
    let from = s.kept("lou", TWO, Terms::KEEP);
    let mut msgs = Vec::new();
    for round in 0..30_u64 {
        msgs.push(s.0.publish(from, "t", QoS::ExactlyOnce));
        msgs.push(s.0.publish(publisher, "t", QoS::AtLeastOnce));
        s.0.run(Duration::from_micros(round * 400));
        id = s.kept("kay", [TWO, THREE, ONE][round as usize % 3], Terms::KEEP);
        assert!(s.present(id));
    }
    s.must("all delivered", 2000, |w| w.keepers.all["kay"].got.len() == msgs.len());
    s.end();
}

/// The publisher comes back elsewhere while the subscriber's node has not accepted what it sent: its PUBREC must not come
/// before that.
#[test]
fn r13_a_publish_that_moved_is_not_acknowledged_before_it_is_accepted() {
    let mut s = Scene::new(3);
    let to = s.subscribed("ann", TWO, "t");
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.stall(TWO, 1500);
    let msg = s.0.publish(id, "t", QoS::ExactlyOnce);
    s.run(50);
    s.0.connect_keeper("kay", THREE, Terms::KEEP);
    s.run(1000);
    assert!(s.0.oracle.msg(msg).answered.is_none(), "nobody has it");
    s.must("delivered", 4000, |w| w.socks.get(to).got == [msg]);
    s.end();
}
