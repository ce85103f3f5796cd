//! What one hub answers to one input. `sim.rs` has whole clusters of them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Moment;
use crate::handle::Holder;
use crate::limits;

mod sim;

const W0: WorkerId = WorkerId(0);
const W1: WorkerId = WorkerId(1);
const B: BrokerId = BrokerId(7);
const P2: NodeLife = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };

fn interest(filter: &str) -> Interest {
    Interest { broker: B, filter: filter.into() }
}

fn add(holder: Holder, filter: &str) -> InterestChange {
    InterestChange::Add { holder, broker: B, filter: filter.into() }
}

fn list(worker: WorkerId, token: u64, changes: &[InterestChange]) -> Output {
    Output::Interest { worker, token, changes: Arc::from(changes) }
}

fn snapshot(seq: u64, filters: &[&str]) -> Message {
    Message { seq, content: Content::Snapshot(filters.iter().map(|f| interest(f)).collect()) }
}

fn changes(seq: u64, filters: &[(&str, bool)]) -> Message {
    Message { seq, content: Content::Changes(filters.iter().map(|(f, wanted)| (interest(f), *wanted)).collect()) }
}

fn at(millis: u64) -> Moment {
    Moment(Duration::from_millis(millis))
}

fn step(hub: &mut Hub, input: Input) -> Vec<Output> {
    step_at(hub, 0, input)
}

fn step_at(hub: &mut Hub, millis: u64, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    hub.step(at(millis), input, &mut out);
    out
}

fn live(nodes: &[(u64, u64)]) -> Input {
    Input::Live(nodes.iter().map(|(node, life)| (NodeId(*node), Incarnation(*life))).collect())
}

fn subscribe(worker: WorkerId, filter: &str, token: u64) -> Input {
    Input::Subscribe { worker, interest: interest(filter), token }
}

fn seen(worker: WorkerId, token: u64) -> Input {
    Input::Seen { worker, token }
}

fn serving(workers: &[WorkerId]) -> Output {
    Output::Serving { broker: B, workers: workers.to_vec() }
}

/// A hub of two workers with peer 2, both links up and both snapshots seen.
fn settled() -> Hub {
    let mut hub = Hub::new(2);
    for input in [
        live(&[(2, 1)]),
        Input::Connected { peer: P2, link: 1 },
        Input::Acknowledged { peer: P2, link: 1, through: 1 },
        Input::Opened { peer: P2, link: 1 },
        Input::Received { peer: P2, link: 1, message: snapshot(1, &[]) },
        seen(W0, 1),
        seen(W1, 1),
    ] {
        step(&mut hub, input);
    }
    hub
}

#[test]
fn alone_with_one_worker_nothing_is_waited_for() {
    let mut hub = Hub::new(1);
    assert_eq!(step(&mut hub, live(&[])), [Output::Complete]);
    assert_eq!(
        step(&mut hub, subscribe(W0, "a", 9)),
        [serving(&[W0]), Output::Barrier { worker: W0, token: 9, seen: true }]
    );
    assert_eq!(step(&mut hub, Input::Unsubscribe { worker: W0, interest: interest("a") }), [serving(&[])]);
    assert_eq!(hub.next_wakeup(), None);
}

#[test]
fn nothing_is_complete_before_the_live_set_is_known() {
    let mut hub = Hub::new(1);
    assert_eq!(step(&mut hub, Input::Tick), []);
}

#[test]
fn the_other_workers_see_a_filter_before_its_barrier_ends() {
    let mut hub = Hub::new(2);
    step(&mut hub, live(&[]));
    assert_eq!(step(&mut hub, subscribe(W0, "a", 9)), [serving(&[W0]), list(W1, 1, &[add(Holder::Worker(W0), "a")])]);
    assert_eq!(step(&mut hub, seen(W1, 1)), [Output::Barrier { worker: W0, token: 9, seen: true }]);
}

#[test]
fn a_live_peer_acknowledges_before_the_barrier_ends() {
    let mut hub = settled();
    assert_eq!(
        step(&mut hub, subscribe(W0, "a", 9)),
        [
            serving(&[W0]),
            list(W1, 2, &[add(Holder::Worker(W0), "a")]),
            Output::Send { peer: P2, link: 1, message: changes(2, &[("a", true)]) },
        ]
    );
    assert_eq!(step(&mut hub, seen(W1, 2)), []);
    assert_eq!(
        step(&mut hub, Input::Acknowledged { peer: P2, link: 1, through: 2 }),
        [Output::Barrier { worker: W0, token: 9, seen: true }]
    );
    // The second holder changes nothing for the peer.
    assert_eq!(
        step(&mut hub, subscribe(W1, "a", 4)),
        [serving(&[W0, W1]), list(W0, 3, &[add(Holder::Worker(W1), "a")])]
    );
}

#[test]
fn a_barrier_times_out_and_is_counted() {
    let mut hub = settled();
    step_at(&mut hub, 100, subscribe(W0, "a", 9));
    let deadline = at(100) + limits::SUBACK_BARRIER;
    assert_eq!(hub.next_wakeup(), Some(deadline));
    let mut out = Vec::new();
    hub.step(deadline, Input::Tick, &mut out);
    assert_eq!(out, [Output::Barrier { worker: W0, token: 9, seen: false }]);
    assert_eq!(hub.stats(), Stats { barriers_timed_out: 1, ..Stats::default() });
    // The late acknowledgement ends nothing twice.
    step(&mut hub, seen(W1, 2));
    assert_eq!(step(&mut hub, Input::Acknowledged { peer: P2, link: 1, through: 2 }), []);
}

#[test]
fn a_peer_that_expires_is_no_longer_waited_for() {
    let mut hub = settled();
    step(&mut hub, Input::Received { peer: P2, link: 1, message: changes(2, &[("x", true)]) });
    step(&mut hub, seen(W0, 2));
    step(&mut hub, subscribe(W0, "a", 9));
    step(&mut hub, seen(W1, 3));
    let clear = [InterestChange::Clear { holder: Holder::Peer(P2.node) }];
    assert_eq!(
        step(&mut hub, live(&[(2, 2)])),
        [
            Output::Expired { peer: P2, token: 4 },
            list(W0, 4, &clear),
            list(W1, 4, &clear),
            Output::Barrier { worker: W0, token: 9, seen: true },
        ]
    );
    // Its new life is another peer; what the old one's links still bring is nothing.
    assert_eq!(step(&mut hub, Input::Acknowledged { peer: P2, link: 1, through: 2 }), []);
    assert_eq!(step(&mut hub, Input::Opened { peer: P2, link: 2 }), [Output::Close { peer: P2, link: 2 }]);
}

#[test]
fn a_message_is_acknowledged_when_all_workers_have_seen_it() {
    let mut hub = Hub::new(2);
    step(&mut hub, live(&[(2, 1)]));
    step(&mut hub, Input::Opened { peer: P2, link: 1 });
    // Its first snapshot is heard of by all workers, whatever it says.
    let x = [InterestChange::Clear { holder: Holder::Peer(P2.node) }, add(Holder::Peer(P2.node), "x")];
    assert_eq!(
        step(&mut hub, Input::Received { peer: P2, link: 1, message: snapshot(1, &["x"]) }),
        [list(W0, 1, &x), list(W1, 1, &x)]
    );
    assert_eq!(step(&mut hub, seen(W1, 1)), []);
    assert_eq!(step(&mut hub, seen(W0, 1)), [Output::Acknowledge { peer: P2, link: 1, through: 1 }, Output::Complete]);
    // A double is acknowledged again and changes nothing.
    assert_eq!(
        step(&mut hub, Input::Received { peer: P2, link: 1, message: changes(1, &[("x", false)]) }),
        [Output::Acknowledge { peer: P2, link: 1, through: 1 }]
    );
    // A gap closes the link, and what was known stays (R11).
    assert_eq!(
        step(&mut hub, Input::Received { peer: P2, link: 1, message: changes(3, &[("x", false)]) }),
        [Output::Close { peer: P2, link: 1 }]
    );
    assert_eq!(hub.wanted_by(P2.node).map(|w| w.len()), Some(1));
    // The next link's snapshot says only what is new.
    step(&mut hub, Input::Opened { peer: P2, link: 2 });
    let out = step(&mut hub, Input::Received { peer: P2, link: 2, message: snapshot(4, &["x", "y"]) });
    assert_eq!(out[0], list(W0, 2, &[add(Holder::Peer(P2.node), "y")]));
    // Nothing of the replaced link counts any more.
    assert_eq!(step(&mut hub, Input::Received { peer: P2, link: 1, message: changes(5, &[("x", false)]) }), []);
}

#[test]
fn changes_gather_while_enough_is_in_flight() {
    let mut hub = settled();
    let mut sent = 0;
    for i in 0..20 {
        let out = step(&mut hub, subscribe(W0, &format!("f{i}"), i));
        sent += out.iter().filter(|o| matches!(o, Output::Send { .. })).count();
    }
    assert_eq!(sent as u64, IN_FLIGHT);
    step(&mut hub, Input::Unsubscribe { worker: W0, interest: interest("f19") });
    let out = step(&mut hub, Input::Acknowledged { peer: P2, link: 1, through: 5 });
    let Some(Output::Send { message: Message { seq: 6, content: Content::Changes(changes) }, .. }) = out.first() else {
        panic!("{out:?}")
    };
    assert_eq!(changes.len(), 16);
    assert_eq!(changes.get(&interest("f19")), Some(&false));
}

#[test]
fn a_new_link_begins_with_a_snapshot() {
    let mut hub = settled();
    step(&mut hub, subscribe(W0, "a", 1));
    step(&mut hub, Input::Disconnected { peer: P2, link: 1 });
    step(&mut hub, subscribe(W0, "b", 2));
    step(&mut hub, seen(W1, 3));
    assert_eq!(
        step(&mut hub, Input::Connected { peer: P2, link: 2 }),
        [Output::Send { peer: P2, link: 2, message: snapshot(3, &["a", "b"]) }]
    );
    assert_eq!(step(&mut hub, Input::Acknowledged { peer: P2, link: 1, through: 3 }), []);
    assert_eq!(
        step(&mut hub, Input::Acknowledged { peer: P2, link: 2, through: 3 }),
        [1, 2].map(|token| Output::Barrier { worker: W0, token, seen: true })
    );
}

#[test]
fn workers_hear_of_a_peer_that_wants_nothing() {
    let mut hub = Hub::new(1);
    step(&mut hub, live(&[(2, 1)]));
    step(&mut hub, Input::Opened { peer: P2, link: 1 });
    let clear = [InterestChange::Clear { holder: Holder::Peer(P2.node) }];
    assert_eq!(
        step(&mut hub, Input::Received { peer: P2, link: 1, message: snapshot(1, &[]) }),
        [list(W0, 1, &clear)],
        "it is not acknowledged before they have handed on what they gathered without it"
    );
    assert_eq!(step(&mut hub, seen(W0, 1)), [Output::Acknowledge { peer: P2, link: 1, through: 1 }, Output::Complete]);
}
