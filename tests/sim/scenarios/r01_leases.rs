//! R1: one lease per node guards all its claims.

use rookery::mqtt::codec::{QoS, ReasonCode};
use rookery_cluster::ids::GroupId;

use super::*;

/// A shard without a quorum grants nothing new; what it granted goes on under the lease.
#[test]
fn r01_a_shard_without_a_leader_keeps_what_it_granted() {
    let mut s = Scene::new(3);
    let a = s.subscribed("ann", ONE, "t");
    (1..=2).for_each(|shard| s.0.depose(GroupId(shard), ms(60_000)));
    s.run(1000);
    let b = s.0.connect("bob", TWO);
    let m = s.0.publish(a, "t", QoS::AtLeastOnce);
    s.must("served", 500, |w| w.socks.get(a).got.contains(&m));
    s.must("refused", 11_000, |w| w.socks.get(b).phase == Phase::Refused(ReasonCode::SERVER_UNAVAILABLE));
    assert!(s.0.serving(a));
    s.end();
}

/// Without group 0 no lease is renewed: every node closes its clients before anybody could take them over.
#[test]
fn r01_without_group_0_all_leases_run_out() {
    let mut s = Scene::new(3);
    let a = s.up("ann", ONE);
    s.0.depose(META, ms(9000));
    s.must("closed", 6000, |w| w.socks.get(a).phase == Phase::Closed);
    assert!(!s.0.lease_holds(ONE));
    s.end();
}

/// One node is the same program.
#[test]
fn r01_one_node_alone() {
    let mut s = Scene::new(1);
    let a = s.subscribed("ann", ONE, "t/#");
    let m = s.0.publish(a, "t/1", QoS::AtLeastOnce);
    s.must("answered", 100, |w| w.oracle.msg(m).answered.is_some());
    s.end();
}
