//! R10: streams resume, and a full one stops only who fills it.

use super::*;

/// Streams break again and again under load: everything arrives, once and in order.
#[test]
fn r10_a_stream_resumes_from_the_last_batch_seen() {
    let mut s = Scene::new(3);
    let to = s.subscribed("ann", TWO, "#");
    let publisher = s.up("bob", ONE);
    let mut msgs = Vec::new();
    for _ in 0..20 {
        msgs.extend((0..5).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)));
        s.run(1);
        s.0.break_streams(|ends| ends.contains(&ONE));
        s.run(30);
    }
    s.must("all delivered", 5000, |w| w.socks.get(to).got == msgs);
    s.must("all answered", 1000, |w| msgs.iter().all(|m| w.oracle.msg(*m).answered.is_some()));
    s.end();
}

/// A worker that stands still fills up: its publisher waits, the others do not.
#[test]
fn r10_a_full_destination_pauses_only_who_fills_it() {
    let mut s = Scene::new(3);
    s.subscribed("ann", TWO, "big");
    let other = s.subscribed("cid", THREE, "small");
    let (filler, publisher) = (s.up("bob", ONE), s.up("dot", ONE));
    let until = s.0.now + ms(2000);
    for worker in &mut s.0.node(TWO).broker.as_mut().expect("serves").workers {
        worker.stalled_until = until;
    }
    let big: Vec<_> = (0..100).map(|_| s.0.publish_sized(filler, "big", QoS::AtLeastOnce, 200_000)).collect();
    s.run(300);
    let small = s.0.publish(publisher, "small", QoS::AtLeastOnce);
    s.must("the other is answered at once", 100, |w| w.oracle.msg(small).answered.is_some());
    assert!(s.0.socks.get(other).got.contains(&small));
    assert!(s.0.oracle.msg(big[99]).answered.is_none());
    assert!(!s.0.socks.get(filler).unread.is_empty(), "its socket is not read");
    s.must("all answered", 4000, |w| big.iter().all(|m| w.oracle.msg(*m).answered.is_some()));
    s.end();
}
