//! The glue of a node's lease and, at the metadata leader, of everybody's: as `leases::driver` has it.

use std::time::Duration;

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{GroupId, Incarnation, NodeId, NodeLife};
use rookery_cluster::leases::{Ask, Holder, LeaseTable, Verdict};
use rookery_cluster::limits::{LEASE, LEASE_RENEW_EVERY};
use rookery_cluster::metadata::{CommandBody, NodeCard, Outcome};

use crate::net::Once;
use crate::world::{Proc, Sabotage, World};

const RETRY: Duration = Duration::from_millis(200);
const CHECK_EVERY: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct LeaseOf {
    pub life: Option<NodeLife>,
    /// May serve strictly before this.
    pub until: Moment,
    holder: Option<Holder>,
    pub table: LeaseTable,
    /// The leader's loop waits for something.
    busy: bool,
}

impl World {
    pub fn start_lease(&mut self, at: Proc) {
        self.register(at);
        self.lead_leases(at);
    }

    /// Whether the node may serve, by its own clock.
    pub fn lease_holds(&mut self, node: NodeId) -> bool {
        self.local(node) < self.node(node).lease.until
    }

    // ---- the holder's side ----

    fn register(&mut self, at: Proc) {
        let again = move |w: &mut World| w.later(at, RETRY, move |w| w.register(at));
        self.linearize(at, GroupId::METADATA, move |w, read| {
            if !read {
                return again(w);
            }
            let last = w.node(at.node).meta.node(at.node).map_or(Incarnation(0), |record| record.incarnation);
            let life = NodeLife { node: at.node, incarnation: Incarnation(last.0 + 1) };
            let card = NodeCard::default();
            let body = CommandBody::RegisterIncarnation { node: at.node, incarnation: life.incarnation, card };
            w.propose_meta(at, body, move |w, answer| match answer {
                Some((_, outcome)) if !matches!(outcome, Outcome::Refused(_)) => w.seen(at, life),
                _ => again(w),
            });
        });
    }

    /// Waits until this node has applied its own registration: so it knows every earlier revocation (P2).
    fn seen(&mut self, at: Proc, life: NodeLife) {
        let node = self.node(at.node);
        if !node.live().contains(&life) && !node.meta.is_expired(life) {
            return self.later(at, Duration::from_millis(5), move |w| w.seen(at, life));
        }
        node.lease.life = Some(life);
        node.lease.holder = Some(Holder::new(life));
        self.note(|| format!("node {}: registered as {life}", at.node));
        self.follow_life(at.node, Some(life));
        self.keep(at, life);
    }

    fn keep(&mut self, at: Proc, life: NodeLife) {
        let Some(next) = self.node(at.node).lease.holder.as_ref().map(Holder::next_ask) else { return };
        let wait = next.since(self.local(at.node));
        self.later(at, wait, move |w| w.ask(at, life));
    }

    fn ask(&mut self, at: Proc, life: NodeLife) {
        if self.node(at.node).meta.is_expired(life) {
            return self.life_is_over(at);
        }
        let sent = self.local(at.node);
        let node = self.node(at.node);
        let turns: Vec<u64> = node.broker.iter().flat_map(|b| &b.workers).map(|w| w.progress).collect();
        let Some(holder) = &mut node.lease.holder else { return };
        if let Ask::Stuck(_) = holder.ask(sent, &turns) {
            return self.keep(at, life);
        }
        let answered = Once::new(move |w: &mut World, verdict| {
            if w.alive(at) {
                w.answered(at, life, sent, verdict);
            }
        });
        let late = answered.clone();
        self.later(at, LEASE_RENEW_EVERY, move |w| late.call(w, Verdict::NotLeader));
        let Some(leader) = self.replica(at.node, GroupId::METADATA).leader else {
            return answered.call(self, Verdict::NotLeader);
        };
        self.datagram(at.node, leader, "renew", move |w| {
            let leader = w.proc(leader);
            w.renew_for(leader, life, move |w, verdict| {
                w.datagram(leader.node, at.node, "renewed", move |w| answered.call(w, verdict));
            });
        });
    }

    fn answered(&mut self, at: Proc, life: NodeLife, sent: Moment, verdict: Verdict) {
        let now = self.local(at.node);
        let careless = self.cfg.sabotage == Sabotage::LeaseWithoutMargin;
        let Some(holder) = &mut self.node(at.node).lease.holder else { return };
        match verdict {
            Verdict::Granted => {
                holder.granted(sent);
                let until = if careless { now + LEASE } else { holder.serving_until() };
                let first = std::mem::replace(&mut self.node(at.node).lease.until, until) == Moment::default();
                self.p03_check();
                if first || self.node(at.node).broker.is_none() {
                    self.begin_life(at, life);
                }
            }
            Verdict::Ended => return self.life_is_over(at),
            Verdict::Refused | Verdict::NotLeader => holder.failed(now + RETRY),
        }
        self.keep(at, life);
    }

    // ---- the leader's side ----

    fn renew_for(&mut self, at: Proc, life: NodeLife, then: impl FnOnce(&mut World, Verdict) + 'static) {
        let trusting = self.cfg.sabotage == Sabotage::RenewUnconfirmed;
        self.confirm_leadership(at, GroupId::METADATA, move |w, sure| {
            if !sure && !trusting {
                return then(w, Verdict::NotLeader);
            }
            let live = w.node(at.node).live().contains(&life);
            let known = live || w.node(at.node).meta.is_expired(life);
            let term = w.leads(at.node, GroupId::METADATA);
            let now = w.local(at.node);
            let table = &mut w.node(at.node).lease.table;
            if !known || term.is_none() || table.term() != term {
                return then(w, Verdict::NotLeader);
            }
            let verdict = table.renew(now, life, live);
            then(w, verdict);
        });
    }

    fn lead_leases(&mut self, at: Proc) {
        if !std::mem::replace(&mut self.node(at.node).lease.busy, true) {
            match self.leads(at.node, GroupId::METADATA) {
                None => {
                    self.node(at.node).lease.table.follow();
                    self.node(at.node).lease.busy = false;
                }
                Some(term) if self.node(at.node).lease.table.term() == Some(term) => self.end_due(at, term),
                Some(term) => self.take_the_lead(at, term),
            }
        }
        self.later(at, CHECK_EVERY, move |w| w.lead_leases(at));
    }

    /// The table serves a term once all earlier ones are applied here and no earlier leader ends a life any more.
    fn take_the_lead(&mut self, at: Proc, term: u64) {
        self.node(at.node).lease.table.follow();
        self.linearize(at, GroupId::METADATA, move |w, read| {
            if !read {
                w.node(at.node).lease.busy = false;
                return;
            }
            w.propose_meta(at, CommandBody::LeadLeases { term }, move |w, answer| {
                w.node(at.node).lease.busy = false;
                let done = answer.is_some_and(|(_, outcome)| !matches!(outcome, Outcome::Refused(_)));
                if done && w.leads(at.node, GroupId::METADATA) == Some(term) {
                    w.node(at.node).lease.table.lead(term);
                }
            });
        });
    }

    fn end_due(&mut self, at: Proc, term: u64) {
        let now = self.local(at.node);
        let live = self.node(at.node).live();
        let due = self.node(at.node).lease.table.due(now, &live);
        self.node(at.node).lease.busy = !due.is_empty();
        let mut left = due.len();
        let done = std::rc::Rc::new(std::cell::Cell::new(left));
        while left > 0 {
            left -= 1;
            let (life, done) = (due[left], done.clone());
            self.note(|| format!("node {}: the lease of {life} ran out", at.node));
            self.propose_meta(at, CommandBody::ExpireLeaseInTerm { life, term }, move |w, _| {
                done.set(done.get() - 1);
                if done.get() == 0 {
                    w.node(at.node).lease.busy = false;
                }
            });
        }
    }
}
