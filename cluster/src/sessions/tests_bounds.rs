//! What a broker may leave in a shard, and what is removed when it is deleted.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::handle::{Home, Keep, Leave, SessionGrant};
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence, SessionId, WorkerId};
use crate::limits::{SESSION_FILTER_BYTES, SESSIONS};

const A: NodeLife = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
const HOME: Home = Home { life: A, worker: WorkerId(3) };
const B: BrokerId = BrokerId(7);
const TWO: Within = Within { sessions: 2, filter_bytes: 2 * (3 + 32) };
const FULL: Outcome = Outcome::Refused(Refusal::Full);

#[derive(Default)]
struct Shard {
    state: ShardState,
    effects: Vec<Effect>,
    nonce: u64,
    millis: u64,
}

fn key(broker: BrokerId, client: &str) -> ClaimKey {
    ClaimKey { broker, client: client.into() }
}

impl Shard {
    fn apply(&mut self, command: Command) -> Outcome {
        self.effects.clear();
        let outcome = self.state.apply(Command::decode(&command.encode()).unwrap(), &mut self.effects);
        assert_eq!(ShardState::restore(&self.state.snapshot()).as_ref(), Ok(&self.state), "what is derived is rebuilt");
        outcome
    }

    fn propose(&mut self, what: Proposal, within: Within) -> Outcome {
        let number = self.state.streams.get(&A).copied().unwrap_or(Sequence(0)).next();
        self.apply(Command::Bounded(Bounded { numbered: Numbered { life: A, number, what }, within }))
    }

    fn claim(&mut self, key: ClaimKey, expiry: u32) -> Outcome {
        self.nonce += 1;
        let will = Some(Will { message: Bytes::from_static(b"gone"), delay: 5 });
        let (nonce, heard) = (Nonce(self.nonce), Epoch(u64::MAX));
        let what = Proposal::Claim { key, nonce, clean_start: true, session_expiry: expiry, heard, will };
        self.propose(what, TWO)
    }

    /// Its connection is lost; it is kept for so many seconds.
    fn lose(&mut self, key: ClaimKey, expiry: u32) {
        let held = self.state.holder(&key).expect("served");
        let keep = (expiry > 0).then_some(Keep { expiry: Some(expiry), home: Some(HOME) });
        let leave = Leave { keep, fire_will: true };
        self.propose(Proposal::Release { key, nonce: held.wish.by.nonce, epoch: held.epoch, leave }, TWO);
    }

    fn subscribe(&mut self, key: &ClaimKey, filter: &str, wanted: bool) -> Outcome {
        let held = self.state.holder(key).expect("served");
        let (nonce, epoch) = (held.wish.by.nonce, held.epoch);
        let changes = vec![(Arc::from(filter), wanted.then_some(1))];
        self.propose(Proposal::Subscribe { key: key.clone(), nonce, epoch, changes }, TWO)
    }

    fn pass(&mut self, millis: u64) {
        for by in [0, millis] {
            self.millis += by;
            self.apply(Command::Tick { by: A, millis: self.millis });
        }
    }
}

fn granted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Granted { .. } | Outcome::GrantedSession { .. })
}

#[test]
fn a_broker_has_so_many_sessions_in_a_shard() {
    let mut s = Shard::default();
    for client in ["a", "b"] {
        assert!(granted(&s.claim(key(B, client), 100)));
        s.lose(key(B, client), 100);
    }
    assert_eq!(s.claim(key(B, "c"), 100), FULL);
    assert_eq!(s.state.holder(&key(B, "c")), None);
    assert!(granted(&s.claim(key(B, "c"), 0)), "without a session to keep");
    assert_eq!(s.claim(key(B, "c"), 100), FULL, "and that one is not taken over");
    assert!(granted(&s.claim(key(BrokerId(8), "c"), 100)), "another broker has its own");
    assert!(granted(&s.claim(key(B, "a"), 100)), "in place of its own");
    s.lose(key(B, "a"), 0);
    assert!(granted(&s.claim(key(B, "d"), 100)), "there is room again");
    assert_eq!(s.state.view().tallies.get(&B).map(|tally| tally.sessions), Some(2));
}

#[test]
fn claimants_that_wait_count() {
    let mut s = Shard::default();
    for client in ["a", "b", "c"] {
        assert!(granted(&s.claim(key(B, client), 0)));
    }
    for client in ["a", "b"] {
        assert!(matches!(s.claim(key(B, client), 100), Outcome::Waiting { .. }));
    }
    assert_eq!(s.claim(key(B, "c"), 100), FULL);
    for client in ["a", "b", "c"] {
        s.lose(key(B, client), 0);
    }
    assert_eq!(s.state.sessions.len(), 2);
    assert_eq!(s.state.view().tallies.get(&B).map(|tally| tally.waiting), Some(0));
}

#[test]
fn a_broker_has_so_many_bytes_of_filters_in_a_shard() {
    let mut s = Shard::default();
    let (a, b) = (key(B, "a"), key(B, "b"));
    for key in [&a, &b] {
        s.claim(key.clone(), 100);
        assert_eq!(s.subscribe(key, "t/1", true), Outcome::Done);
    }
    assert_eq!(s.subscribe(&a, "t", true), FULL);
    assert_eq!(s.subscribe(&a, "t/1", true), Outcome::Done, "it is there already");
    assert_eq!(s.subscribe(&a, "t", false), Outcome::Done, "nothing is taken away");
    assert_eq!(s.subscribe(&a, "t/1", false), Outcome::Done);
    assert_eq!(s.subscribe(&b, "t", true), Outcome::Done);
    assert_eq!(s.state.view().tallies.get(&B).map(|tally| tally.filter_bytes), Some(2 * 32 + 4));
    s.lose(b, 0);
    s.lose(a, 0);
    assert_eq!(s.state.sessions.len(), 0);
    let wills = Tally { wills: 2, ..Tally::default() };
    assert_eq!(s.state.view().tallies.get(&B), Some(&wills), "they are due now");
}

#[test]
fn without_bounds_everything_is_granted() {
    let mut s = Shard::default();
    for client in ["a", "b", "c"] {
        let (nonce, key) = (Nonce(1), key(B, client));
        let number = s.state.streams.get(&A).copied().unwrap_or(Sequence(0)).next();
        let (session_expiry, heard) = (100, Epoch(0));
        let what = Proposal::Claim { key, nonce, clean_start: false, session_expiry, heard, will: None };
        let session = SessionGrant { id: SessionId(number.0), present: false, home: None };
        let granted = Outcome::GrantedSession { epoch: Epoch(number.0), session };
        assert_eq!(s.apply(Command::Numbered(Numbered { life: A, number, what })), granted);
    }
}

#[test]
fn a_share_is_never_less_than_chance_needs() {
    assert_eq!(Within::share(0, 0, 1), Within { sessions: SESSIONS, filter_bytes: SESSION_FILTER_BYTES });
    assert_eq!(Within::share(u32::MAX, u64::MAX, 1), Within { sessions: SESSIONS, filter_bytes: SESSION_FILTER_BYTES });
    assert_eq!(Within::share(100_000, 0, 16).sessions, 6250 + 4 * 79);
    assert_eq!(Within::share(10, 100, 16), Within { sessions: 8, filter_bytes: 80 });
    assert_eq!(Within::share(1, 100, 16), Within { sessions: 1, filter_bytes: 100 });
    assert_eq!(Within::share(1, 1, 0), Within { sessions: 1, filter_bytes: 1 });
}

#[test]
fn what_a_deleted_broker_left_is_removed_in_parts() {
    let mut s = Shard::default();
    let clients = FORGET_STEP + 10;
    let each = |n: usize| key(B, &format!("{n}"));
    let within = Within { sessions: u32::MAX, filter_bytes: 0 };
    for n in 0..clients {
        s.nonce += 1;
        let will = Some(Will { message: Bytes::from_static(b"gone"), delay: 1 + n as u32 % 2 * 9 });
        let nonce = Nonce(s.nonce);
        let (key, heard) = (each(n), Epoch(0));
        s.propose(Proposal::Claim { key, nonce, clean_start: true, session_expiry: 100, heard, will }, within);
        s.lose(each(n), 100);
    }
    assert!(granted(&s.claim(key(BrokerId(8), "other"), 100)));
    s.lose(key(BrokerId(8), "other"), 100);
    s.pass(2000);
    assert!(!s.state.firing.is_empty() && s.state.due_wills.len() > 1);
    assert_eq!(s.apply(Command::Forget { broker: B }), Outcome::Done);
    assert_eq!(s.effects.len(), FORGET_STEP, "their queues go as well");
    assert!(s.state.view().tallies.get(&B).is_some_and(Tally::keeps));
    s.apply(Command::Forget { broker: B });
    assert_eq!(s.effects.len(), 10);
    assert_eq!(s.state.view().tallies.get(&B), None);
    assert_eq!((s.state.sessions.len(), s.state.due_wills.len(), s.state.firing.len()), (1, 1, 0), "another's stays");
    assert_eq!(s.apply(Command::Forget { broker: B }), Outcome::Done);
    s.pass(100_000);
    assert_eq!(s.state.firing.len(), 1);
    assert_eq!(s.state.sessions.len(), 0);
}
