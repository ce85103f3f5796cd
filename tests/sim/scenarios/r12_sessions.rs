//! R12: a session outlives its connections, and is gone on with wherever its client comes.

use super::*;

/// Away without a word, with a goodbye, half open: what is published meanwhile waits.
#[test]
fn r12_what_comes_while_a_client_is_away_waits_for_it() {
    let mut s = Scene::new(3);
    let publisher = s.up("bob", TWO);
    let mut id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::AtLeastOnce);
    let mut msgs = Vec::new();
    for (away, node) in [(0, ONE), (1, ONE), (2, TWO), (0, THREE), (1, TWO), (2, ONE)] {
        match away {
            0 => s.0.hang_up(id),
            1 => s.0.disconnect(id),
            _ => s.0.vanish(id),
        }
        s.run(20);
        msgs.extend((0..10).map(|_| s.0.publish(publisher, "t", QoS::AtLeastOnce)));
        s.run(20);
        id = s.kept("kay", node, Terms::KEEP);
        assert!(s.present(id));
        s.must("all that waited comes", 500, |w| w.keepers.all["kay"].got.len() == msgs.len());
    }
    s.end();
}

/// The node that kept the session dies: the session is there, with its subscriptions, and what was queued is not.
#[test]
fn r12_a_session_whose_home_died_goes_on_with_its_subscriptions() {
    let mut s = Scene::new(3);
    let publisher = s.up("bob", TWO);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::ExactlyOnce);
    s.0.hang_up(id);
    s.run(50);
    s.0.kill_node(ONE);
    s.must("its life is over", 8000, |w| w.node(TWO).live().len() == 2);
    let id = s.kept("kay", THREE, Terms::KEEP);
    assert!(s.present(id));
    let msg = s.0.publish(publisher, "t", QoS::AtLeastOnce);
    s.must("it is subscribed as before", 500, |w| w.keepers.all["kay"].got.contains(&msg));
    s.end();
}

/// A session ends with its time, not before: shard time is read seldom while another one waits for ever.
#[test]
fn r12_a_session_ends_in_its_time() {
    let mut s = Scene::new(3);
    let other = s.kept("lou", TWO, Terms { expiry: 100, ..Terms::KEEP });
    s.0.hang_up(other);
    s.run(12_000);
    for (away, present) in [(3000, true), (9000, false)] {
        let id = s.kept("kay", ONE, Terms { expiry: 4, ..Terms::KEEP });
        s.0.hang_up(id);
        s.run(away);
        let id = s.kept("kay", TWO, Terms { expiry: 4, ..Terms::KEEP });
        assert_eq!(s.present(id), present, "after {away} ms");
        s.0.hang_up(id);
        s.run(9000);
    }
    s.end();
}

/// A clean start ends what was there, wherever it was kept.
#[test]
fn r12_a_clean_start_ends_the_session_at_its_home() {
    let mut s = Scene::new(3);
    let id = s.kept("kay", ONE, Terms::KEEP);
    s.kept_subscribes(id, "t", QoS::AtLeastOnce);
    s.0.hang_up(id);
    s.run(50);
    let id = s.kept("kay", TWO, Terms { clean: true, ..Terms::KEEP });
    assert!(!s.present(id));
    let parked = |w: &mut World| {
        let broker = w.node(ONE).broker.as_ref().expect("serves");
        broker.workers.iter().map(|it| it.core.parked()).sum::<usize>()
    };
    s.must("nothing is kept at its home", 500, |w| parked(w) == 0);
    s.end();
}
