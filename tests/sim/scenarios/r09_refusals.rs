//! R9: no false acknowledgement, and none left open.

use rookery::mqtt::codec::ReasonCode;

use super::*;

/// A live node that must have the message is out of reach: the publisher is closed with 0x89 after a time, so that
/// it sends again.
#[test]
fn r09_a_publish_that_a_live_node_does_not_take_closes_its_publisher() {
    let mut s = Scene::new(3);
    s.subscribed("ann", TWO, "t");
    let publisher = s.up("bob", ONE);
    s.cut_both(ONE, TWO);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(4500);
    assert!(s.0.oracle.msg(msg).answered.is_none());
    s.must("closed", 1500, |w| w.socks.get(publisher).phase == Phase::Closed);
    assert_eq!(s.0.socks.get(publisher).told, Some(ReasonCode::SERVER_BUSY));
    s.end();
}

/// It is out of reach and its life ends: nothing is owed to it any more.
#[test]
fn r09_a_node_whose_life_ended_is_owed_nothing() {
    let mut s = Scene::new(3);
    s.subscribed("ann", TWO, "t");
    let publisher = s.up("bob", ONE);
    s.0.kill_node(TWO);
    s.run(500);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(100);
    assert!(s.0.oracle.msg(msg).answered.is_none());
    s.must("answered", 5000, |w| w.oracle.msg(msg).answered.is_some());
    assert!(s.0.socks.get(publisher).up());
    s.end();
}

/// On the minority side no QoS 1 is acknowledged that a subscriber on the other side should have.
#[test]
fn r09_a_minority_acknowledges_nothing_for_the_others() {
    let mut s = Scene::new(3);
    let a = s.subscribed("ann", TWO, "t");
    let publisher = s.up("bob", ONE);
    s.0.isolate(ONE);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.must("closed", 6000, |w| w.socks.get(publisher).phase == Phase::Closed);
    assert!(s.0.oracle.msg(msg).answered.is_none());
    assert!(s.0.serving(a));
    s.end();
}
