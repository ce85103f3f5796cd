//! R16: wills, whichever node dies on their way.

use super::*;
use crate::keeper::{LONG, WILLS};

const WILL: Terms = Terms { will: Some((QoS::AtLeastOnce, 0)), ..Terms::KEEP };

impl Scene {
    fn watcher(&mut self, node: NodeId) -> SockId {
        let id = self.kept("lou", node, Terms::KEEP);
        self.kept_subscribes(id, "will/#", QoS::ExactlyOnce);
        id
    }
}

/// A node dies with its clients: each will comes once, when the node's lease is over.
#[test]
fn r16_the_wills_of_a_dead_nodes_clients_come_once() {
    let mut s = Scene::new(3);
    let watcher = s.watcher(TWO);
    let wills: Vec<_> = (0..5).map(|n| s.kept(&format!("kay{n}"), ONE, WILL)).collect();
    s.0.kill_node(ONE);
    s.run(2000);
    assert!(s.0.socks.get(watcher).got.is_empty());
    s.must("all came", 8000, |w| w.socks.get(watcher).got.len() == wills.len());
    s.run(5000);
    s.end();
}

/// A connection that is cut, one that is taken over, one that says goodbye.
#[test]
fn r16_a_will_comes_after_a_loss_and_not_after_a_goodbye() {
    let mut s = Scene::new(3);
    let watcher = s.watcher(TWO);
    let id = s.kept("kay", ONE, WILL);
    s.0.disconnect(id);
    s.run(1000);
    assert!(s.0.socks.get(watcher).got.is_empty());
    let id = s.kept("kay", ONE, WILL);
    s.0.hang_up(id);
    s.must("after a loss", 1000, |w| w.socks.get(watcher).got.len() == 1);
    s.kept("kay", ONE, WILL);
    s.kept("kay", THREE, WILL);
    s.must("after a takeover", 1000, |w| w.socks.get(watcher).got.len() == 2);
    s.end();
}

/// A will waits for its delay; a client that is back in time forestalls it, one that begins anew does not.
#[test]
fn r16_a_will_waits_for_its_delay() {
    let mut s = Scene::new(3);
    let watcher = s.watcher(TWO);
    let delayed = Terms { will: Some((QoS::ExactlyOnce, 4)), ..Terms::KEEP };
    // Somebody else's session waits for long, so that shard time is seldom read.
    let other = s.kept("max", THREE, Terms { expiry: LONG, ..Terms::KEEP });
    s.0.hang_up(other);
    s.run(15_000);
    let id = s.kept("kay", ONE, delayed);
    s.0.hang_up(id);
    s.run(3000);
    let id = s.kept("kay", TWO, delayed);
    s.0.hang_up(id);
    s.run(3000);
    let id = s.kept("kay", THREE, Terms { clean: true, ..delayed });
    assert_eq!(s.0.socks.get(watcher).got, [WILLS + 2], "the end of its session is the end of its delay");
    s.0.hang_up(id);
    s.run(3500);
    assert_eq!(s.0.socks.get(watcher).got.len(), 1);
    s.must("in its time", 3000, |w| w.socks.get(watcher).got == [WILLS + 2, WILLS + 3]);
    s.end();
}

/// The leader of the shard dies between the publishing of a will and its confirmation: its successor publishes it once
/// more, as the same one.
#[test]
fn r16_a_will_whose_confirmation_is_lost_with_the_leader() {
    let mut s = Scene::new(3);
    let watcher = s.watcher(TWO);
    let id = s.kept("kay", ONE, WILL);
    let shards: Vec<GroupId> = s.0.groups.keys().copied().filter(|group| *group != META).collect();
    // Who must accept it does so too late for the confirmation.
    s.stall(TWO, 1500);
    s.0.hang_up(id);
    s.must("published", 1000, |w| !w.keepers.conns[&id].fired.is_empty());
    s.run(100);
    for group in shards {
        s.0.depose(group, ms(100));
    }
    s.0.kill_node(THREE);
    s.must("published again", 8000, |w| w.keepers.conns[&id].fired.len() == 2);
    s.run(1000);
    assert_eq!(s.0.socks.get(watcher).got.len(), 1);
    s.end();
}
