//! R15: retained messages on several nodes, whose clocks and disks are what they are.

use super::*;
use crate::oracle::{MsgId, Retain};

impl Scene {
    fn retained(&mut self, by: SockId, topic: &str, what: Retain) -> MsgId {
        let msg = self.0.publish_retained(by, topic, QoS::AtLeastOnce, what);
        self.must("acknowledged", 4000, |w| w.oracle.msg(msg).answered.is_some_and(|(_, why)| !why.is_error()));
        msg
    }

    /// What a new subscriber at `node` is shown of a topic, in the end.
    fn read(&mut self, client: &str, node: NodeId, topic: &str) -> Vec<MsgId> {
        let id = self.up(client, node);
        self.0.subscribe(id, &[(topic, QoS::AtLeastOnce)]);
        self.must("read", 8000, |w| w.oracle.reading.done.contains(&(id, topic.to_owned())));
        self.run(20);
        self.0.socks.get(id).got.clone()
    }

    fn ended(&mut self, node: NodeId) {
        self.0.kill_node(node);
        self.must("its life is over", 8000, |w| w.node(ONE).live().iter().all(|life| life.node != node));
    }
}

/// A message that was acknowledged while a node was away is older than what is published there when it is back,
/// although its clock is behind.
#[test]
fn r15_a_node_that_comes_back_writes_after_what_was_acknowledged() {
    let mut s = Scene::new(3);
    (s.0.node(ONE).shelf.ahead, s.0.node(TWO).shelf.ahead, s.0.node(THREE).shelf.ahead) = (230, -240, 0);
    let publisher = s.up("ann", ONE);
    s.ended(TWO);
    s.0.net.lose.extend([(("compare", ONE), 1), (("compare", THREE), 1)]);
    s.0.group(META).slow = ms(100);
    s.0.start_node(TWO);
    s.must("it registers", 3000, |w| w.group(META).waiting() > 0);
    s.retained(publisher, "t", Retain::Stays);
    s.must("it serves", 300, |w| w.all_serve());
    let late = s.up("bob", TWO);
    let last = s.retained(late, "t", Retain::Stays);
    s.run(5000);
    assert_eq!(s.read("cid", THREE, "t"), [last]);
    s.end();
}

/// Every machine loses power, the publisher's for good: what was acknowledged is there.
#[test]
fn r15_a_power_loss_of_all_loses_nothing() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    let last = s.retained(publisher, "t", Retain::Stays);
    for node in [ONE, TWO, THREE] {
        s.0.kill_without_power(node);
    }
    s.run(100);
    s.0.start_node(TWO);
    s.0.start_node(THREE);
    s.must("they serve", 15_000, |w| w.lease_holds(TWO) && w.lease_holds(THREE));
    assert_eq!(s.read("bob", TWO, "t"), [last]);
    assert_eq!(s.read("cid", THREE, "t"), [last]);
    s.end();
}

/// A node that was away has a message which was deleted meanwhile: it does not come back with it.
#[test]
fn r15_a_deletion_reaches_who_was_away() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    s.retained(publisher, "t", Retain::Stays);
    s.ended(TWO);
    s.retained(publisher, "t", Retain::Deletes);
    s.0.start_node(TWO);
    s.must("it serves", 3000, |w| w.all_serve());
    assert!(s.read("bob", TWO, "t").is_empty());
    assert!(s.read("cid", THREE, "t").is_empty());
    s.end();
}

/// A node that starts has nothing to delete yet when it asks the one that deleted, and gets the message from one that waits
/// for the time of the deletion to come: it does not keep it.
#[test]
fn r15_what_one_peer_has_deleted_is_not_copied_from_another() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    s.ended(TWO);
    s.retained(publisher, "t", Retain::Stays);
    s.0.node(ONE).shelf.ahead = 2000;
    let deletion = s.0.publish_retained(publisher, "t", QoS::AtLeastOnce, Retain::Deletes);
    s.0.start_node(TWO);
    s.must("it serves", 3000, |w| w.all_serve());
    s.must("acknowledged", 4000, |w| w.oracle.msg(deletion).answered.is_some_and(|(_, why)| !why.is_error()));
    assert!(s.read("bob", TWO, "t").is_empty());
    s.end();
}

/// A peer whose clock is more than 500 ms ahead is refused until the time has come, and its publisher waits as long.
#[test]
fn r15_a_clock_that_is_ahead_is_waited_for() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    for node in [ONE, TWO, THREE] {
        s.0.node(node).shelf.ahead = if node == ONE { 2000 } else { 0 };
    }
    let msg = s.0.publish_retained(publisher, "t", QoS::AtLeastOnce, Retain::Stays);
    s.run(1300);
    assert!(s.0.oracle.msg(msg).answered.is_none());
    assert!(s.0.shown(TWO).is_empty());
    s.must("acknowledged", 2500, |w| w.oracle.msg(msg).answered.is_some());
    assert_eq!(s.read("bob", TWO, "t"), [msg]);
    s.end();
}

/// A node starts with a clock that is behind by more than 500 ms: what it publishes first replaces what was acknowledged
/// while it was away.
#[test]
fn r15_a_node_whose_clock_is_behind_waits_until_it_can_follow() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    s.ended(TWO);
    s.retained(publisher, "t", Retain::Stays);
    s.0.node(TWO).shelf.ahead = -2500;
    s.0.start_node(TWO);
    s.must("it serves", 3000, |w| w.all_serve());
    let other = s.up("bob", TWO);
    let msg = s.retained(other, "t", Retain::Stays);
    assert_eq!(s.read("cid", THREE, "t"), [msg]);
    s.end();
}

/// A node that was away for more than a week, while its deletion was forgotten: it copies afresh.
#[test]
fn r15_a_node_away_for_long_copies_afresh() {
    let mut s = Scene::new(3);
    let publisher = s.up("ann", ONE);
    s.retained(publisher, "t", Retain::Stays);
    let other = s.retained(publisher, "u", Retain::Stays);
    s.ended(TWO);
    s.retained(publisher, "t", Retain::Deletes);
    for node in [ONE, TWO, THREE] {
        s.0.node(node).shelf.ahead += 8 * 24 * 3600 * 1000;
    }
    s.must("nobody remembers", 70_000, |w| [ONE, THREE].iter().all(|node| !w.records(*node).contains_key("t")));
    s.0.start_node(TWO);
    s.must("it serves", 3000, |w| w.all_serve());
    assert!(s.read("bob", TWO, "t").is_empty());
    assert_eq!(s.read("cid", TWO, "u"), [other]);
    assert!(s.0.shown(ONE).iter().all(|(topic, _)| topic != "t"));
}

/// What a worker gathered for its store, and cannot put there as its sibling takes nothing, is not missed by a node that
/// becomes live meanwhile and copies.
#[test]
fn r15_what_waits_for_the_store_is_not_missed_by_who_copies() {
    let mut s = Scene::new(3);
    s.ended(TWO);
    let (publisher, subscriber) = on_two_workers(&mut s);
    s.0.subscribe(subscriber, &[("t/#", QoS::AtLeastOnce)]);
    s.must("subscribed", 1000, |w| w.socks.get(subscriber).subacks.contains_key("t/#"));
    s.0.group(META).slow = ms(100);
    s.0.start_node(TWO);
    s.must("it registers", 3000, |w| w.group(META).waiting() > 0);
    let (sibling, until) = (usize::from(s.0.socks.get(subscriber).worker), s.0.now + ms(1200));
    s.0.node(ONE).broker.as_mut().expect("serves").workers[sibling].stalled_until = until;
    for n in 0..40 {
        let (topic, qos) = (format!("t/{n}"), QoS::AtLeastOnce);
        s.0.publish_retained_sized(publisher, &topic, qos, Retain::Stays, 200_000);
    }
    s.must("all answered", 5000, |w| w.socks.get(publisher).unanswered.is_empty());
    assert!(s.0.socks.get(publisher).up());
    s.end();
}

/// A publisher and a subscriber at node 1, at different workers.
fn on_two_workers(s: &mut Scene) -> (SockId, SockId) {
    let publisher = s.up("pub", ONE);
    let worker = s.0.socks.get(publisher).worker;
    let all: Vec<SockId> = (0..20).map(|n| s.up(&format!("sub{n}"), ONE)).collect();
    let other = all.into_iter().find(|id| s.0.socks.get(*id).worker != worker);
    (publisher, other.expect("one of twenty is at the other worker"))
}
