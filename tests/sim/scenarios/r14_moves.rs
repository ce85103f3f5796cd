//! R14: a live session moves while messages are on their way to it.

use super::*;

/// Three publishers at three nodes; the client changes its node all the time.
#[test]
fn r14_nothing_is_lost_and_nothing_comes_twice_while_a_session_moves() {
    let mut s = Scene::new(3);
    let publishers = [s.up("ann", ONE), s.up("bob", TWO), s.up("cid", THREE)];
    let mut id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t/#", QoS::ExactlyOnce);
    let mut msgs = Vec::new();
    for round in 0..20_u64 {
        let node = [TWO, THREE, ONE][round as usize % 3];
        id = s.0.connect_keeper("kay", node, Terms::KEEP);
        for n in 0..40 {
            msgs.push(s.0.publish(publishers[n % 3], "t/1", QoS::AtLeastOnce));
            s.0.run(Duration::from_micros(400));
        }
        s.must("served", 2000, |w| w.socks.get(id).up());
    }
    s.must("all delivered", 2000, |w| w.keepers.all["kay"].got.len() == msgs.len());
    s.end();
}

/// What a peer sent to the old home is held up: the state does not leave before it is there.
#[test]
fn r14_the_state_waits_for_what_is_on_its_way_to_its_home() {
    let mut s = Scene::new(3);
    let publisher = s.up("bob", THREE);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::AtLeastOnce);
    s.0.cut(THREE, ONE);
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(20);
    let id = s.0.connect_keeper("kay", TWO, Terms::KEEP);
    s.run(1000);
    assert!(!s.0.socks.get(id).up(), "message {msg} is not there");
    s.0.net.heal();
    s.must("served", 4000, |w| w.socks.get(id).up());
    s.must("delivered", 500, |w| w.socks.get(id).got == [msg]);
    s.end();
}

/// What the client had from the old home is still on its way to the new one, for others there.
#[test]
fn r14_what_the_client_had_before_does_not_come_again_from_its_new_node() {
    let mut s = Scene::new(3);
    s.subscribed("ann", TWO, "t");
    let publisher = s.kept("lou", THREE, Terms::KEEP);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::ExactlyOnce);
    s.0.cut(THREE, TWO);
    let msg = s.0.publish(publisher, "t", QoS::ExactlyOnce);
    s.must("delivered", 500, |w| w.socks.get(id).got == [msg]);
    s.run(20);
    let id = s.0.connect_keeper("kay", TWO, Terms::KEEP);
    s.run(1000);
    s.0.net.heal();
    s.must("served", 4000, |w| w.socks.get(id).up());
    s.run(500);
    assert!(s.0.socks.get(id).got.is_empty());
    s.end();
}

/// The state is given, and its answer lost: it is asked for once more.
#[test]
fn r14_a_state_whose_answer_is_lost_is_not() {
    let mut s = Scene::new(3);
    let publisher = s.up("bob", THREE);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::AtLeastOnce);
    s.0.hang_up(id);
    s.run(20);
    let mut msgs: Vec<_> = (0..10).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)).collect();
    s.run(20);
    s.0.net.lose.insert(("state", TWO), 1);
    s.0.connect_keeper("kay", TWO, Terms::KEEP);
    s.must("taken", 500, |w| w.keepers.all["kay"].moves.len() == 1);
    msgs.extend((0..10).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)));
    s.run(9000);
    let id = s.kept("kay", THREE, Terms::KEEP);
    assert!(s.present(id));
    s.must("all delivered", 500, |w| w.socks.get(id).got == msgs);
    s.end();
}

/// The client is gone before its new node got anything, and is back at the old one, where all of its session is. The part
/// that was left behind at the new node is not gone on with later.
#[test]
fn r14_a_session_that_did_not_move_goes_on_where_it_is_and_nowhere_else() {
    let mut s = Scene::of_one_worker(3);
    let publisher = s.up("bob", THREE);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::AtLeastOnce);
    s.0.hang_up(id);
    s.run(20);
    let mut msgs = vec![s.0.publish(publisher, "t", QoS::AtLeastOnce)];
    s.run(20);
    s.0.net.lose.insert(("take", ONE), u32::MAX);
    let id = s.0.connect_keeper("kay", TWO, Terms::KEEP);
    s.must("taken", 500, |w| w.net.lose[&("take", ONE)] < u32::MAX);
    s.0.hang_up(id);
    s.run(20);
    msgs.push(s.0.publish(publisher, "t", QoS::AtLeastOnce));
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.must("all delivered", 500, |w| w.socks.get(id).got == msgs);
    msgs.push(s.0.publish(publisher, "t", QoS::AtLeastOnce));
    s.must("acknowledged", 500, |w| w.socks.get(id).got == msgs);
    s.run(20);
    s.0.hang_up(id);
    s.run(20);
    let last = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.run(20);
    s.0.net.heal();
    s.run(9000);
    let id = s.kept("kay", TWO, Terms::KEEP);
    assert!(s.present(id));
    s.must("what it has yet to get, delivered", 500, |w| w.socks.get(id).got == [last]);
    s.end();
}
