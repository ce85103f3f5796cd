use super::*;
use crate::ids::{Incarnation, NodeId};

fn begin(registry: &mut Registry<()>, broker: u128, nonce: u64) -> Begin {
    let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
    let key = ClaimKey { broker: BrokerId(broker), client: format!("c{nonce}").as_str().into() };
    registry.begin(key, Claimant { life, nonce: Nonce(nonce) }, WorkerId(0), (), true)
}

#[test]
fn a_broker_whose_clients_wait_in_masses_leaves_room_for_others() {
    let mut registry = Registry::new(1000, 10, 10);
    let mut nonces = 0..;
    let mut flood = |registry: &mut Registry<()>, broker| {
        let mut began = 0;
        while begin(registry, broker, nonces.next().expect("endless")) == Begin::Ask {
            began += 1;
        }
        began
    };
    assert_eq!(flood(&mut registry, 1), 500);
    assert_eq!(flood(&mut registry, 2), 250);
    for broker in 3..10 {
        assert!(flood(&mut registry, broker) >= MIN_WAITING);
    }
    assert!(registry.counts().1 <= 1000 + 8 * MIN_WAITING);
    let all: Vec<Claimant> = registry.entries.values().map(|entry| entry.by).collect();
    all.into_iter().for_each(|by| drop(registry.remove(by)));
    assert_eq!((registry.counts(), registry.waiting_of.len()), ((0, 0), 0));
}

const LIFE: NodeLife = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };

fn key() -> ClaimKey {
    ClaimKey { broker: BrokerId(1), client: "c".into() }
}

fn by(nonce: u64) -> Claimant {
    Claimant { life: LIFE, nonce: Nonce(nonce) }
}

fn at(millis: u64) -> Moment {
    Moment(std::time::Duration::from_millis(millis))
}

fn grant(epoch: u64) -> Grant {
    Grant { by: by(1), epoch: Epoch(epoch) }
}

fn notice(epoch: u64) -> Notice {
    Notice { to: by(1), key: key(), kind: NoticeKind::Revoked { epoch: Epoch(epoch) } }
}

fn post_revoked(nonce: u64, epoch: u64) -> Option<Act> {
    let ClaimKey { broker, client } = key();
    Some(Act::Post(WorkerId(0), ClaimEvent::Revoked { broker, client, nonce: Nonce(nonce), epoch: Epoch(epoch) }))
}

fn serves(nonce: u64, epoch: u64) -> Begin {
    let ClaimKey { broker, client } = key();
    Begin::Serves(ClaimEvent::Granted { broker, client, nonce: Nonce(nonce), epoch: Epoch(epoch), session: None })
}

/// A client was served under epoch 1, and left at 0.
fn rested(max_resting: usize) -> Registry<()> {
    let mut registry = Registry::new(10, 10, max_resting);
    registry.keep_only(Some(LIFE));
    assert_eq!(registry.begin(key(), by(1), WorkerId(0), (), true), Begin::Ask);
    registry.granted(key(), by(1), Epoch(1), None);
    let act = registry.release(at(0), key(), Nonce(1), Epoch(1), Leave::default());
    assert_eq!(act.is_none(), max_resting > 0);
    registry
}

#[test]
fn what_rests_is_gone_on_with_or_given_back() {
    let mut registry = rested(1);
    assert_eq!(registry.begin(key(), by(2), WorkerId(0), (), true), serves(2, 1));
    assert_eq!((registry.counts(), registry.rests()), ((1, 0), 0));
    assert_eq!(registry.end_rest(at(10_000)), []);
    assert_eq!(registry.release(at(10_000), key(), Nonce(2), Epoch(1), Leave::default()), None);
    assert_eq!(registry.end_rest(at(10_000) + REST / 2), []);
    let ending = Ending::plain(key(), grant(1), Haste::Lazy);
    assert_eq!(registry.end_rest(at(10_000) + REST), [Act::Release(ending)]);
    assert_eq!(registry.begin(key(), by(3), WorkerId(0), (), true), Begin::Ask);
}

#[test]
fn what_rests_leaves_when_it_is_wanted_and_nobody_goes_on_with_it() {
    let mut registry = rested(1);
    assert_eq!(registry.notice(notice(1)), Some(Act::Release(Ending::plain(key(), grant(1), Haste::Now))));
    assert_eq!(registry.notice(notice(1)), Some(Act::Hurry(key())), "it comes again");
    assert_eq!(registry.begin(key(), by(2), WorkerId(0), (), true), Begin::Ask);
    // Nor is it gone on with under another life, or by who leaves something.
    let mut registry = rested(1);
    registry.keep_only(Some(NodeLife { incarnation: Incarnation(2), ..LIFE }));
    assert_eq!(registry.rests(), 0);
    let mut registry = rested(1);
    let release = Ending::plain(key(), grant(1), Haste::Now);
    assert_eq!(registry.begin(key(), by(2), WorkerId(0), (), false), Begin::AskAfter(release));
    // Without room it does not rest at all.
    assert_eq!(rested(0).begin(key(), by(2), WorkerId(0), (), true), Begin::Ask);
}

#[test]
fn a_claim_that_is_gone_on_with_is_renewed_before_it_is_revoked() {
    let inherited = || {
        let mut registry = rested(1);
        assert_eq!(registry.begin(key(), by(2), WorkerId(0), (), true), serves(2, 1));
        assert_eq!(registry.notice(notice(1)), Some(Act::Renew(key(), grant(1))));
        assert_eq!(registry.notice(notice(1)), None, "once");
        registry
    };
    let mut registry = inherited();
    registry.renewed(by(1), Some(Epoch(4)));
    // What was sent before is out of date: its release changes nothing in the shard.
    assert!(matches!(registry.notice(notice(1)), Some(Act::Release(Ending { epoch: Epoch(1), .. }))));
    assert_eq!(registry.notice(notice(4)), post_revoked(2, 4));
    let mut ending = Ending::plain(key(), grant(4), Haste::Now);
    assert_eq!(
        registry.release(at(0), key(), Nonce(2), Epoch(1), Leave::default()),
        Some(Act::Release(ending.clone())),
        "what was wanted does not rest"
    );
    // The revocation under the new epoch says that it is renewed.
    let mut registry = inherited();
    assert_eq!(registry.notice(notice(4)), post_revoked(2, 4));
    registry.renewed(by(1), Some(Epoch(4)));
    assert_eq!(registry.notice(notice(4)), post_revoked(2, 4));
    // Nobody knows what became of it: it is tried again.
    let mut registry = inherited();
    registry.renewed(by(1), None);
    assert_eq!(registry.notice(notice(1)), Some(Act::Renew(key(), grant(1))));
    // The connection ends meanwhile.
    (ending.epoch, ending.renewing) = (Epoch(1), true);
    let act = registry.release(at(0), key(), Nonce(2), Epoch(1), Leave::default());
    assert_eq!(act, Some(Act::Release(ending)));
    registry.renewed(by(1), Some(Epoch(4)));
    assert_eq!((registry.counts(), registry.heirs.len(), registry.rests()), ((0, 0), 0, 0));
}

#[test]
fn a_grant_that_is_told_once_more_ends_nothing() {
    let mut registry = rested(1);
    assert_eq!(registry.granted(key(), by(1), Epoch(1), None), None);
    assert_eq!(registry.begin(key(), by(2), WorkerId(0), (), true), serves(2, 1));
    assert_eq!(registry.granted(key(), by(1), Epoch(1), None), None, "the shard would give the client to others");
    assert_eq!(registry.counts(), (1, 0));
}

#[test]
fn only_so_much_is_remembered_of_what_rests() {
    let mut registry = Registry::new(10, 10, 3);
    registry.keep_only(Some(LIFE));
    for nonce in 0..10 {
        let key = ClaimKey { broker: BrokerId(1), client: format!("c{nonce}").as_str().into() };
        assert_eq!(registry.begin(key.clone(), by(nonce), WorkerId(0), (), true), Begin::Ask);
        registry.granted(key.clone(), by(nonce), Epoch(nonce + 1), None);
        let act = registry.release(at(nonce), key, Nonce(nonce), Epoch(nonce + 1), Leave::default());
        assert_eq!(act.is_none(), nonce < 3, "the others are released");
    }
    assert_eq!(registry.rests(), 3);
    assert_eq!(registry.end_rest(at(1) + REST).len(), 2);
    assert_eq!((registry.rests(), registry.counts()), (1, (0, 0)));
}
