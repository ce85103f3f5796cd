//! Outbox and inbox, alone and against each other.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::inbox::{Arrival, Inbox, Violation};
use super::outbox::{Batch, Impossible, Outbox, Progress, Reply};
use crate::handle::Run;
use crate::ids::BrokerId;
use crate::limits::{FORWARD_BATCH_BYTES, FORWARD_WINDOW_BYTES};

fn runs(bytes: usize) -> Vec<Run> {
    vec![Run { broker: BrokerId(1), count: 1, body: Bytes::from(vec![0; bytes]), retained: Vec::new() }]
}

fn reply(accepted: u64, received: u64) -> Reply {
    Reply { accepted, received, window: FORWARD_WINDOW_BYTES }
}

fn sent(outbox: &mut Outbox) -> Vec<u64> {
    std::iter::from_fn(|| outbox.next_to_send().map(|batch| batch.seq)).collect()
}

#[test]
fn batches_are_numbered_and_sent_once() {
    let mut outbox = Outbox::default();
    assert_eq!((outbox.push(runs(1)), outbox.push(runs(1))), (Ok(1), Ok(2)));
    assert_eq!(sent(&mut outbox), [0; 0], "not connected");
    assert_eq!(outbox.on_connected(reply(0, 0)), Ok(Progress::default()));
    assert_eq!(sent(&mut outbox), [1, 2]);
    assert_eq!(outbox.push(runs(1)), Ok(3));
    assert_eq!(sent(&mut outbox), [3]);
    assert_eq!(outbox.on_reply(reply(2, 3)), Ok(Progress { accepted: Some(2), ..Progress::default() }));
    assert_eq!(outbox.on_reply(reply(2, 3)), Ok(Progress::default()));
    assert_eq!(outbox.first(), 3);
}

#[test]
fn what_the_receiver_lacks_is_sent_again() {
    let mut outbox = Outbox::default();
    (0..4).for_each(|_| drop(outbox.push(runs(1))));
    outbox.on_connected(reply(0, 0)).unwrap();
    sent(&mut outbox);
    outbox.on_disconnected();
    outbox.push(runs(1)).unwrap();
    assert_eq!(sent(&mut outbox), [0; 0]);
    assert_eq!(outbox.on_connected(reply(1, 2)), Ok(Progress { accepted: Some(1), room: false, resent: 2 }));
    assert_eq!(sent(&mut outbox), [3, 4, 5]);
}

#[test]
fn the_last_number_of_all_is_followed_by_none() {
    let mut inbox = Inbox::new(u64::MAX);
    assert_eq!(inbox.on_batch(u64::MAX - 1, 1), Ok(Arrival::Seen));
    assert_eq!(inbox.on_batch(u64::MAX, 1), Ok(Arrival::New));
    assert_eq!(inbox.on_batch(0, 1), Ok(Arrival::Seen));
    assert!(inbox.on_done(u64::MAX));
    assert!(!inbox.on_done(u64::MAX));
    assert_eq!(inbox.on_batch(u64::MAX, 1), Ok(Arrival::Seen));
    assert_eq!(inbox.reply(), reply(u64::MAX, u64::MAX));
}

#[test]
fn no_credit_gives_the_batch_back_and_room_follows() {
    let mut outbox = Outbox::default();
    outbox.on_connected(reply(0, 0)).unwrap();
    let mut taken = 0;
    while outbox.push(runs(FORWARD_BATCH_BYTES - 64)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 3);
    sent(&mut outbox);
    assert_eq!(outbox.on_reply(reply(1, 3)), Ok(Progress { accepted: Some(1), room: true, resent: 0 }));
    assert_eq!(outbox.on_reply(reply(2, 3)), Ok(Progress { accepted: Some(2), room: false, resent: 0 }), "once");
    // With the smallest window one batch still goes at a time.
    outbox.on_reply(Reply { accepted: 3, received: 3, window: 0 }).unwrap();
    assert!(outbox.push(runs(9)).is_ok());
    assert_eq!(outbox.push(runs(9)), Err(runs(9)));
}

#[test]
fn impossible_replies_change_nothing() {
    let mut outbox = Outbox::default();
    outbox.push(runs(1)).unwrap();
    assert_eq!(outbox.on_connected(reply(0, 1)), Err(Impossible), "it was never sent");
    outbox.on_connected(reply(0, 0)).unwrap();
    sent(&mut outbox);
    assert_eq!(outbox.on_reply(reply(2, 2)), Err(Impossible));
    assert_eq!(outbox.first(), 1);
}

#[test]
fn receipts_in_any_order_acknowledge_in_order() {
    let mut inbox = Inbox::new(1);
    for seq in 1..=3 {
        assert_eq!(inbox.on_batch(seq, 1), Ok(Arrival::New));
    }
    assert_eq!(inbox.on_batch(2, 1), Ok(Arrival::Seen));
    assert!(!inbox.on_done(3));
    assert!(!inbox.on_done(2));
    assert_eq!(inbox.reply(), reply(0, 3));
    assert!(inbox.on_done(1));
    assert_eq!(inbox.reply(), reply(3, 3));
    assert!(!inbox.on_done(1), "late and double receipts are nothing");
    assert_eq!(inbox.on_batch(5, 1), Err(Violation::Gap { expected: 4, got: 5 }));
}

#[test]
fn a_sender_over_its_credit_is_found_out() {
    let mut inbox = Inbox::new(1);
    assert_eq!(inbox.on_batch(1, FORWARD_WINDOW_BYTES), Ok(Arrival::New));
    assert_eq!(inbox.on_batch(2, 1), Err(Violation::OverCredit));
    inbox.on_done(1);
    assert_eq!(inbox.on_batch(2, 1), Ok(Arrival::New));
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Send,
    Arrive { twice: bool },
    Done(usize),
    Reply,
    ReplyArrives,
    Break,
    Connect,
}

/// One stream over a connection that loses everything under way when it breaks.
#[derive(Default)]
struct World {
    outbox: Outbox,
    inbox: Option<Inbox>,
    batches: VecDeque<Batch>,
    replies: VecDeque<Reply>,
    connected: bool,
    pushed: u64,
    delivered: Vec<u64>,
    undone: Vec<u64>,
    accepted: u64,
}

impl World {
    fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_with(|| Inbox::new(1))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Push(bytes) => self.pushed += u64::from(self.outbox.push(runs(bytes)).is_ok()),
            Step::Send => self.batches.extend(self.outbox.next_to_send().cloned()),
            Step::Arrive { twice } => self.arrive(twice),
            Step::Done(which) if !self.undone.is_empty() => {
                let seq = self.undone.swap_remove(which % self.undone.len());
                self.inbox().on_done(seq);
            }
            Step::Reply if self.connected => {
                let reply = self.inbox().reply();
                self.replies.push_back(reply);
            }
            Step::ReplyArrives => {
                if let Some(reply) = self.replies.pop_front() {
                    let progress = self.outbox.on_reply(reply).unwrap();
                    self.progress(progress);
                }
            }
            Step::Break => {
                self.connected = false;
                self.batches.clear();
                self.replies.clear();
                self.outbox.on_disconnected();
            }
            Step::Connect if !self.connected => {
                self.connected = true;
                let reply = self.inbox().reply();
                let progress = self.outbox.on_connected(reply).unwrap();
                self.progress(progress);
            }
            Step::Done(_) | Step::Reply | Step::Connect => {}
        }
    }

    fn arrive(&mut self, twice: bool) {
        let Some(batch) = self.batches.pop_front() else { return };
        let cost = super::outbox::cost(&batch.runs);
        for _ in 0..=usize::from(twice) {
            if self.inbox().on_batch(batch.seq, cost).unwrap() == Arrival::New {
                self.delivered.push(batch.seq);
                self.undone.push(batch.seq);
            }
        }
    }

    fn progress(&mut self, progress: Progress) {
        if let Some(through) = progress.accepted {
            assert!(through > self.accepted);
            assert!(self.undone.iter().all(|seq| *seq > through), "accepted only what is done");
            self.accepted = through;
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..FORWARD_BATCH_BYTES).prop_map(Step::Push),
        8 => Just(Step::Send),
        8 => any::<bool>().prop_map(|twice| Step::Arrive { twice }),
        8 => any::<usize>().prop_map(Step::Done),
        8 => Just(Step::Reply),
        8 => Just(Step::ReplyArrives),
        1 => Just(Step::Break),
        4 => Just(Step::Connect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everything_arrives_once_and_in_order(steps in proptest::collection::vec(step(), 0..400)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        world.take(Step::Connect);
        for _ in 0..=world.pushed {
            for step in [Step::Send, Step::Arrive { twice: false }, Step::Done(0), Step::Reply] {
                world.take(step);
            }
        }
        while !world.replies.is_empty() {
            world.take(Step::ReplyArrives);
        }
        prop_assert_eq!(world.delivered, (1..=world.pushed).collect::<Vec<_>>());
        prop_assert_eq!(world.accepted, world.pushed);
    }
}
