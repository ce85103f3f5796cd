//! R4: a holder that does not release.

use rookery_cluster::limits::LEASE;

use super::*;

/// Notices are lost; they come again until the claim is released.
#[test]
fn r04_a_revocation_is_sent_until_it_is_released() {
    let mut s = Scene::new(3);
    let old = s.up("ann", ONE);
    s.0.net.lose.insert(("revoked", ONE), 4);
    let new = s.0.connect("ann", TWO);
    s.run(600);
    assert_eq!(s.phase(new), Phase::Connecting);
    s.must("taken over", 1500, |w| w.socks.get(new).up());
    assert!(s.0.node(THREE).claims.shepherd.resent >= 4);
    s.must("told", 100, |w| w.socks.get(old).phase == Phase::Closed);
    s.end();
}

/// A leader of the shard that knows nothing of what its predecessor sent starts from the state alone.
#[test]
fn r04_a_new_shard_leader_goes_on_revoking() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.0.net.lose.insert(("revoked", ONE), 1);
    let new = s.0.connect("ann", TWO);
    s.run(50);
    [1, 2].into_iter().for_each(|shard| s.0.set_leader(GroupId(shard), TWO));
    // A proposal to the old leader may be lost, which takes a while to be noticed.
    s.must("taken over", 8000, |w| w.socks.get(new).up());
    s.end();
}

/// A worker that stands still gets its node's lease not renewed, so its clients are not held for ever.
#[test]
fn r04_a_worker_that_stands_still_costs_the_lease() {
    let mut s = Scene::new(3);
    let old = s.up("ann", ONE);
    let until = s.0.now + ms(60_000);
    for worker in &mut s.0.node(ONE).broker.as_mut().expect("serves").workers {
        worker.stalled_until = until;
    }
    let new = s.0.connect("ann", TWO);
    s.must("taken over", 10_000, |w| w.socks.get(new).up());
    assert!(!s.0.serving(old));
    s.end();
}

/// A node that hears no revocation is reported, and its lease not renewed.
#[test]
fn r04_a_revocation_not_carried_out_is_reported() {
    let mut s = Scene::new(3);
    let old = s.up("ann", ONE);
    s.0.net.lose.insert(("revoked", ONE), u32::MAX);
    let mut new = s.0.connect("ann", TWO);
    s.must("taken over in the end", LEASE.as_millis() as u64 * 5, |w| {
        if matches!(w.socks.get(new).phase, Phase::Refused(_) | Phase::Closed) {
            new = w.connect("ann", TWO);
        }
        w.socks.get(new).up()
    });
    assert!(s.0.node(THREE).claims.shepherd.reported >= 1);
    assert!(!s.0.serving(old));
    s.end();
}

/// Several notices of one revocation wait for a worker that stood still, and the old client takes nothing: the
/// second notice must not give the claim back before 0x8E had its time.
#[test]
fn r04_a_repeated_revocation_does_not_overtake_the_flush() {
    let mut s = Scene::new(3);
    let old = s.up("ann", ONE);
    let (blocked, stalled) = (s.0.now + ms(10_000), s.0.now + ms(1500));
    s.0.sock(old).expect("a connection").blocked_until = blocked;
    for worker in &mut s.0.node(ONE).broker.as_mut().expect("serves").workers {
        worker.stalled_until = stalled;
    }
    let new = s.0.connect("ann", TWO);
    s.run(1600);
    assert_eq!(s.phase(new), Phase::Connecting, "0x8E waits to be flushed");
    s.must("taken over", 500, |w| w.socks.get(new).up());
    s.end();
}
