//! R8: what "accepted" means.

use super::*;

/// A subscriber that takes nothing holds back no publisher elsewhere; what was accepted for it reaches it later.
#[test]
fn r08_a_slow_subscriber_holds_back_nobody() {
    let mut s = Scene::new(3);
    let slow = s.subscribed("ann", ONE, "t");
    let publisher = s.up("bob", TWO);
    let until = s.0.now + ms(4000);
    s.0.sock(slow).expect("a connection").blocked_until = until;
    let msgs: Vec<_> = (0..50).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)).collect();
    s.must("all answered", 1000, |w| msgs.iter().all(|m| w.oracle.msg(*m).answered.is_some()));
    assert!(s.0.socks.get(slow).got.is_empty());
    s.must("all delivered", 4000, |w| w.socks.get(slow).got == msgs);
    s.end();
}

/// The same for one whose window is one message wide.
#[test]
fn r08_a_narrow_subscriber_gets_all_in_order() {
    let mut s = Scene::new(3);
    let narrow = s.0.connect_as("ann", ONE, rookery::mqtt::codec::Version::V5, "ann", Some(1));
    s.must("connected", 1000, |w| w.socks.get(narrow).up());
    s.0.subscribe(narrow, &[("t", QoS::AtLeastOnce)]);
    s.must("subscribed", 1000, |w| w.socks.get(narrow).subacks.contains_key("t"));
    let publisher = s.up("bob", TWO);
    let msgs: Vec<_> = (0..50).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)).collect();
    s.must("all delivered", 2000, |w| w.socks.get(narrow).got == msgs);
    s.end();
}
