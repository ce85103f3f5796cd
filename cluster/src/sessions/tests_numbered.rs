//! Numbered streams: copies, gaps, what was given up, and claims that were long on their way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::handle::Leave;
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence};

const A: NodeLife = NodeLife { node: NodeId(1), incarnation: Incarnation(4) };
const B: NodeLife = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };
const ALL: Epoch = Epoch(u64::MAX);

fn key() -> ClaimKey {
    ClaimKey { broker: BrokerId(7), client: "c".into() }
}

fn by(life: NodeLife, nonce: u64) -> Claimant {
    Claimant { life, nonce: Nonce(nonce) }
}

fn claim(nonce: u64, heard: Epoch) -> Proposal {
    Proposal::Claim { key: key(), nonce: Nonce(nonce), clean_start: true, session_expiry: 0, heard, will: None }
}

fn release(nonce: u64, epoch: u64) -> Proposal {
    Proposal::Release { key: key(), nonce: Nonce(nonce), epoch: Epoch(epoch), leave: Leave::default() }
}

fn abandon(nonce: u64) -> Proposal {
    Proposal::Abandon { key: key(), nonce: Nonce(nonce) }
}

fn run(state: &mut ShardState, life: NodeLife, number: u64, what: Proposal) -> (Outcome, Vec<Effect>) {
    let mut out = Vec::new();
    let numbered = Numbered { life, number: Sequence(number), what };
    let outcome = state.apply(Command::Numbered(numbered), &mut out);
    (outcome, out)
}

fn outcome(state: &mut ShardState, life: NodeLife, number: u64, what: Proposal) -> Outcome {
    run(state, life, number, what).0
}

fn granted(epoch: u64) -> Outcome {
    Outcome::Granted { epoch: Epoch(epoch), session_present: false }
}

#[test]
fn a_copy_changes_nothing_and_is_told_how_the_claim_stands() {
    let mut s = ShardState::default();
    assert_eq!(outcome(&mut s, A, 1, claim(1, ALL)), granted(1));
    assert_eq!(outcome(&mut s, A, 1, claim(1, ALL)), granted(1));
    assert_eq!(outcome(&mut s, A, 2, release(1, 1)), Outcome::Done);
    let before = s.clone();
    assert_eq!(outcome(&mut s, A, 1, claim(1, ALL)), Outcome::Spent);
    assert_eq!(outcome(&mut s, A, 2, release(1, 1)), Outcome::Spent);
    assert_eq!(s, before);
}

#[test]
fn what_comes_too_early_waits_for_what_is_missing() {
    let mut s = ShardState::default();
    assert_eq!(outcome(&mut s, A, 2, abandon(1)), Outcome::Gap { applied: Sequence(0) });
    assert_eq!(s, ShardState::default());
    assert_eq!(outcome(&mut s, A, 1, claim(1, ALL)), granted(1));
    assert_eq!(outcome(&mut s, A, 2, abandon(1)), Outcome::Done);
    assert!(s.is_empty());
}

#[test]
fn a_claim_that_was_given_up_takes_over_from_nobody() {
    let mut s = ShardState::default();
    // Sent, and nobody knows what became of it; its connection goes away.
    let late = claim(1, ALL);
    assert_eq!(outcome(&mut s, A, 1, Proposal::Nothing), Outcome::Done);
    assert_eq!(outcome(&mut s, B, 1, claim(1, ALL)), granted(1));
    assert_eq!(run(&mut s, A, 1, late), (Outcome::Spent, vec![]));
    assert!(s.view().pending.is_empty());
}

fn renew(nonce: u64, epoch: u64) -> Proposal {
    Proposal::Renew { key: key(), nonce: Nonce(nonce), epoch: Epoch(epoch) }
}

#[test]
fn who_waits_for_a_claim_that_is_renewed_claims_again() {
    let mut s = ShardState::default();
    assert_eq!(outcome(&mut s, B, 1, claim(1, ALL)), granted(1));
    assert_eq!(outcome(&mut s, A, 1, claim(1, Epoch(1))), Outcome::Waiting { holder: by(B, 1) });
    let refuse = Effect::Refuse { key: key(), to: by(A, 1), why: Refusal::Outdated };
    assert_eq!(run(&mut s, B, 2, renew(1, 1)), (granted(3), vec![refuse]));
    assert!(s.view().pending.is_empty());
    let renewed = s.clone();
    assert_eq!(outcome(&mut s, B, 2, renew(1, 1)), granted(3), "a copy is told how it stands");
    assert_eq!(outcome(&mut s, B, 3, renew(1, 1)), granted(3), "and what is out of date");
    assert_eq!(outcome(&mut s, B, 4, renew(2, 3)), Outcome::Done, "or somebody else's");
    assert_eq!(outcome(&mut s, B, 5, release(1, 1)), Outcome::Done);
    assert_eq!((s.holder(&key()), s.view().pending), (renewed.holder(&key()), renewed.view().pending));
    // The same connection as before, having heard of the new epoch.
    assert_eq!(run(&mut s, A, 2, claim(1, Epoch(1))), (Outcome::Outdated { epoch: Epoch(3) }, vec![]));
    let revoke = Effect::Revoke { key: key(), holder: by(B, 1), epoch: Epoch(3) };
    assert_eq!(run(&mut s, A, 3, claim(1, Epoch(3))), (Outcome::Waiting { holder: by(B, 1) }, vec![revoke]));
    let grant = Effect::Grant { key: key(), to: by(A, 1), epoch: Epoch(5), session: None };
    assert_eq!(run(&mut s, B, 6, release(1, 3)), (Outcome::Done, vec![grant]));
}

#[test]
fn what_has_a_will_is_not_renewed() {
    let mut s = ShardState::default();
    let will = Some(Will { message: bytes::Bytes::from_static(b"w"), delay: 0 });
    let claim =
        Proposal::Claim { key: key(), nonce: Nonce(1), clean_start: true, session_expiry: 0, heard: Epoch(0), will };
    assert_eq!(outcome(&mut s, A, 1, claim), granted(1));
    assert_eq!(outcome(&mut s, A, 2, renew(1, 1)), granted(1));
}

#[test]
fn a_claim_takes_over_only_from_what_its_node_had_heard_of() {
    let mut s = ShardState::default();
    assert_eq!(outcome(&mut s, B, 1, claim(1, Epoch(0))), granted(1));
    assert_eq!(run(&mut s, A, 1, claim(1, Epoch(0))), (Outcome::Outdated { epoch: Epoch(1) }, vec![]));
    let revoke = Effect::Revoke { key: key(), holder: by(B, 1), epoch: Epoch(1) };
    assert_eq!(run(&mut s, A, 2, claim(1, Epoch(1))), (Outcome::Waiting { holder: by(B, 1) }, vec![revoke]));
    // Nor does it push out a claim that waits.
    assert_eq!(outcome(&mut s, B, 2, claim(2, Epoch(1))), Outcome::Outdated { epoch: s.view().epoch });
    let heard = s.view().epoch;
    let refuse = Effect::Refuse { key: key(), to: by(A, 1), why: Refusal::Superseded };
    assert_eq!(run(&mut s, B, 3, claim(2, heard)), (Outcome::Waiting { holder: by(B, 1) }, vec![refuse]));
    assert!(s.view().epoch > heard);
}

#[test]
fn an_outdated_claim_costs_no_takeover() {
    let mut s = ShardState::default();
    outcome(&mut s, B, 1, claim(1, ALL));
    for n in 1..=u64::from(TAKEOVER_BURST) * 2 {
        assert!(matches!(outcome(&mut s, A, n, claim(n, Epoch(0))), Outcome::Outdated { .. }));
    }
    assert!(!s.view().wants_ticks);
}

#[test]
fn an_ended_life_leaves_nothing_and_its_successor_starts_anew() {
    let mut s = ShardState::default();
    outcome(&mut s, A, 1, Proposal::Nothing);
    outcome(&mut s, A, 2, Proposal::Nothing);
    assert_eq!(s.view().lives.get(&A), Some(&1), "so that its end is told to the shard");
    let reborn = NodeLife { incarnation: Incarnation(5), ..A };
    assert_eq!(outcome(&mut s, reborn, 1, claim(1, ALL)), granted(1));
    assert_eq!(s.view().lives.get(&A), None);
    assert_eq!(outcome(&mut s, A, 3, claim(9, ALL)), Outcome::Refused(Refusal::Expired));
    s.apply(Command::Expire { life: reborn }, &mut Vec::new());
    while s.view().wants_ticks {
        s.apply(Command::Tick { by: B, millis: 0 }, &mut Vec::new());
    }
    assert!(s.view().lives.is_empty());
}

#[test]
fn a_snapshot_knows_the_numbers() {
    let mut s = ShardState::default();
    outcome(&mut s, B, 1, claim(1, ALL));
    outcome(&mut s, A, 1, claim(1, ALL));
    let mut copy = ShardState::restore(&s.snapshot()).unwrap();
    assert_eq!(copy, s);
    assert_eq!(outcome(&mut copy, A, 1, claim(1, ALL)), Outcome::Waiting { holder: by(B, 1) });
    assert_eq!(outcome(&mut copy, A, 3, claim(1, ALL)), Outcome::Gap { applied: Sequence(1) });
}

/// A claim, a claim that waits and a tick, as they were written before there were numbers, and the snapshot after.
const OLD_LOG: [&[u8]; 3] = [&[1, 0, 7, 1, b'c', 1, 1, 1, 1, 0], &[1, 0, 7, 1, b'c', 2, 1, 1, 1, 0], &[1, 4, 1, 1, 5]];
const OLD_SNAPSHOT: &[u8] = &[
    1, 1, 0, 1, 1, 1, 5, 2, 1, 0, 2, 0, // version, last epoch, time, ticker, expired
    1, 7, 1, b'c', 1, 1, 1, 1, 0, 1, 1, 2, 1, 1, 1, 0, 0, // records
    1, 7, 1, b'c', 49, 0, 0, // buckets, sweep
];

#[test]
fn logs_and_snapshots_without_numbers_are_read() {
    let mut s = ShardState::default();
    let commands = OLD_LOG.map(|bytes| Command::decode(bytes).unwrap());
    let outcomes = commands.map(|command| s.apply(command, &mut Vec::new()));
    let a = Claimant { life: NodeLife { node: NodeId(1), incarnation: Incarnation(1) }, nonce: Nonce(1) };
    assert_eq!(outcomes, [granted(1), Outcome::Waiting { holder: a }, Outcome::Done]);
    assert_eq!(ShardState::restore(OLD_SNAPSHOT).unwrap(), s, "one replica may have the log, another the snapshot");
}

/// A node that proposes, a shard, and a network that loses, copies and reorders.
#[derive(Default)]
struct Wire {
    shard: ShardState,
    sent: Vec<Sending>,
    /// What was put in, by ticket, and what became of it.
    given_up: BTreeMap<u64, bool>,
    applied: Vec<u64>,
}

impl Wire {
    /// Commits the `n`th of all copies ever sent, and brings the answer or loses it.
    fn commit(&mut self, outbox: &mut Outbox<u64>, n: usize, lost: bool) {
        let Some(Sending { round, number, command }) = self.sent.get(n % self.sent.len().max(1)).cloned() else {
            return;
        };
        let Command::Numbered(Numbered { what, .. }) = &command else { panic!("not numbered") };
        let id = match what {
            Proposal::Release { epoch, .. } => Some(epoch.0),
            _ => None,
        };
        let outcome = self.shard.apply(command, &mut Vec::new());
        if outcome == Outcome::Done {
            self.applied.extend(id);
        }
        match lost {
            true => drop(outbox.failed(round)),
            false => drop(outbox.answered(round, number, outcome)),
        }
    }

    fn send_all(&mut self, outbox: &mut Outbox<u64>) {
        self.sent.extend(std::iter::from_fn(|| outbox.send()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Send,
    Commit(usize, bool),
    Fail,
    GiveUp(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        3 => Just(Step::Send),
        6 => (0..200_usize, any::<bool>()).prop_map(|(n, lost)| Step::Commit(n, lost)),
        1 => Just(Step::Fail),
        1 => (0..50_usize).prop_map(Step::GiveUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_the_network_does_each_is_taken_once_and_in_order(steps in prop::collection::vec(step(), 1..150)) {
        let (mut wire, mut outbox) = (Wire::default(), Outbox::new(A, 4, 8));
        let mut tickets = Vec::new();
        for step in steps {
            match step {
                Step::Push => {
                    let id = tickets.len() as u64 + 1;
                    match outbox.push(release(1, id), id) {
                        Ok(ticket) => tickets.push(ticket),
                        Err(Full) => prop_assert!(outbox.len() >= 8),
                    }
                }
                Step::Send => wire.send_all(&mut outbox),
                Step::Commit(n, lost) => wire.commit(&mut outbox, n, lost),
                Step::Fail => drop(wire.sent.last().map(|last| outbox.failed(last.round))),
                Step::GiveUp(n) => {
                    if let Some(ticket) = tickets.get(n) {
                        let maybe = outbox.give_up(*ticket);
                        wire.given_up.entry(n as u64 + 1).or_insert(maybe);
                    }
                }
            }
        }
        // Then the network is well again: what was not answered is noticed, and the rest is answered.
        let last = wire.sent.last().map(|last| last.round);
        last.map(|round| outbox.failed(round));
        for _ in 0..200 {
            let before = wire.sent.len();
            wire.send_all(&mut outbox);
            (before..wire.sent.len()).for_each(|n| wire.commit(&mut outbox, n, false));
            if outbox.is_empty() {
                break;
            }
        }
        prop_assert!(outbox.is_empty(), "something is never taken");
        prop_assert!(wire.applied.is_sorted_by(|a, b| a < b), "{:?}", wire.applied);
        for id in 1..=tickets.len() as u64 {
            prop_assert!(wire.applied.contains(&id) || wire.given_up.contains_key(&id), "{} is lost", id);
        }
        // Copies that are still somewhere change nothing.
        let after = wire.shard.clone();
        (0..wire.sent.len()).for_each(|n| wire.commit(&mut outbox, n, true));
        prop_assert_eq!(wire.shard, after);
    }
}

#[test]
fn a_snapshot_with_an_epoch_that_none_can_follow_is_refused() {
    let good = ShardState::default().snapshot();
    // The epoch is the first field: 0 is one byte, the largest ten.
    let bad = [&good[..1], &[0xff; 9], &[1], &good[2..]].concat();
    let refused = ShardState::restore(&bad).expect_err("an epoch that is too large");
    assert_eq!(refused.0, format!("shard snapshot: epoch {}", u64::MAX));
    assert!(ShardState::restore(&good).is_ok());
}

#[test]
fn clocks_that_leap_stop_shard_time_at_its_end() {
    let mut state = ShardState::default();
    for life in [A, B] {
        // Takeovers, so that time counts.
        for nonce in 1..4 {
            let claim = Command::Claim { key: key(), by: by(life, nonce), clean_start: true, session_expiry: 0 };
            state.apply(claim, &mut Vec::new());
        }
        for millis in [0, u64::MAX] {
            assert_eq!(state.apply(Command::Tick { by: life, millis }, &mut Vec::new()), Outcome::Done);
        }
    }
}
