//! Sessions that outlive their connections, and wills.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::handle::{Home, Keep, Leave, SessionGrant};
use crate::ids::{BrokerId, Epoch, Incarnation, NodeId, NodeLife, Nonce, Sequence, SessionId, WorkerId};

const A: NodeLife = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
const B: NodeLife = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };
const HOME: Home = Home { life: A, worker: WorkerId(3) };

fn key() -> ClaimKey {
    ClaimKey { broker: BrokerId(7), client: "c".into() }
}

/// A shard, and the numbers of those who propose to it.
#[derive(Default)]
struct Shard {
    state: ShardState,
    effects: Vec<Effect>,
    millis: u64,
}

impl Shard {
    fn propose(&mut self, life: NodeLife, what: Proposal) -> Outcome {
        let number = self.state.streams.get(&life).copied().unwrap_or(Sequence(0)).next();
        self.effects.clear();
        self.state.apply(Command::Numbered(Numbered { life, number, what }), &mut self.effects)
    }

    fn claim(&mut self, life: NodeLife, nonce: u64, clean_start: bool, expiry: u32, will: Option<u32>) -> Outcome {
        let will = will.map(|delay| Will { message: Bytes::from(format!("{life}/{nonce}")), delay });
        let (heard, nonce, session_expiry) = (Epoch(u64::MAX), Nonce(nonce), expiry);
        self.propose(life, Proposal::Claim { key: key(), nonce, clean_start, session_expiry, heard, will })
    }

    fn release(&mut self, life: NodeLife, nonce: u64, leave: Leave) -> Outcome {
        let epoch = self.state.holder(&key()).map_or(Epoch(0), |held| held.epoch);
        self.propose(life, Proposal::Release { key: key(), nonce: Nonce(nonce), epoch, leave })
    }

    fn pass(&mut self, millis: u64) {
        self.effects.clear();
        for by in [0, millis] {
            self.millis += by;
            self.state.apply(Command::Tick { by: A, millis: self.millis }, &mut self.effects);
        }
    }

    fn expire(&mut self, life: NodeLife) {
        self.effects.clear();
        self.state.apply(Command::Expire { life }, &mut self.effects);
    }

    fn firing(&self) -> Vec<String> {
        let text = |message: &Bytes| String::from_utf8(message.to_vec()).expect("text");
        self.state.view().firing.values().map(text).collect()
    }
}

fn session(epoch: u64, id: u64, present: bool, home: Option<Home>) -> Outcome {
    Outcome::GrantedSession { epoch: Epoch(epoch), session: SessionGrant { id: SessionId(id), present, home } }
}

fn kept(expiry: u32) -> Leave {
    Leave { keep: Some(Keep { expiry: Some(expiry), home: Some(HOME) }), fire_will: true }
}

const GOODBYE: Leave = Leave { keep: None, fire_will: false };

#[test]
fn a_session_waits_for_the_next_connection_and_ends_in_its_time() {
    let mut s = Shard::default();
    assert_eq!(s.claim(A, 1, false, 100, None), session(1, 1, false, None));
    s.release(A, 1, kept(100));
    assert!(s.state.view().next_due.is_some_and(|due| due == 100_000 / 8));
    assert_eq!(s.claim(B, 1, false, 50, None), session(2, 1, true, Some(HOME)));
    assert_eq!(s.state.view().next_due, None, "not while it is served");
    s.release(B, 1, kept(50));
    s.pass(49_999);
    assert_eq!(s.effects, []);
    s.pass(1);
    assert_eq!(s.effects, [Effect::Discard { key: key(), session: SessionId(1), home: HOME }]);
    assert_eq!(s.claim(A, 2, false, 0, None), Outcome::Granted { epoch: Epoch(3), session_present: false });
}

#[test]
fn a_clean_start_begins_a_new_one_and_the_old_one_is_forgotten_at_its_home() {
    let mut s = Shard::default();
    s.claim(A, 1, true, 100, None);
    s.release(A, 1, kept(u32::MAX));
    assert_eq!(s.state.view().next_due, None, "for ever");
    assert_eq!(s.claim(B, 1, true, 100, None), session(2, 2, false, None));
    assert_eq!(s.effects, [Effect::Discard { key: key(), session: SessionId(1), home: HOME }]);
}

#[test]
fn a_connection_that_wants_no_session_any_more_goes_on_with_it_and_ends_it() {
    let mut s = Shard::default();
    s.claim(A, 1, true, 100, None);
    s.release(A, 1, kept(100));
    assert_eq!(s.claim(A, 2, false, 0, None), session(2, 1, true, Some(HOME)));
    s.release(A, 2, GOODBYE);
    assert_eq!(s.state, Shard { state: s.state.clone(), ..Shard::default() }.state);
    assert!(s.state.sessions.is_empty() && s.state.attached.is_empty() && s.state.ending.is_empty());
}

#[test]
fn subscriptions_are_kept_and_told_in_their_order_and_in_pieces() {
    let mut s = Shard::default();
    s.claim(A, 1, false, 100, None);
    let filter = |n: usize| -> Arc<str> { format!("{n:02}/{}", "x".repeat(RECALL_BYTES / 3)).into() };
    for n in 0..5 {
        let changes = vec![(filter(n), Some(n as u64))];
        let what = Proposal::Subscribe { key: key(), nonce: Nonce(1), epoch: Epoch(1), changes };
        assert_eq!(s.propose(A, what), Outcome::Done);
    }
    let gone = vec![(filter(2), None), (filter(4), Some(9))];
    s.propose(A, Proposal::Subscribe { key: key(), nonce: Nonce(1), epoch: Epoch(1), changes: gone });
    let stale = vec![("s".into(), Some(1))];
    let what = Proposal::Subscribe { key: key(), nonce: Nonce(1), epoch: Epoch(0), changes: stale };
    assert_eq!(s.propose(A, what), Outcome::Refused(Refusal::Superseded), "of an older epoch");
    s.release(A, 1, kept(100));
    s.claim(B, 5, false, 100, None);
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|(filter, _): &(Arc<str>, u64)| filter.clone());
        match s.propose(B, Proposal::Recall { key: key(), nonce: Nonce(5), after }) {
            Outcome::Subscriptions { subscriptions, more } => {
                all.extend(subscriptions);
                if !more {
                    break;
                }
                assert_eq!(all.len(), 3);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all, [(filter(0), 0), (filter(1), 1), (filter(3), 3), (filter(4), 9)]);
}

#[test]
fn p10_a_will_is_due_when_its_connection_is_lost_and_not_after_a_goodbye() {
    let mut s = Shard::default();
    s.claim(A, 1, true, 0, Some(0));
    s.release(A, 1, GOODBYE);
    assert!(s.firing().is_empty());
    s.claim(A, 2, true, 0, Some(60));
    s.release(A, 2, Leave { fire_will: true, ..GOODBYE });
    assert_eq!(s.firing(), ["1.1/2"], "its session is over, so its delay is");
    s.propose(B, Proposal::WillPublished { key: key(), epoch: Epoch(2) });
    assert!(s.firing().is_empty());
}

#[test]
fn r16_the_first_time_of_a_will_stands_and_goes_with_it() {
    let mut s = Shard::default();
    let timed = |s: &mut Shard, by, time| s.propose(by, Proposal::WillTimed { key: key(), epoch: Epoch(1), time });
    timed(&mut s, A, 4);
    assert!(s.state.will_times.is_empty(), "there is no such will");
    s.claim(A, 1, true, 0, Some(0));
    s.release(A, 1, Leave { fire_will: true, ..GOODBYE });
    timed(&mut s, A, 5);
    timed(&mut s, B, 6);
    s.state = ShardState::restore(&s.state.snapshot()).expect("its own");
    assert_eq!(s.state.view().will_times.get(&(key(), Epoch(1))), Some(&5));
    s.propose(B, Proposal::WillPublished { key: key(), epoch: Epoch(1) });
    assert!(s.state.will_times.is_empty());
}

#[test]
fn p10_a_will_waits_for_its_delay_and_a_reconnect_forestalls_it() {
    let mut s = Shard::default();
    s.claim(A, 1, false, 100, Some(10));
    s.release(A, 1, kept(100));
    s.pass(9_999);
    assert!(s.firing().is_empty());
    s.claim(A, 2, false, 100, Some(10));
    s.release(A, 2, kept(100));
    s.pass(9_999);
    assert!(s.firing().is_empty(), "the first one was forestalled");
    s.pass(1);
    assert_eq!(s.firing(), ["1.1/2"]);
    s.claim(A, 3, true, 100, Some(10));
    s.release(A, 3, kept(5));
    s.pass(5_000);
    assert_eq!(s.firing(), ["1.1/2", "1.1/3"], "due with the end of the session");
    s.claim(A, 4, false, 100, Some(10));
    s.release(A, 4, kept(100));
    s.claim(B, 1, true, 0, None);
    assert_eq!(s.firing().len(), 3, "a clean start ends the session");
}

/// The leader reads its clock seldom while all that waits is far off: the time before a connection was lost is none of
/// its will's delay, nor of its session's.
#[test]
fn p10_a_delay_does_not_begin_before_the_connection_is_lost() {
    let mut s = Shard::default();
    let read = |s: &mut Shard, millis: u64| {
        s.millis += millis;
        s.state.apply(Command::Tick { by: A, millis: s.millis }, &mut s.effects);
    };
    s.claim(A, 1, false, 12, Some(5));
    read(&mut s, 1);
    read(&mut s, 1);
    s.release(A, 1, kept(12));
    assert_eq!(s.state.view().next_due, Some(5000 / 8), "the time of its loss is to be known soon");
    s.state = ShardState::restore(&s.state.snapshot()).expect("its own");
    read(&mut s, 9_500);
    assert_eq!((s.firing().len(), s.state.view().next_due), (0, Some(5000)));
    read(&mut s, 4_999);
    assert_eq!(s.firing().len(), 0);
    read(&mut s, 1);
    assert_eq!((s.firing().len(), s.state.sessions.len()), (1, 1));
    read(&mut s, 7_000);
    assert_eq!(s.state.sessions.len(), 0);
    assert!(s.state.young.is_empty());
}

#[test]
fn p10_the_wills_of_a_node_that_died_are_due_and_its_sessions_wait() {
    let mut s = Shard::default();
    s.claim(A, 1, false, 100, Some(0));
    s.claim(B, 1, false, 100, Some(0));
    s.expire(A);
    let grant = SessionGrant { id: SessionId(1), present: true, home: None };
    let to = Claimant { life: B, nonce: Nonce(1) };
    let epoch = s.state.holder(&key()).expect("held").epoch;
    assert_eq!(s.effects, [Effect::Grant { key: key(), to, epoch, session: Some(grant) }]);
    assert_eq!(s.firing(), ["1.1/1"]);
    s.expire(B);
    assert_eq!(s.firing(), ["1.1/1", "2.1/1"]);
    assert!(s.state.attached.is_empty());
    assert_eq!(s.state.view().next_due, Some(100_000 / 8));
}

#[test]
fn who_never_served_leaves_everything_as_it_was() {
    let mut s = Shard::default();
    s.claim(A, 1, true, 100, Some(0));
    s.propose(A, Proposal::Abandon { key: key(), nonce: Nonce(1) });
    assert!(s.state.sessions.is_empty(), "it had just begun");
    s.claim(A, 2, true, 100, None);
    s.release(A, 2, kept(100));
    s.claim(B, 1, false, 7, Some(0));
    s.propose(B, Proposal::Abandon { key: key(), nonce: Nonce(1) });
    assert_eq!(s.state.view().next_due, Some(100_000 / 8));
    s.claim(B, 2, false, 7, Some(0));
    s.claim(A, 3, false, 7, Some(0));
    s.claim(B, 3, false, 7, Some(0));
    assert!(s.effects.contains(&Effect::Refuse {
        key: key(),
        to: Claimant { life: A, nonce: Nonce(3) },
        why: Refusal::Superseded
    }));
    assert_eq!(s.state.attached.len(), 2);
    assert!(s.firing().is_empty());
}

#[test]
fn a_connection_that_never_served_leaves_the_queue_where_it_is_and_the_earlier_will_waiting() {
    let mut s = Shard::default();
    s.claim(A, 1, false, 3600, Some(60));
    s.release(A, 1, kept(3600));
    s.pass(10_000);
    assert_eq!(s.claim(B, 1, false, 3600, Some(0)), session(2, 1, true, Some(HOME)));
    s.release(B, 1, Leave::NEVER_SERVED);
    s.pass(49_999);
    assert!(s.firing().is_empty());
    s.pass(1);
    assert_eq!(s.firing(), ["1.1/1"], "of the first connection, at its own time");
    assert_eq!(s.claim(B, 2, false, 3600, None), session(3, 1, true, Some(HOME)));
}

#[derive(Clone, Debug)]
enum Step {
    Claim { b: bool, nonce: u64, clean: bool, expiry: u32, will: Option<u32> },
    Release { expiry: Option<u32>, fire: bool },
    Unknown,
    Expire { b: bool },
    Pass(u64),
    Published,
}

fn step() -> impl Strategy<Value = Step> {
    let expiry = prop_oneof![Just(0_u32), Just(5), Just(u32::MAX)];
    let will = prop_oneof![Just(None), Just(Some(0_u32)), Just(Some(3))];
    prop_oneof![
        6 => (any::<bool>(), 0..9_u64, any::<bool>(), expiry.clone(), will)
            .prop_map(|(b, nonce, clean, expiry, will)| Step::Claim { b, nonce, clean, expiry, will }),
        5 => (proptest::option::of(expiry), any::<bool>()).prop_map(|(expiry, fire)| Step::Release { expiry, fire }),
        1 => Just(Step::Unknown),
        1 => any::<bool>().prop_map(|b| Step::Expire { b }),
        2 => (0..4000_u64).prop_map(Step::Pass),
        2 => Just(Step::Published),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_happens_each_will_is_due_once_and_nothing_is_left_over(steps in prop::collection::vec(step(), 1..80)) {
        let mut s = Shard::default();
        let mut lives = [A, B];
        let mut published = BTreeSet::new();
        for step in steps {
            match step {
                Step::Claim { b, nonce, clean, expiry, will } => {
                    s.claim(lives[usize::from(b)], nonce, clean, expiry, will);
                }
                Step::Release { expiry, fire } => {
                    let Some(held) = s.state.holder(&key()) else { continue };
                    let keep = expiry.map(|expiry| Keep { expiry: Some(expiry), home: Some(HOME) });
                    s.release(held.wish.by.life, held.wish.by.nonce.0, Leave { keep, fire_will: fire });
                }
                Step::Unknown => {
                    let Some(held) = s.state.holder(&key()) else { continue };
                    s.release(held.wish.by.life, held.wish.by.nonce.0, Leave::UNKNOWN);
                }
                Step::Expire { b } => {
                    let life = &mut lives[usize::from(b)];
                    s.expire(*life);
                    life.incarnation.0 += 1;
                }
                Step::Pass(millis) => s.pass(millis),
                Step::Published => {
                    let Some((key, epoch)) = s.state.firing.keys().next().cloned() else { continue };
                    prop_assert!(published.insert(epoch), "{epoch} is published twice");
                    s.propose(lives[0], Proposal::WillPublished { key, epoch });
                }
            }
            let state = &s.state;
            let copy = ShardState::restore(&state.snapshot()).expect("restores");
            prop_assert_eq!(&copy, state);
            prop_assert!(state.firing.keys().all(|(_, epoch)| !published.contains(epoch)));
            for (by, attached) in &state.attached {
                prop_assert!(!state.has_ended(by.life), "{by:?}");
                let record = state.records.get(&attached.key).expect("a record");
                prop_assert!(record.held.wish.by == *by || record.waiting.is_some_and(|w| w.by == *by));
            }
            let served = state.holder(&key()).is_some();
            for (key, session) in &state.sessions {
                prop_assert!(!served || session.ends.is_none());
                prop_assert!(session.ends.is_none_or(|ends| state.ending.contains(&(ends, key.clone()))));
            }
            prop_assert!(state.ending.len() <= state.sessions.len());
            prop_assert!(!served || state.due_wills.is_empty(), "a reconnect settles what waited");
        }
    }
}
