//! Snapshots that no shard writes: whatever they say of what is due, time passes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::durable::Session;
use super::tick::Young;
use super::*;
use crate::handle::{Keep, Leave};
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence, SessionId};

const A: NodeLife = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };

const B: NodeLife = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };

fn key() -> ClaimKey {
    ClaimKey { broker: BrokerId(7), client: "c".into() }
}

/// A client with a session and a will, still served.
fn served() -> ShardState {
    let mut state = ShardState::default();
    let will = Some(Will { message: Bytes::from_static(b"gone"), delay: 1 });
    let (clean_start, session_expiry, heard) = (false, 60, Epoch(9));
    propose(&mut state, Proposal::Claim { key: key(), nonce: Nonce(1), clean_start, session_expiry, heard, will });
    state
}

fn propose(state: &mut ShardState, what: Proposal) {
    let number = state.streams.get(&A).copied().unwrap_or(Sequence(0)).next();
    state.apply(Command::Numbered(Numbered { life: A, number, what }), &mut Vec::new());
}

fn release(state: &mut ShardState) {
    let leave = Leave { keep: Some(Keep { expiry: Some(60), home: None }), fire_will: true };
    propose(state, Proposal::Release { key: key(), nonce: Nonce(1), epoch: Epoch(1), leave });
}

/// Lets two replicas, of which one goes on from a snapshot at each step, pass `state`'s whole time.
fn pass(mut state: ShardState) {
    for millis in [0, 1000, 100_000, 200_000] {
        let mut copy = ShardState::restore(&state.snapshot()).expect("its own");
        assert_eq!(copy, state, "what is derived is rebuilt");
        let tick = Command::Tick { by: A, millis };
        let (mut one, mut two) = (Vec::new(), Vec::new());
        assert_eq!(state.apply(tick.clone(), &mut one), copy.apply(tick, &mut two));
        assert_eq!((one, &state), (two, &copy));
    }
    assert!(state.ending.is_empty() && state.due.is_empty() && state.young.is_empty());
}

fn restored(state: &ShardState) -> ShardState {
    ShardState::restore(&state.snapshot()).expect("a snapshot of this version")
}

#[test]
fn the_end_of_a_session_that_is_served_gives_way_to_the_one_of_its_release() {
    let mut state = served();
    state.sessions.get_mut(&key()).expect("a session").ends = Some(97);
    let mut state = restored(&state);
    release(&mut state);
    pass(state);
}

#[test]
fn what_is_young_and_waits_for_another_moment_is_left_out() {
    let mut state = served();
    release(&mut state);
    state.young = [Young::Session(key()), Young::Will(key())].map(|young| (5, young)).into();
    let state = restored(&state);
    assert_eq!(state.young, BTreeSet::new());
    pass(state);
}

#[test]
fn what_is_young_and_waits_for_nothing_is_left_out() {
    let young = [Young::Session(key()), Young::Will(key())].map(|young| (5, young)).into();
    let state = restored(&ShardState { young, ..ShardState::default() });
    assert_eq!(state, ShardState::default());
}

#[test]
fn a_queue_of_ends_without_sessions_comes_to_its_end() {
    let session =
        Session { id: SessionId(1), subscriptions: BTreeMap::new(), home: None, kept_for: None, ends: Some(40) };
    let mut state = ShardState { sessions: [(key(), session)].into(), ..ShardState::default() };
    state.ending = [(5, key()), (40, key())].into();
    state.due = [(5, key())].into();
    for millis in [0, 30] {
        state.apply(Command::Tick { by: A, millis }, &mut Vec::new());
    }
    assert_eq!((state.ending.len(), state.due.len(), state.sessions.len()), (1, 0, 1));
}

/// One waits for a client whose holder's life has ended: who ends a life lets go of what it held, so no shard is so.
fn waits_for_the_dead() -> ShardState {
    let mut state = served();
    let by = Claimant { life: B, nonce: Nonce(2) };
    state.apply(Command::Claim { key: key(), by, clean_start: false, session_expiry: 60 }, &mut Vec::new());
    state.expired.insert(A.node, A.incarnation);
    restored(&state)
}

#[test]
fn who_claims_what_one_waits_for_of_the_dead_leaves_nobody_waiting() {
    let mut state = waits_for_the_dead();
    let by = Claimant { life: NodeLife { node: NodeId(3), ..B }, nonce: Nonce(3) };
    // Else the claim ends earlier lives, and with them what is looked for here.
    state.expired.insert(NodeId(3), Incarnation(0));
    let claim = Command::Claim { key: key(), by, clean_start: false, session_expiry: 60 };
    assert!(matches!(state.apply(claim, &mut Vec::new()), Outcome::GrantedSession { .. }));
    assert_eq!(restored(&state), state, "what is derived is rebuilt");
}

#[test]
fn what_one_waits_for_of_the_dead_is_swept() {
    let mut state = waits_for_the_dead();
    state.sweep = Some(super::state::Sweep { after: None });
    state.apply(Command::Tick { by: B, millis: 1 }, &mut Vec::new());
    assert!(state.is_empty());
    assert_eq!(restored(&state), state, "what is derived is rebuilt");
}
