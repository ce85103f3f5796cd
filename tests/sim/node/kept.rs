//! The glue of sessions that outlive their connections, and of wills: what workers have their shards store and read,
//! sessions on their way between workers, and the leader's wills; as `claims::durable`, `control::handover` and
//! `broker::worker` have it.

use std::cell::Cell;
use std::rc::Rc;

use rookery::broker::core::{ConnKey, Effect, Fetched, Input};
use rookery_cluster::handle::{ClaimEvent, FiringWill, Holder, Home, SessionAsked, Subscription};
use rookery_cluster::ids::{BrokerId, Epoch, GroupId, NodeId, NodeLife, Nonce, WillName, WorkerId};
use rookery_cluster::limits::{CLAIM_TIMEOUT, SESSION_FENCE_TIMEOUT, SESSION_FETCH_TIMEOUT};
use rookery_cluster::retained::Time;
use rookery_cluster::sessions::{ClaimKey, Claimant, Outcome, Proposal, Refusal, ShardView};

use super::worker::Mail;
use crate::net::Once;
use crate::world::{Proc, Sabotage, World};

const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
const CONFIRM_AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// What is asked of the worker that keeps a session, and the life for which.
#[derive(Clone)]
pub struct Asked {
    pub what: SessionAsked,
    pub by: NodeLife,
}

impl World {
    pub fn session_effect(&mut self, life: NodeLife, worker: u16, effect: Effect) {
        match effect {
            Effect::Persist { broker, client, epoch, nonce, token, changes } => {
                let key = ClaimKey { broker, client };
                let what = Proposal::Subscribe { key: key.clone(), nonce, epoch, changes };
                self.persist(life.node, key, nonce, token, what);
            }
            Effect::Recall { broker, client, nonce } => {
                self.recall(life.node, worker, ClaimKey { broker, client }, nonce);
            }
            Effect::Fetch { conn, home, asked: what } => self.fetch(life, worker, conn, home, Asked { what, by: life }),
            Effect::Answer { ticket, reply } => {
                let answer = self.worker(life, worker).and_then(|it| it.tickets.remove(&ticket));
                if let Some((asked, answer)) = answer {
                    let forget = self.cfg.sabotage == Sabotage::ForgetQueue && asked.what.take;
                    let reply = if forget { Fetched::Gone } else { reply };
                    if let Fetched::State(_) = reply {
                        self.kept_moves(&asked.what.client, asked.by);
                    }
                    answer.call(self, reply);
                }
            }
            Effect::Drained { ticket } => {
                let drain = self.worker(life, worker).and_then(|it| it.drains.remove(&ticket));
                if let Some(drain) = drain {
                    drain.call(self, ());
                }
            }
            Effect::WillPublished { token } => {
                self.p10_accepted(life, token);
                self.will_published(life.node, token);
            }
            Effect::TimeWill { token, time } => self.will_timed(life.node, token, time),
            Effect::WillRefused { token } => self.node(life.node).claims.shepherd.wills.forget(token),
            other => self.broken(format!("node {}: {other:?} is not of a session", life.node)),
        }
    }

    // ---- what the shard keeps ----

    fn persist(&mut self, node: NodeId, key: ClaimKey, nonce: Nonce, token: u64, what: Proposal) {
        let at = self.proc(node);
        let Some((by, worker)) = self.node(node).claims.registry.holder(nonce) else { return };
        let stored = Once::new(move |w: &mut World, outcome: Option<Outcome>| {
            let stored = matches!(outcome, Some(Outcome::Done | Outcome::Spent));
            let full = outcome == Some(Outcome::Refused(Refusal::Full));
            let persisted = ClaimEvent::Persisted { nonce, token, stored };
            w.post_claim(node, worker, if full { ClaimEvent::NoRoom { nonce, token } } else { persisted });
        });
        if self.cfg.sabotage == Sabotage::PersistNothing {
            return stored.call(self, Some(Outcome::Done));
        }
        // A task of its own proposes it.
        let soon = self.rng.micros(1, 300);
        self.later(at, soon, move |w| w.tell(at, by, &key, what, stored));
    }

    fn recall(&mut self, node: NodeId, worker: u16, key: ClaimKey, nonce: Nonce) {
        let at = self.proc(node);
        let Some(life) = self.node(node).broker.as_ref().map(|b| b.life) else { return };
        let here = Home { life, worker: WorkerId(worker) };
        self.fence(life, key.broker, here, move |w, clear| match w.node(node).claims.registry.holder(nonce) {
            Some((by, worker)) if clear => w.recall_more(at, by, key, worker, Vec::new()),
            _ => w.post_claim(node, here.worker, ClaimEvent::Recalled { nonce, subscriptions: None }),
        });
    }

    fn recall_more(&mut self, at: Proc, by: Claimant, key: ClaimKey, worker: WorkerId, all: Vec<Subscription>) {
        let after = all.last().map(|(filter, _)| filter.clone());
        let what = Proposal::Recall { key: key.clone(), nonce: by.nonce, after };
        let again = key.clone();
        let told = Once::new(move |w: &mut World, outcome| {
            let mut all = all;
            let subscriptions = match outcome {
                Some(Outcome::Subscriptions { subscriptions, more }) => {
                    all.extend(subscriptions);
                    if more {
                        return w.recall_more(at, by, again, worker, all);
                    }
                    Some(all)
                }
                _ => None,
            };
            w.post_claim(at.node, worker, ClaimEvent::Recalled { nonce: by.nonce, subscriptions });
        });
        self.tell(at, by, &key, what, told);
    }

    /// Proposes, and gives the outcome, or none if it takes too long.
    fn tell(&mut self, at: Proc, by: Claimant, key: &ClaimKey, what: Proposal, then: Once<Option<Outcome>>) {
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let answered = then.clone();
        let ticket = self.put_in(at, by.life, group, what, move |w, outcome| answered.call(w, Some(outcome)));
        let Some(ticket) = ticket else { return then.call(self, None) };
        self.later(at, CLAIM_TIMEOUT, move |w| {
            w.give_up_ticket(at, group, ticket);
            then.call(w, None);
        });
        self.hand_over(at, group);
    }

    // ---- sessions on their way ----

    fn fetch(&mut self, life: NodeLife, worker: u16, conn: ConnKey, home: Home, asked: Asked) {
        let answer = Once::new(move |w: &mut World, reply| w.post(life, worker, Mail::Fetched { conn, reply }));
        let here = Home { life, worker: WorkerId(worker) };
        if self.node(life.node).meta.is_expired(home.life) {
            return answer.call(self, Fetched::Gone);
        }
        let (to, broker) = (if asked.what.take { home } else { here }, asked.what.broker);
        let told = answer.clone();
        let told = Once::new(move |w: &mut World, reply: Fetched| match reply {
            Fetched::State(_) => w.fence(life, broker, here, move |w, clear| {
                told.call(w, if clear { reply } else { Fetched::Unreachable });
            }),
            other => told.call(w, other),
        });
        self.fence(life, broker, to, move |w, clear| match clear {
            true => w.fetch_now(life, home, asked, told),
            false => answer.call(w, Fetched::Unreachable),
        });
    }

    fn fetch_now(&mut self, life: NodeLife, home: Home, asked: Asked, answer: Once<Fetched>) {
        if home.life == life {
            return match home.worker.0 < self.cfg.workers {
                true => self.post(life, home.worker.0, Mail::Asked { asked, answer }),
                false => answer.call(self, Fetched::Gone),
            };
        }
        if self.node(life.node).meta.is_expired(home.life) {
            return answer.call(self, Fetched::Gone);
        }
        let at = self.proc(life.node);
        let late = answer.clone();
        let breaks = self.rng.percent(50);
        let patience = if breaks { self.rng.millis(500, 8000) } else { SESSION_FETCH_TIMEOUT };
        self.later(at, patience, move |w| late.call(w, Fetched::Unreachable));
        let kind = if asked.what.take { "take" } else { "describe" };
        self.datagram(life.node, home.life.node, kind, move |w| w.fetched_from(at, home, asked, answer));
    }

    /// The call has come to the node that keeps the session.
    fn fetched_from(&mut self, from: Proc, home: Home, asked: Asked, answer: Once<Fetched>) {
        let there = home.life.node;
        let back = Once::new(move |w: &mut World, reply: Fetched| {
            let kind = if matches!(reply, Fetched::State(_)) { "state" } else { "fetched" };
            w.datagram(there, from.node, kind, move |w| {
                if w.alive(from) {
                    answer.call(w, reply);
                }
            });
        });
        if self.node(there).lease.life != Some(home.life) || home.worker.0 >= self.cfg.workers {
            return back.call(self, Fetched::Gone);
        }
        self.post(home.life, home.worker.0, Mail::Asked { asked, answer: back });
    }

    /// The worker is asked for a session that it keeps.
    pub fn asked(&mut self, life: NodeLife, worker: u16, asked: Asked, answer: Once<Fetched>) {
        let Some(it) = self.worker(life, worker) else { return };
        it.next_ticket += 1;
        let ticket = it.next_ticket;
        it.tickets.insert(ticket, (asked.clone(), answer));
        self.input(life, worker, Input::Asked { ticket, asked: &asked.what });
    }

    // ---- the fence of a move ----

    /// Goes on when every live node has handed `home` what it had for it, or has ended; as `control::fence` has it.
    fn fence(&mut self, own: NodeLife, broker: BrokerId, home: Home, then: impl FnOnce(&mut World, bool) + 'static) {
        if self.cfg.sabotage == Sabotage::NoFence {
            return then(self, true);
        }
        let at = self.proc(own.node);
        let others: Vec<NodeLife> = self.node(own.node).live().into_iter().filter(|l| l.node != own.node).collect();
        let left = Rc::new(Cell::new(others.len() + 1));
        let done = Once::new(then);
        let late = done.clone();
        self.later(at, SESSION_FENCE_TIMEOUT, move |w| late.call(w, false));
        for life in others {
            let (left, done) = (left.clone(), done.clone());
            self.drain_at(at, life, broker, home, Once::new(move |w: &mut World, ()| count_down(w, &left, &done)));
        }
        let here = Once::new(move |w: &mut World, drained| match drained {
            true => count_down(w, &left, &done),
            false => done.call(w, false),
        });
        self.drained_here(own.node, broker, home, here);
    }

    /// Asks a node, again and again until it answers or its life has ended.
    fn drain_at(&mut self, at: Proc, life: NodeLife, broker: BrokerId, home: Home, then: Once<()>) {
        if self.node(at.node).meta.is_expired(life) {
            return then.call(self, ());
        }
        let again = then.clone();
        let answered = Once::new(move |w: &mut World, other: Option<NodeLife>| match other {
            Some(other) if other >= life => then.call(w, ()),
            _ => w.later(at, PAUSE, move |w| w.drain_at(at, life, broker, home, again)),
        });
        let late = answered.clone();
        let patience = self.rng.millis(200, 3000);
        self.later(at, patience, move |w| late.call(w, None));
        self.datagram(at.node, life.node, "drain", move |w| {
            let there = w.node(life.node).lease.life;
            let back = Once::new(move |w: &mut World, drained: bool| {
                w.datagram(life.node, at.node, "drained", move |w| {
                    if w.alive(at) {
                        answered.call(w, there.filter(|_| drained));
                    }
                });
            });
            if there.is_some() {
                w.drained_here(life.node, broker, home, back);
            }
        });
    }

    /// Goes on when every worker of the node has handed `home` what it had for it.
    fn drained_here(&mut self, node: NodeId, broker: BrokerId, home: Home, then: Once<bool>) {
        let Some(own) = self.node(node).broker.as_ref().map(|b| b.life) else { return then.call(self, true) };
        let here = home.life == own;
        if !here && home.life.node == node {
            return then.call(self, true);
        }
        let to = if here { Holder::Worker(home.worker) } else { Holder::Peer(home.life.node) };
        let workers: Vec<u16> = (0..self.cfg.workers).filter(|id| !here || *id != home.worker.0).collect();
        if workers.is_empty() {
            return then.call(self, true);
        }
        let left = Rc::new(Cell::new(workers.len()));
        for worker in workers {
            let (left, then) = (left.clone(), then.clone());
            let done = Once::new(move |w: &mut World, ()| count_down(w, &left, &then));
            self.post(own, worker, Mail::Drain { broker, to, done });
        }
    }

    pub fn drain(&mut self, life: NodeLife, worker: u16, broker: BrokerId, to: Holder, done: Once<()>) {
        let Some(it) = self.worker(life, worker) else { return };
        it.next_ticket += 1;
        let ticket = it.next_ticket;
        it.drains.insert(ticket, done);
        self.input(life, worker, Input::Drain { ticket, broker, to });
    }

    // ---- wills ----

    /// As the leader of `group`: has what its state says is due published.
    pub fn publish_wills(&mut self, node: NodeId, group: GroupId, view: &ShardView) {
        let due = self.node(node).claims.shepherd.wills.due(group, view);
        if !due.is_empty() {
            self.post_wills(node, group, due);
        }
    }

    fn post_wills(&mut self, node: NodeId, group: GroupId, due: Vec<(u64, ClaimKey, Epoch)>) {
        let at = self.proc(node);
        self.linearize(at, group, move |w, known| {
            let leads = known && w.leads(node, group).is_some();
            let view = w.node(node).shards.get(&group).filter(|_| leads).map(|shard| shard.view());
            due.into_iter().for_each(|(token, key, epoch)| {
                w.post_will(node, group, view.as_ref(), token, key, epoch);
            });
        });
    }

    fn post_will(
        &mut self,
        node: NodeId,
        group: GroupId,
        view: Option<&ShardView>,
        token: u64,
        key: ClaimKey,
        epoch: Epoch,
    ) {
        let broker = key.broker;
        let life = self.node(node).broker.as_ref().map(|b| b.life);
        let name = (key, epoch);
        let firing = view.and_then(|view| {
            let time = view.will_times.get(&name).map(|time| Time(*time));
            let message = view.firing.get(&name)?.clone();
            Some(FiringWill { name: WillName { shard: group, epoch }, time, message })
        });
        match (firing, life) {
            (Some(will), Some(life)) => {
                let worker = (token % u64::from(self.cfg.workers)) as u16;
                self.post(life, worker, Mail::Will { token, broker, will });
            }
            _ => self.node(node).claims.shepherd.wills.forget(token),
        }
    }

    pub fn open_will(&mut self, life: NodeLife, worker: u16, token: u64, broker: BrokerId, will: &FiringWill) {
        let effects = self.core_step(life, worker, Input::Will { token, broker, will });
        let not_yet = |effect: &Effect| matches!(effect, Effect::WillRefused { .. } | Effect::TimeWill { .. });
        if effects.iter().any(|effect| matches!(effect, Effect::TimeWill { .. })) {
            self.p10_timed(&will.message);
        }
        if !effects.iter().any(not_yet) {
            self.p10_fires(life, token, &will.message);
        }
        self.perform(life, worker, effects);
        self.look_at_dirty(life, worker);
    }

    fn will_timed(&mut self, node: NodeId, token: u64, time: Time) {
        let Some((group, key, epoch)) = self.node(node).claims.shepherd.wills.name(token) else { return };
        let at = self.proc(node);
        let Some(life) = self.node(node).lease.life else {
            return self.node(node).claims.shepherd.wills.forget(token);
        };
        let by = Claimant { life, nonce: Nonce(0) };
        let (what, due) = (Proposal::WillTimed { key: key.clone(), epoch, time: time.0 }, (token, key.clone(), epoch));
        let told = Once::new(move |w: &mut World, outcome: Option<Outcome>| match outcome {
            Some(_) => w.post_wills(node, group, vec![due]),
            None => w.node(node).claims.shepherd.wills.forget(token),
        });
        self.tell(at, by, &key, what, told);
    }

    fn will_published(&mut self, node: NodeId, token: u64) {
        if self.cfg.sabotage == Sabotage::NoConfirmation {
            return self.node(node).claims.shepherd.wills.forget(token);
        }
        let Some((group, key, epoch)) = self.node(node).claims.shepherd.wills.name(token) else { return };
        let at = self.proc(node);
        let leads = self.leads(node, group).is_some();
        let Some(life) = self.node(node).lease.life.filter(|_| leads) else {
            return self.node(node).claims.shepherd.wills.forget(token);
        };
        let by = Claimant { life, nonce: Nonce(0) };
        let what = Proposal::WillPublished { key: key.clone(), epoch };
        let told = Once::new(move |w: &mut World, outcome: Option<Outcome>| match outcome {
            Some(_) => w.node(node).claims.shepherd.wills.confirmed(token),
            None => w.later(at, CONFIRM_AGAIN, move |w| w.will_published(node, token)),
        });
        self.tell(at, by, &key, what, told);
    }
}

/// One more has done it; goes on when all have.
fn count_down(world: &mut World, left: &Cell<usize>, then: &Once<bool>) {
    left.set(left.get() - 1);
    if left.get() == 0 {
        then.call(world, true);
    }
}
