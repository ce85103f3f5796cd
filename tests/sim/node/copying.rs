//! The glue between nodes' stores: who must take a retained message, and copying what is lacking, as
//! `forward::retained` has it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{BrokerId, NodeId, NodeLife};
use rookery_cluster::limits::RETAINED_COMPARE_EVERY;
use rookery_cluster::retained::store::Write;
use rookery_cluster::retained::{Ask, Comparison, Copied, Digests, Next, Pages, Record, Time};

use super::forward::ANSWER_TIMEOUT;
use super::retained::News;
use super::worker::Mail;
use crate::net::Once;
use crate::world::{Sabotage, World};

/// Answers are small, so that few messages make several.
const ANSWER: Pages = Pages { messages: 2, bytes: 1000, steps: 3 };

/// A comparison that is under way.
#[derive(Clone)]
struct Running {
    own: NodeLife,
    peer: NodeLife,
    began: Moment,
    comparison: Rc<RefCell<Comparison>>,
}

enum Answer {
    Digests { brokers: Vec<(BrokerId, Digests)>, more: bool, sound: bool, latest: Time },
    Records { broker: BrokerId, records: Vec<(String, Record)>, next: Option<String> },
}

impl World {
    /// The live peers are others now.
    pub fn retained_live(&mut self, own: NodeLife, live: BTreeSet<NodeId>) {
        if let Some(broker) = &mut self.node(own.node).broker {
            broker.copying.others_changed(|replication| replication.on_live(&live));
        }
        self.check_gate(own);
    }

    /// Tells the workers, once each, that this node's time is in step and that it has everything.
    pub fn check_gate(&mut self, own: NodeLife) {
        let Some(store) = self.store(own.node) else { return };
        let trusting = self.cfg.sabotage == Sabotage::AnswerAtOnce;
        let Some(broker) = self.node(own.node).broker.as_mut().filter(|b| b.life == own) else { return };
        if broker.copying.replication.falls_in_step() {
            (0..self.cfg.workers).for_each(|worker| self.post(own, worker, Mail::Retained(News::InStep)));
        }
        let (now, live) = (self.local(own.node), self.node(own.node).live());
        let Some(broker) = self.node(own.node).broker.as_mut() else { return };
        if broker.copying.replication.again(now) {
            let waits = |peer: &NodeLife| broker.copying.replication.copies_from(peer.node);
            let again: Vec<NodeLife> = live.into_iter().filter(waits).collect();
            again.into_iter().for_each(|peer| self.compare(own, peer));
        }
        let Some(broker) = self.node(own.node).broker.as_mut() else { return };
        let complete = broker.copying.replication.completes(store.sound()) || (trusting && !broker.copying.complete);
        if !complete {
            return;
        }
        broker.copying.complete = true;
        self.note(|| format!("node {}: has all retained messages", own.node));
        store.caught_up();
        self.store_turn_soon(own.node);
        (0..self.cfg.workers).for_each(|worker| self.post(own, worker, Mail::Retained(News::Complete)));
        self.retained_tick(own);
    }

    fn retained_tick(&mut self, own: NodeLife) {
        let now = self.local(own.node);
        let Some(store) = self.store(own.node) else { return };
        let node = self.node(own.node);
        let Some(broker) = node.broker.as_ref().filter(|b| node.up && b.life == own) else { return };
        store.tick(broker.copying.replication.confirmed(now));
        self.p09_ticked(own.node);
        self.after(RETAINED_COMPARE_EVERY, move |w| {
            let Some(store) = w.store(own.node).filter(|_| w.forward(own).is_some()) else { return };
            store.caught_up();
            w.store_turn_soon(own.node);
            w.retained_tick(own);
        });
    }

    /// Copies from one peer life what this node lacks, at once and then every now and then, while both live.
    pub fn compare(&mut self, own: NodeLife, peer: NodeLife) {
        let Some(forward) = self.forward(own).filter(|f| f.knows(peer)) else { return };
        if !forward.hub.heard_by(peer) {
            return self.after(Duration::from_millis(20), move |w| w.compare(own, peer));
        }
        let (comparison, ask) = Comparison::begin();
        let began = self.local(own.node);
        self.ask_peer(Running { own, peer, began, comparison: Rc::new(RefCell::new(comparison)) }, ask);
    }

    fn ask_peer(&mut self, it: Running, ask: Ask) {
        let (own, peer) = (it.own, it.peer);
        let answered = Once::new(move |w: &mut World, answer: Option<Answer>| match answer {
            Some(answer) => w.on_answer(it, answer),
            None => w.compare_again(own, peer),
        });
        let late = answered.clone();
        self.after(ANSWER_TIMEOUT, move |w| late.call(w, None));
        self.datagram(own.node, peer.node, "compare", move |w| {
            let answer = w.answer(peer, own, &ask);
            w.datagram(peer.node, own.node, "compared", move |w| answered.call(w, answer));
        });
    }

    fn compare_again(&mut self, own: NodeLife, peer: NodeLife) {
        let pause = self.rng.millis(50, 1000);
        self.after(pause, move |w| w.compare(own, peer));
    }

    /// `own` is asked by `peer`.
    fn answer(&mut self, own: NodeLife, peer: NodeLife, ask: &Ask) -> Option<Answer> {
        self.forward(own).filter(|f| f.knows(peer))?;
        let store = self.store(own.node)?;
        Some(match ask {
            Ask::Digests(after) => {
                let brokers = store.digests(*after, 1);
                Answer::Digests { more: !brokers.is_empty(), brokers, sound: store.sound(), latest: store.latest() }
            }
            Ask::Records { broker, buckets, after } => {
                let (records, next) = store.records(*broker, *buckets, after.as_deref(), ANSWER);
                Answer::Records { broker: *broker, records, next }
            }
        })
    }

    fn on_answer(&mut self, it: Running, answer: Answer) {
        let (own, peer) = (it.own, it.peer);
        if !self.forward(own).is_some_and(|f| f.knows(peer)) {
            return;
        }
        let Some(store) = self.store(own.node) else { return };
        let next = match answer {
            Answer::Digests { brokers, more, sound, latest } => {
                let follows = store.follow(latest).is_ok();
                let Some(broker) = &mut self.node(own.node).broker else { return };
                if !follows && broker.copying.replication.waits_for(peer.node) {
                    return self.compare_again(own, peer);
                }
                broker.copying.replication.on_followed(peer.node);
                self.check_gate(own);
                it.comparison.borrow_mut().on_digests(&brokers, more, sound, |broker| store.digests_of(broker))
            }
            Answer::Records { broker, records, next } => {
                let write = |(topic, record): (String, Record)| Write { broker, topic: Arc::from(topic), record };
                let writes: Vec<Write> = records.into_iter().map(write).collect();
                let Some(took) = self.take_copied(own.node, &writes) else { return self.compare_again(own, peer) };
                it.comparison.borrow_mut().on_records(took, next)
            }
        };
        match next {
            Next::Ask(ask) => self.ask_peer(it, ask),
            Next::Done(copied) => self.copied(it, copied),
        }
    }

    fn copied(&mut self, it: Running, copied: Copied) {
        let Running { own, peer, began, .. } = it;
        if let Some(broker) = &mut self.node(own.node).broker {
            broker.copying.replication.on_copied(peer.node, began, copied);
        }
        self.check_gate(own);
        self.after(RETAINED_COMPARE_EVERY, move |w| w.compare(own, peer));
    }

    /// Whether the store answers its subscribers.
    pub fn has_all_retained(&mut self, node: NodeId) -> bool {
        self.node(node).broker.as_ref().is_some_and(|b| b.copying.complete)
    }

    /// What the node would show a subscriber now.
    pub fn shown(&mut self, node: NodeId) -> Vec<(String, Record)> {
        let wall = self.wall(node);
        self.records(node).into_iter().filter(|(_, record)| !record.gone(wall)).collect()
    }
}
