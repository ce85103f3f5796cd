//! R5: the identity of a claim.

use rookery::mqtt::codec::ReasonCode;

use super::*;

/// A newer claim replaces the one that waits, whose CONNECT gets 0x88.
#[test]
fn r05_a_claim_that_waits_is_replaced_by_a_newer_one() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.0.net.lose.insert(("revoked", ONE), 3);
    let second = s.0.connect("ann", TWO);
    s.run(100);
    let third = s.0.connect("ann", THREE);
    s.must("refused", 200, |w| w.socks.get(second).phase == Phase::Refused(ReasonCode::SERVER_UNAVAILABLE));
    s.must("served", 1500, |w| w.socks.get(third).up());
    s.end();
}

/// A grant whose connection is gone is given back.
#[test]
fn r05_a_grant_for_a_connection_that_is_gone_is_released() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.0.net.lose.insert(("revoked", ONE), 2);
    let gone = s.0.connect("ann", TWO);
    s.run(100);
    s.0.hang_up(gone);
    s.run(1500);
    let shards = s.0.node(THREE).shards.values().map(|shard| shard.len()).sum::<usize>();
    assert_eq!(shards, 0, "nobody holds a claim");
    s.up("ann", THREE);
    s.end();
}

/// A notice of a grant is lost: the one that waits asks again.
#[test]
fn r05_who_waits_asks_again() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.0.net.lose.insert(("granted", TWO), 1);
    let new = s.0.connect("ann", TWO);
    s.run(500);
    assert_eq!(s.phase(new), Phase::Connecting);
    s.must("served", 1500, |w| w.socks.get(new).up());
    s.end();
}

/// Takeovers of one client ID are rate-limited: 0x9F.
#[test]
fn r05_takeovers_that_come_too_fast_are_refused() {
    let mut s = Scene::new(3);
    let mut refused = 0;
    for n in 0..70 {
        let id = s.0.connect("ann", if n % 2 == 0 { ONE } else { TWO });
        s.must("answered", 1000, |w| w.socks.get(id).phase != Phase::Connecting);
        refused += u32::from(s.phase(id) == Phase::Refused(ReasonCode::CONNECTION_RATE_EXCEEDED));
    }
    assert!((1..=20).contains(&refused), "{refused} of 70 were refused");
    s.run(3000);
    s.up("ann", THREE);
    s.end();
}

/// A client that comes back at once goes on with its claim; who wants it elsewhere gets it.
#[test]
fn r05_a_client_that_comes_back_goes_on_with_its_claim() {
    let mut s = Scene::new(3);
    let first = s.up("ann", ONE);
    s.0.disconnect(first);
    s.must("gone", 200, |w| w.socks.get(first).phase == Phase::Closed);
    let epochs = |s: &mut Scene| s.0.node(THREE).shards.values().map(|shard| shard.view().epoch.0).sum::<u64>();
    let before = epochs(&mut s);
    let back = s.up("ann", ONE);
    assert_eq!((epochs(&mut s), s.0.node(ONE).claims.inherited), (before, 1));
    let new = s.0.connect("ann", TWO);
    s.must("taken over", 500, |w| w.socks.get(new).up());
    s.must("told", 100, |w| w.socks.get(back).told == Some(ReasonCode::SESSION_TAKEN_OVER));
    assert_eq!(s.0.node(ONE).claims.renewed, 1, "it was asked whether it is still there");
    s.end();
}
