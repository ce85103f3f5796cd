//! The glue of a node's claims: a connection's way through the shard, as `claims::node` has it.

use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::consensus::ProposeError;
use rookery_cluster::control::Notice;
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, ClaimRequest};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, NodeId, NodeLife, Nonce, WorkerId};
use rookery_cluster::limits::CLAIM_TIMEOUT;
use rookery_cluster::sessions::{ClaimKey, Claimant, Command, Outcome};

use super::registry::{Act, Asking, Registry, refusal};
use super::shepherd::Shepherd;
use super::worker::Mail;
use crate::world::{Proc, World};

const RETRY: Duration = Duration::from_millis(50);
const ASK_AGAIN: Duration = Duration::from_millis(1000);

#[derive(Default)]
pub struct Claims {
    pub registry: Registry,
    pub shepherd: Shepherd,
}

impl World {
    pub fn claim(&mut self, node: NodeId, request: ClaimRequest) {
        let at = self.proc(node);
        let key = ClaimKey { broker: request.broker, client: request.client.clone() };
        let Some(life) = self.node(node).lease.life else { return };
        let by = Claimant { life, nonce: request.nonce };
        let (clean_start, session_expiry) = (request.clean_start, request.session_expiry);
        if self.node(node).claims.registry.begin(key.clone(), by, request.worker) {
            let wish = Command::Claim { key: key.clone(), by, clean_start, session_expiry }.encode();
            let late = key.clone();
            self.later(at, CLAIM_TIMEOUT, move |w| {
                if w.node(at.node).claims.registry.asking(by) == Asking::Yes {
                    w.refuse_claim(at, by, ClaimRefusal::Unavailable);
                    w.let_go_of(at, late, by);
                }
            });
            self.ask_for(at, key, by, wish);
        }
    }

    fn ask_for(&mut self, at: Proc, key: ClaimKey, by: Claimant, wish: Bytes) {
        match self.node(at.node).claims.registry.asking(by) {
            Asking::Yes => {}
            Asking::Settled => return,
            Asking::Gone => {
                self.node(at.node).claims.registry.forget(by);
                return self.let_go_of(at, key, by);
            }
        }
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let command = wish.clone();
        self.propose(at, group, command, move |w, answer| {
            let outcome = answer.map(|a| Outcome::decode(&a.outcome).expect("an outcome of this binary"));
            let pause = match outcome {
                Ok(Outcome::Granted { epoch, session_present }) => {
                    let acts = w.node(at.node).claims.registry.granted(key, by, epoch, session_present);
                    return w.act(at, acts);
                }
                Ok(Outcome::Refused(why)) => return w.refuse_claim(at, by, refusal(why)),
                Ok(Outcome::Waiting { .. } | Outcome::Done) => ASK_AGAIN,
                Err(ProposeError::Unavailable | ProposeError::Unknown) => RETRY,
                Err(other) => panic!("{other}"),
            };
            w.pause(at, key, by, wish, pause);
        });
    }

    /// Waits, unless the claim's standing changes.
    fn pause(&mut self, at: Proc, key: ClaimKey, by: Claimant, wish: Bytes, left: Duration) {
        let step = left.min(RETRY);
        self.later(at, step, move |w| {
            let left = left - step;
            let changed = w.node(at.node).claims.registry.asking(by) != Asking::Yes;
            if left.is_zero() || changed {
                w.ask_for(at, key, by, wish);
            } else {
                w.pause(at, key, by, wish, left);
            }
        });
    }

    fn refuse_claim(&mut self, at: Proc, by: Claimant, why: ClaimRefusal) {
        let acts = self.node(at.node).claims.registry.refused(by, why);
        self.act(at, acts);
    }

    fn let_go_of(&mut self, at: Proc, key: ClaimKey, by: Claimant) {
        let command = Command::Abandon { key: key.clone(), by }.encode();
        let deadline = self.local(at.node) + CLAIM_TIMEOUT;
        self.let_go(at, key, command, deadline, Box::new(|_| {}));
    }

    pub fn release_claim(&mut self, node: NodeId, broker: BrokerId, client: ClientId, epoch: Epoch, nonce: Nonce) {
        let at = self.proc(node);
        let acts = self.node(node).claims.registry.release(ClaimKey { broker, client }, nonce, epoch);
        self.act(at, acts);
    }

    pub fn abandon_claim(&mut self, node: NodeId, broker: BrokerId, client: ClientId, nonce: Nonce) {
        let at = self.proc(node);
        let acts = self.node(node).claims.registry.abandon(&ClaimKey { broker, client }, nonce);
        self.act(at, acts);
    }

    /// Claims of another life than this are void.
    pub fn follow_life(&mut self, node: NodeId, life: Option<NodeLife>) {
        let at = self.proc(node);
        let acts = self.node(node).claims.registry.keep_only(life);
        self.act(at, acts);
    }

    pub fn take_notices(&mut self, node: NodeId, notices: Vec<Notice>) {
        let at = self.proc(node);
        for notice in notices {
            let acts = self.node(node).claims.registry.notice(notice);
            self.act(at, acts);
        }
    }

    fn act(&mut self, at: Proc, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Post(worker, event) => self.post_claim(at.node, worker, event),
                Act::Release(key, by, epoch) => {
                    let command = Command::Release { key: key.clone(), by, epoch }.encode();
                    let deadline = self.local(at.node) + CLAIM_TIMEOUT;
                    let released = move |w: &mut World| w.node(at.node).claims.registry.released(by, epoch);
                    self.let_go(at, key, command, deadline, Box::new(released));
                }
            }
        }
    }

    fn post_claim(&mut self, node: NodeId, worker: WorkerId, event: ClaimEvent) {
        let life = self.node(node).broker.as_ref().map(|b| b.life);
        if let Some(life) = life {
            self.post(life, worker.0, Mail::Claim(event));
        }
    }

    fn let_go(&mut self, at: Proc, key: ClaimKey, command: Bytes, deadline: Moment, then: crate::world::Job) {
        if self.local(at.node) >= deadline {
            return then(self);
        }
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let copy = command.clone();
        self.propose(at, group, command, move |w, answer| match answer {
            Ok(_) => then(w),
            Err(_) => w.later(at, RETRY, move |w| w.let_go(at, key, copy, deadline, then)),
        });
    }
}
