//! The administrator: revokes tokens, and waits until that holds everywhere, as `control::everywhere` has it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{GroupId, LogIndex, NodeId, NodeLife};
use rookery_cluster::limits::{LEASE, LEASE_DRIFT_MARGIN};
use rookery_cluster::metadata::{CommandBody, Outcome};

use crate::net::Once;
use crate::node::worker::Mail;
use crate::world::{BROKER, Proc, World};

const LIMIT: Duration = LEASE.saturating_mul(2).saturating_add(LEASE_DRIFT_MARGIN.saturating_mul(2));
const ATTEMPT: Duration = Duration::from_millis(1000);
const PAUSE: Duration = Duration::from_millis(100);

type Missing = Rc<RefCell<BTreeSet<NodeLife>>>;

impl World {
    /// Revokes a token through `node`.
    pub fn revoke(&mut self, node: NodeId, jti: String) {
        if !self.node(node).up {
            return;
        }
        let at = self.proc(node);
        self.note(|| format!("admin: revokes {jti} through node {node}"));
        let body = CommandBody::Revoke { broker: BROKER, jtis: vec![jti.clone()] };
        self.propose_meta(at, body, move |w, answer| match answer {
            Some((index, Outcome::Done)) => w.await_everywhere(at, index, jti),
            Some((_, other)) => w.broken(format!("a revocation was answered with {other:?}")),
            None => {}
        });
    }

    fn await_everywhere(&mut self, at: Proc, index: LogIndex, jti: String) {
        let deadline = self.local(at.node) + LIMIT;
        self.in_force(at, index, move |w| {
            let missing: Missing = Rc::new(RefCell::new(w.node(at.node).live().into_iter().collect()));
            let others: Vec<NodeLife> = missing.borrow().iter().copied().collect();
            missing.borrow_mut().retain(|life| life.node != at.node);
            let all: Vec<NodeLife> = others.into_iter().filter(|life| life.node != at.node).collect();
            for life in all {
                w.ask_one(at, life, index, deadline, missing.clone());
            }
            w.await_missing(at, deadline, missing, jti);
        });
    }

    fn await_missing(&mut self, at: Proc, deadline: Moment, missing: Missing, jti: String) {
        let ended: Vec<NodeLife> = missing.borrow().iter().copied().collect();
        let meta = &self.node(at.node).meta;
        let ended: Vec<NodeLife> = ended.into_iter().filter(|life| meta.is_expired(*life)).collect();
        missing.borrow_mut().retain(|life| !ended.contains(life));
        if missing.borrow().is_empty() {
            self.note(|| format!("admin: {jti} is revoked everywhere"));
            self.oracle.revoked.insert(jti);
            return self.p02_check();
        }
        if self.local(at.node) < deadline {
            self.later(at, Duration::from_millis(10), move |w| w.await_missing(at, deadline, missing, jti));
        }
    }

    fn ask_one(&mut self, at: Proc, life: NodeLife, index: LogIndex, deadline: Moment, missing: Missing) {
        if self.local(at.node) >= deadline || !missing.borrow().contains(&life) {
            return;
        }
        let again = missing.clone();
        let answered = Once::new(move |w: &mut World, other: Option<NodeLife>| {
            if other.is_some_and(|other| other >= life) {
                missing.borrow_mut().remove(&life);
            } else {
                w.later(at, PAUSE, move |w| w.ask_one(at, life, index, deadline, again));
            }
        });
        let late = answered.clone();
        self.later(at, ATTEMPT, move |w| late.call(w, None));
        self.datagram(at.node, life.node, "wait", move |w| {
            let there = w.proc(life.node);
            let Some(answer) = w.node(life.node).lease.life else { return };
            w.in_force(there, index, move |w| {
                w.datagram(life.node, at.node, "waited", move |w| {
                    if w.alive(at) {
                        answered.call(w, Some(answer));
                    }
                });
            });
        });
    }

    /// Goes on when the process has applied `index`, and its workers act by it.
    fn in_force(&mut self, at: Proc, index: LogIndex, then: impl FnOnce(&mut World) + 'static) {
        let applied = Once::new(move |w: &mut World, _| w.tell_workers(at, index, Box::new(then)));
        self.once_applied(at, GroupId::METADATA, index.0 as usize, applied);
    }

    fn tell_workers(&mut self, at: Proc, index: LogIndex, then: crate::world::Job) {
        if !self.alive(at) {
            return;
        }
        let told = self.node(at.node).broker.as_ref().filter(|b| b.told >= index).map(|b| b.life);
        let Some(life) = told else {
            return self.after(Duration::from_millis(5), move |w| w.tell_workers(at, index, then));
        };
        self.sync(life, 0, then);
    }

    /// One worker after the other has done what was posted before.
    fn sync(&mut self, life: NodeLife, worker: u16, then: crate::world::Job) {
        if worker == self.cfg.workers {
            return then(self);
        }
        let next = Once::new(move |w: &mut World, ()| w.sync(life, worker + 1, then));
        self.post(life, worker, Mail::Sync(next));
    }
}
