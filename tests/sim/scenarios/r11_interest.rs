//! R11: interest, and the barrier that SUBACK waits for.

use rookery::mqtt::codec::ReasonCode;

use super::*;

/// A peer whose streams come and go: SUBACK comes when it has truly seen the filter, and then its publishes arrive.
#[test]
fn r11_the_barrier_with_a_flapping_peer() {
    let mut s = Scene::new(3);
    let a = s.up("ann", ONE);
    let publisher = s.up("bob", TWO);
    for n in 0..8 {
        s.0.break_streams(|ends| ends.contains(&TWO));
        let filter = format!("t/{n}");
        s.0.subscribe(a, &[(&filter, QoS::AtLeastOnce)]);
        s.run(20);
        s.0.break_streams(|ends| ends.contains(&TWO));
        s.must("subscribed", 8000, |w| w.socks.get(a).subacks.contains_key(&filter));
        assert_eq!(s.0.socks.get(a).subacks[&filter], ReasonCode::GRANTED_QOS_1);
        let msg = s.0.publish(publisher, &filter, QoS::AtLeastOnce);
        s.must("delivered", 5000, |w| w.socks.get(a).got.contains(&msg));
    }
    s.end();
}

/// A live peer that is out of reach: the filter gets 0x83 at the barrier's timeout, and the others are granted.
#[test]
fn r11_the_barrier_ends_at_its_timeout() {
    let mut s = Scene::new(3);
    let a = s.up("ann", ONE);
    s.cut_both(ONE, TWO);
    s.0.subscribe(a, &[("t", QoS::AtLeastOnce)]);
    s.run(4500);
    assert!(s.0.socks.get(a).subacks.is_empty());
    s.must("refused", 1000, |w| w.socks.get(a).subacks.get("t") == Some(&ReasonCode::IMPLEMENTATION_SPECIFIC));
    s.end();
}

/// A peer whose life ends is waited for no longer.
#[test]
fn r11_the_barrier_does_not_wait_for_the_dead() {
    let mut s = Scene::new(3);
    let a = s.up("ann", ONE);
    s.0.kill_node(TWO);
    s.run(200);
    s.0.subscribe(a, &[("t", QoS::AtLeastOnce)]);
    s.must("granted", 4600, |w| w.socks.get(a).subacks.get("t") == Some(&ReasonCode::GRANTED_QOS_1));
    s.end();
}

/// A starting node takes no publish before it has the snapshot of every live peer.
#[test]
fn r11_no_publish_before_every_snapshot() {
    let mut s = Scene::new(3);
    let a = s.subscribed("ann", ONE, "t");
    s.0.kill_node(TWO);
    s.cut_both(ONE, TWO);
    s.0.start_node(TWO);
    s.must("it serves again", 3000, |w| w.all_serve());
    let publisher = s.up("bob", TWO);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(2000);
    assert!(s.0.oracle.msg(msg).answered.is_none() && s.0.socks.get(publisher).up());
    s.0.net.heal();
    s.must("answered", 6000, |w| w.oracle.msg(msg).answered.is_some());
    assert!(s.0.oracle.accepted.contains(&(msg, a)));
    s.end();
}

/// On a broken stream the last interest is kept: a publish waits for the stream, it is not taken for unwanted.
#[test]
fn r11_a_broken_stream_keeps_the_last_interest() {
    let mut s = Scene::new(3);
    let a = s.subscribed("ann", ONE, "t");
    let publisher = s.up("bob", TWO);
    s.cut_both(ONE, TWO);
    s.0.break_streams(|ends| ends.contains(&ONE) && ends.contains(&TWO));
    s.run(1500);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(500);
    assert!(s.0.oracle.msg(msg).answered.is_none());
    s.0.net.heal();
    s.must("delivered", 4500, |w| w.socks.get(a).got.contains(&msg));
    s.end();
}
