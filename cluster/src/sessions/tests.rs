use super::*;
use crate::consensus::Replicated;
use crate::ids::{BrokerId, Epoch, Incarnation, LogIndex, NodeId, NodeLife, Nonce};

fn life(node: u64, incarnation: u64) -> NodeLife {
    NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn who(node: u64, incarnation: u64, nonce: u64) -> Claimant {
    Claimant { life: life(node, incarnation), nonce: Nonce(nonce) }
}

fn key(client: &str) -> ClaimKey {
    ClaimKey { broker: BrokerId(7), client: client.into() }
}

fn claim(client: &str, by: Claimant) -> Command {
    Command::Claim { key: key(client), by, clean_start: true, session_expiry: 0 }
}

fn release(client: &str, by: Claimant, epoch: u64) -> Command {
    Command::Release { key: key(client), by, epoch: Epoch(epoch) }
}

fn granted(epoch: u64) -> Outcome {
    Outcome::Granted { epoch: Epoch(epoch), session_present: false }
}

fn grant(client: &str, to: Claimant, epoch: u64) -> Effect {
    Effect::Grant { key: key(client), to, epoch: Epoch(epoch), session: None }
}

fn run(state: &mut ShardState, command: Command) -> (Outcome, Vec<Effect>) {
    let mut out = Vec::new();
    let outcome = state.apply(command, &mut out);
    (outcome, out)
}

const A: Claimant = Claimant { life: NodeLife { node: NodeId(1), incarnation: Incarnation(1) }, nonce: Nonce(1) };
const B: Claimant = Claimant { life: NodeLife { node: NodeId(2), incarnation: Incarnation(1) }, nonce: Nonce(1) };
const C: Claimant = Claimant { life: NodeLife { node: NodeId(3), incarnation: Incarnation(1) }, nonce: Nonce(1) };

#[test]
fn a_free_claim_costs_one_command() {
    let mut s = ShardState::default();
    assert_eq!(run(&mut s, claim("c", A)), (granted(1), vec![]));
    assert_eq!(run(&mut s, claim("c", A)), (granted(1), vec![]));
    assert_eq!(s.holder(&key("c")).map(|h| h.wish.by), Some(A));
    assert!(s.view().pending.is_empty());
}

#[test]
fn a_takeover_revokes_then_grants() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    let revoke = Effect::Revoke { key: key("c"), holder: A, epoch: Epoch(1) };
    assert_eq!(run(&mut s, claim("c", B)), (Outcome::Waiting { holder: A }, vec![revoke]));
    assert_eq!(run(&mut s, claim("c", B)), (Outcome::Waiting { holder: A }, vec![]));
    assert_eq!(s.view().pending.get(&key("c")), Some(&Revocation { holder: A, epoch: Epoch(1), next: B }));
    assert_eq!(run(&mut s, release("c", A, 1)), (Outcome::Done, vec![grant("c", B, 2)]));
    assert_eq!(run(&mut s, claim("c", B)), (granted(2), vec![]));
    assert!(s.view().pending.is_empty());
    assert_eq!(s.view().lives.into_iter().collect::<Vec<_>>(), vec![(B.life, 1)]);
}

#[test]
fn a_newer_claim_replaces_the_waiting_one_for_good() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, claim("c", B));
    let refuse = Effect::Refuse { key: key("c"), to: B, why: Refusal::Superseded };
    assert_eq!(run(&mut s, claim("c", C)), (Outcome::Waiting { holder: A }, vec![refuse]));
    assert_eq!(run(&mut s, claim("c", B)), (Outcome::Refused(Refusal::Superseded), vec![]));
    assert_eq!(run(&mut s, release("c", A, 1)), (Outcome::Done, vec![grant("c", C, 2)]));
    assert_eq!(run(&mut s, claim("c", A)), (Outcome::Refused(Refusal::Superseded), vec![]));
}

#[test]
fn only_the_epoch_that_was_granted_releases() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, release("c", A, 9));
    run(&mut s, release("c", B, 1));
    assert_eq!(s.len(), 1);
    run(&mut s, release("c", A, 1));
    assert!(s.is_empty());
    assert_eq!(run(&mut s, claim("c", A)), (granted(2), vec![]));
}

#[test]
fn abandoning_ends_a_waiting_claim_or_a_grant() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, claim("c", B));
    assert_eq!(run(&mut s, Command::Abandon { key: key("c"), by: B }), (Outcome::Done, vec![]));
    assert!(s.view().pending.is_empty());
    assert_eq!(s.holder(&key("c")).map(|h| h.wish.by), Some(A));
    run(&mut s, Command::Abandon { key: key("c"), by: A });
    assert!(s.is_empty() && s.view().lives.is_empty());
}

#[test]
fn claims_of_an_ended_life_are_free_without_a_sweep() {
    let mut s = ShardState::default();
    for n in 0..500 {
        run(&mut s, claim(&format!("c{n:03}"), A));
    }
    run(&mut s, claim("c499", B));
    assert_eq!(run(&mut s, Command::Expire { life: A.life }), (Outcome::Done, vec![grant("c499", B, 501)]));
    assert_eq!(run(&mut s, claim("c300", C)), (granted(502), vec![]));
    assert_eq!(s.holder(&key("c400")), None);
    assert_eq!(run(&mut s, claim("c400", A)), (Outcome::Refused(Refusal::Expired), vec![]));
    while s.view().wants_ticks {
        run(&mut s, Command::Tick { by: B.life, millis: 0 });
        run(&mut s, Command::Tick { by: B.life, millis: 1_000_000 });
    }
    assert_eq!(s.len(), 2);
    assert_eq!(s.view().lives.get(&A.life), None);
}

#[test]
fn a_restarted_node_is_not_locked_out_by_its_earlier_life() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, claim("d", A));
    run(&mut s, claim("d", B));
    let reborn = who(1, 2, 1);
    assert_eq!(run(&mut s, claim("c", reborn)), (granted(4), vec![grant("d", B, 3)]));
}

#[test]
fn a_waiting_claim_of_an_ended_life_waits_no_more() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, claim("c", B));
    assert_eq!(run(&mut s, Command::Expire { life: B.life }), (Outcome::Done, vec![]));
    assert!(s.view().pending.is_empty());
    run(&mut s, release("c", A, 1));
    assert!(s.is_empty());
}

#[test]
fn holder_and_waiting_may_end_together() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    run(&mut s, claim("c", who(1, 1, 2)));
    assert_eq!(run(&mut s, Command::Expire { life: A.life }), (Outcome::Done, vec![]));
    assert_eq!(run(&mut s, claim("c", B)), (granted(2), vec![]));
}

#[test]
fn takeovers_are_limited_in_shard_time() {
    let mut s = ShardState::default();
    run(&mut s, claim("c", A));
    for n in 0..u64::from(TAKEOVER_BURST) {
        assert!(matches!(run(&mut s, claim("c", who(2, 1, 100 + n))).0, Outcome::Waiting { .. }));
    }
    assert_eq!(run(&mut s, claim("c", who(2, 1, 900))).0, Outcome::Refused(Refusal::TooFast));
    run(&mut s, Command::Tick { by: A.life, millis: 1000 });
    // Another node's clock adds nothing at first, nor does a tick that comes twice.
    run(&mut s, Command::Tick { by: B.life, millis: 999_999 });
    run(&mut s, Command::Tick { by: B.life, millis: 999_999 });
    assert_eq!(run(&mut s, claim("c", who(2, 1, 900))).0, Outcome::Refused(Refusal::TooFast));
    run(&mut s, Command::Tick { by: B.life, millis: 999_999 + TAKEOVER_REFILL_MILLIS });
    assert!(matches!(run(&mut s, claim("c", who(2, 1, 900))).0, Outcome::Waiting { .. }));
    assert!(s.view().wants_ticks);
    run(&mut s, Command::Tick { by: B.life, millis: 2_000_000 });
    assert!(!s.view().wants_ticks);
}

#[derive(Default)]
struct Seen(Vec<(LogIndex, usize, Vec<Effect>)>, std::sync::Arc<std::sync::atomic::AtomicUsize>);
impl Observer for Seen {
    fn applied(&mut self, index: LogIndex, view: ShardView, effects: Vec<Effect>) {
        self.1.fetch_add(effects.len(), std::sync::atomic::Ordering::Relaxed);
        self.0.push((index, view.pending.len(), effects));
    }
}

#[test]
fn the_machine_shows_each_run_to_its_observer() {
    let mut m = Machine::new(Seen::default());
    let out = m.apply(LogIndex(1), &claim("c", A).encode()).unwrap();
    assert_eq!(Outcome::decode(&out), Ok(granted(1)));
    m.apply(LogIndex(1), &claim("c", B).encode()).unwrap();
    m.applied(LogIndex(1));
    let snapshot = m.snapshot();
    let mut copy = Machine::new(Seen::default());
    copy.restore(&snapshot).unwrap();
    copy.applied(LogIndex(1));
    assert_eq!(copy.state(), m.state());
    assert_eq!(copy.snapshot(), snapshot);
}

#[test]
fn what_is_not_known_stops_the_replica() {
    let mut m = Machine::new(Seen::default());
    let mut bytes = claim("c", A).encode().to_vec();
    bytes[0] = 2;
    assert!(m.apply(LogIndex(1), &bytes).is_err());
    assert!(m.apply(LogIndex(1), &[]).is_err());
    assert!(m.apply(LogIndex(1), &[1, 200]).is_err());
    assert!(m.restore(&[9]).is_err());
    bytes[0] = 1;
    bytes.push(0);
    assert!(m.apply(LogIndex(1), &bytes).is_err());
}
