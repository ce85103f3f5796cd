//! Shared subscriptions: one member of each group gets a message (MQTT 5 §4.8.2).

use super::*;
use crate::oracle::MsgId;
use crate::share::GroupNo;

const TWO_ALL: GroupNo = 2;

impl Scene {
    fn member(&mut self, client: &str, node: NodeId) -> SockId {
        let id = self.up(client, node);
        self.0.join(id, TWO_ALL, QoS::AtLeastOnce);
        self.must("it is a member", 1000, |w| w.socks.get(id).subacks.len() == 1);
        id
    }

    fn many(&mut self, by: SockId, n: usize) -> Vec<MsgId> {
        let msgs: Vec<MsgId> = (0..n).map(|_| self.0.publish(by, "t", QoS::AtLeastOnce)).collect();
        self.must("all answered", 3000, |w| msgs.iter().all(|m| w.oracle.msg(*m).answered.is_some()));
        self.run(200);
        msgs
    }

    fn got(&self, members: &[SockId]) -> Vec<MsgId> {
        let mut got: Vec<MsgId> = members.iter().flat_map(|id| self.0.socks.get(*id).got.clone()).collect();
        got.sort_unstable();
        got
    }
}

/// Members at every node: each message goes to one of them.
#[test]
fn shared_one_member_of_all_nodes_gets_it() {
    let mut s = Scene::new(3);
    let members = [("gil", ONE), ("hal", TWO), ("ida", TWO), ("jon", THREE)].map(|(name, node)| s.member(name, node));
    let publishers = [ONE, TWO, THREE].map(|node| s.up(&format!("pub{node}"), node));
    let mut msgs: Vec<MsgId> = publishers.into_iter().flat_map(|by| s.many(by, 20)).collect();
    msgs.sort_unstable();
    assert_eq!(s.got(&members), msgs);
    s.end();
}

/// What a member took and did not acknowledge goes to another one when it leaves.
#[test]
fn shared_what_a_member_leaves_goes_to_another() {
    let mut s = Scene::new(3);
    let mute = s.member("gil", TWO);
    s.0.mute(mute);
    let publisher = s.up("ann", ONE);
    let msgs = s.many(publisher, 10);
    assert_eq!(s.got(&[mute]), msgs);
    let other = s.member("hal", THREE);
    s.0.hang_up(mute);
    s.must("the other has them", 1000, |w| w.socks.get(other).got.len() == 10);
    assert_eq!(s.got(&[other]), msgs);
    s.end();
}

/// Members whose windows are full leave: what waited for them goes to another one too.
#[test]
fn shared_what_waits_for_a_member_that_leaves_goes_to_another() {
    let mut s = Scene::new(3);
    let narrow = s.0.connect_as("gil", TWO, rookery::mqtt::codec::Version::V5, "gil", Some(1));
    s.must("connected", 1000, |w| w.socks.get(narrow).up());
    s.0.join(narrow, TWO_ALL, QoS::AtLeastOnce);
    s.must("it is a member", 1000, |w| w.socks.get(narrow).subacks.len() == 1);
    s.0.mute(narrow);
    let publisher = s.up("ann", ONE);
    let msgs = s.many(publisher, 10);
    assert_eq!(s.got(&[narrow]), msgs[..1]);
    let other = s.member("hal", ONE);
    s.0.hang_up(narrow);
    s.must("the other has them", 1000, |w| w.socks.get(other).got.len() == 10);
    s.end();
}

/// A node is cut off with its members: once its life is over, the others get everything.
#[test]
fn shared_members_of_a_node_that_is_gone_get_nothing() {
    let mut s = Scene::new(3);
    s.member("gil", TWO);
    let other = s.member("hal", THREE);
    let publisher = s.up("ann", ONE);
    s.0.kill_node(TWO);
    s.must("its life is over", 8000, |w| w.node(ONE).live().iter().all(|life| life.node != TWO));
    s.run(500);
    let msgs = s.many(publisher, 20);
    assert_eq!(s.got(&[other]), msgs);
    s.end();
}
