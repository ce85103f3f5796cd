//! R2: who renews, from when a lease counts, and what drift it bears.

use super::*;
use crate::clock::MOST_DRIFT;

/// The leader of group 0 is cut off with its clients. It thinks that it leads, and must not renew its own lease: the
/// others elect, wait, end its life and serve its client.
#[test]
fn r02_a_deposed_leader_does_not_renew() {
    let mut s = Scene::new(3);
    let old = s.up("ann", THREE);
    s.0.isolate(THREE);
    let new = s.0.connect("ann", ONE);
    s.run(3500);
    assert_eq!(s.phase(new), Phase::Connecting);
    s.must("taken over", 9000, |w| w.socks.get(new).up());
    assert!(!s.0.serving(old) && !s.0.lease_holds(THREE));
    assert!(s.0.leads(THREE, META).is_some(), "it never heard that it was deposed");
    s.end();
}

/// The holder's clock is as slow and the leader's as fast as the margin allows: never two at once.
#[test]
fn r02_expiry_against_clock_drift() {
    for (holder, leader) in [(-MOST_DRIFT, MOST_DRIFT), (MOST_DRIFT, -MOST_DRIFT)] {
        let mut s = Scene::new(3);
        let now = s.0.now;
        s.0.node(ONE).clock.set_drift(now, holder);
        s.0.node(THREE).clock.set_drift(now, leader);
        let old = s.up("ann", ONE);
        s.0.isolate(ONE);
        let new = s.0.connect("ann", TWO);
        s.must("taken over", 6000, |w| w.socks.get(new).up());
        assert!(!s.0.serving(old));
        s.end();
    }
}

/// An answer that comes late counts from when it was asked for.
#[test]
fn r02_a_late_answer_gives_no_more_time() {
    let mut s = Scene::new(3);
    let old = s.up("ann", ONE);
    s.0.net.late = 100;
    s.run(3000);
    s.0.isolate(ONE);
    s.0.net.late = 0;
    let new = s.0.connect("ann", TWO);
    s.must("taken over", 7000, |w| w.socks.get(new).up());
    assert!(!s.0.serving(old));
    s.end();
}

/// A leader that follows another waits a full lease before it ends a life that its predecessor renewed.
#[test]
fn r02_a_new_leader_waits_a_full_lease() {
    let mut s = Scene::new(3);
    let a = s.up("ann", TWO);
    for leader in [ONE, TWO, THREE, ONE] {
        s.run(3000);
        s.0.set_leader(META, leader);
    }
    s.run(5000);
    assert!(s.0.serving(a), "nobody lost a lease");
    s.end();
}
