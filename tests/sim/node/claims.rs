//! The glue of a node's claims: a connection's way through the shard, as `claims::node` has it, and the streams of
//! numbered proposals, as `claims::streams` has them.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_cluster::claims::registry::{Act, Asking, Begin, Ending, Grant, Registry, refusal};
use rookery_cluster::consensus::{Applied, ProposeError};
use rookery_cluster::control::{Notice, NoticeKind};
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, ClaimRequest, ClaimWill, Leave, SessionGrant};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, GroupId, NodeId, NodeLife, Nonce, Sequence, WorkerId};
use rookery_cluster::limits::CLAIM_TIMEOUT;
use rookery_cluster::sessions::{ClaimKey, Claimant, Outbox, Outcome, Proposal, Refusal, Round, Sending, Ticket, Will};

use super::shepherd::Shepherd;
use super::worker::Mail;
use crate::world::{Proc, Sabotage, World};

const RETRY: Duration = Duration::from_millis(50);
const ASK_AGAIN: Duration = Duration::from_millis(1000);
/// Small, so that it is sometimes full.
const WINDOW: usize = 8;
const MAX_QUEUED: usize = 10_000;
const MAX_RESTING: usize = 2;

type Waiter = Box<dyn FnOnce(&mut World, Outcome)>;

pub struct Claims {
    pub registry: Registry<()>,
    pub shepherd: Shepherd,
    streams: BTreeMap<GroupId, Outbox<Waiter>>,
    heard: BTreeMap<GroupId, Epoch>,
    pursuits: BTreeMap<Claimant, Pursuit>,
    /// Connections that went on with the claim of an earlier one, and claims that were renewed for it.
    pub inherited: u64,
    pub renewed: u64,
    /// What was given back, for a bug that goes on with it.
    given_back: BTreeMap<ClaimKey, Epoch>,
}

impl Default for Claims {
    fn default() -> Self {
        let (shepherd, streams, heard, pursuits, given_back) = Default::default();
        let registry = Registry::new(MAX_QUEUED, MAX_QUEUED, MAX_RESTING);
        Self { registry, shepherd, streams, heard, pursuits, inherited: 0, renewed: 0, given_back }
    }
}

/// A claim that is not answered.
struct Pursuit {
    request: ClaimRequest,
    key: ClaimKey,
    group: GroupId,
    /// Its proposal under way.
    ticket: Option<Ticket>,
    /// Whether the shard may know of it.
    known: bool,
}

impl World {
    pub fn claim(&mut self, node: NodeId, request: ClaimRequest) {
        let at = self.proc(node);
        let key = ClaimKey { broker: request.broker, client: request.client.clone() };
        let Some(life) = self.node(node).lease.life else { return };
        let by = Claimant { life, nonce: request.nonce };
        let plain = request.will.is_none() && request.session_expiry == 0;
        if plain && self.goes_on_anyhow(node, &key, &request) {
            return;
        }
        match self.node(node).claims.registry.begin(key.clone(), by, request.worker, (), plain) {
            Begin::Serves(event) => {
                self.node(node).claims.inherited += 1;
                self.post_claim(node, request.worker, event);
            }
            Begin::Ask => self.begin_to_ask(at, key, by, request),
            Begin::AskAfter(ending) => {
                self.propose_release(at, ending);
                self.begin_to_ask(at, key, by, request);
            }
            Begin::Known | Begin::Full => {}
        }
    }

    fn goes_on_anyhow(&mut self, node: NodeId, key: &ClaimKey, request: &ClaimRequest) -> bool {
        if self.cfg.sabotage != Sabotage::GoOnAnyhow {
            return false;
        }
        let Some(epoch) = self.node(node).claims.given_back.remove(key) else { return false };
        let ClaimKey { broker, client } = key.clone();
        let event = ClaimEvent::Granted { broker, client, nonce: request.nonce, epoch, session: None };
        self.post_claim(node, request.worker, event);
        true
    }

    fn begin_to_ask(&mut self, at: Proc, key: ClaimKey, by: Claimant, request: ClaimRequest) {
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let pursuit = Pursuit { request, key, group, ticket: None, known: false };
        self.node(at.node).claims.pursuits.insert(by, pursuit);
        self.later(at, CLAIM_TIMEOUT, move |w| w.give_up(at, by));
        self.ask_for(at, by);
    }

    fn ask_for(&mut self, at: Proc, by: Claimant) {
        if self.node(at.node).claims.registry.asking(by) != Asking::Yes {
            return self.give_up(at, by);
        }
        let Some(pursuit) = self.node(at.node).claims.pursuits.get(&by).filter(|it| it.ticket.is_none()) else {
            return;
        };
        let (key, group) = (pursuit.key.clone(), pursuit.group);
        let (clean_start, session_expiry) = (pursuit.request.clean_start, pursuit.request.session_expiry);
        let will = pursuit.request.will.clone().map(|ClaimWill { message, delay }| Will { message, delay });
        let applied = self.node(at.node).shards.entry(group).or_default().view().epoch;
        let heard = self.node(at.node).claims.heard.get(&group).copied().unwrap_or_default().max(applied);
        let heard = if self.cfg.sabotage == Sabotage::TakeFromAnybody { Epoch(u64::MAX) } else { heard };
        let what = Proposal::Claim { key, nonce: by.nonce, clean_start, session_expiry, heard, will };
        let ticket = self.put_in(at, by.life, group, what, move |w, outcome| w.claim_answered(at, by, outcome));
        if let Some(pursuit) = self.node(at.node).claims.pursuits.get_mut(&by) {
            pursuit.ticket = ticket;
        }
        self.hand_over(at, group);
    }

    fn claim_answered(&mut self, at: Proc, by: Claimant, outcome: Outcome) {
        let Some(pursuit) = self.node(at.node).claims.pursuits.get_mut(&by) else { return };
        pursuit.ticket = None;
        let key = pursuit.key.clone();
        match outcome {
            Outcome::Granted { epoch, .. } => self.claim_granted(at, key, by, epoch, None),
            Outcome::GrantedSession { epoch, session } => self.claim_granted(at, key, by, epoch, Some(session)),
            Outcome::Refused(why) => {
                let act = self.node(at.node).claims.registry.refused(by, refusal(why));
                self.node(at.node).claims.pursuits.remove(&by);
                self.act(at, act);
            }
            Outcome::Waiting { .. } | Outcome::Done | Outcome::Subscriptions { .. } => {
                pursuit.known = true;
                self.later(at, ASK_AGAIN, move |w| w.ask_for(at, by));
            }
            Outcome::Outdated { .. } | Outcome::Spent => self.ask_for(at, by),
            Outcome::Gap { .. } => self.broken(format!("node {}: a gap was not closed", at.node)),
        }
    }

    fn claim_granted(&mut self, at: Proc, key: ClaimKey, by: Claimant, epoch: Epoch, session: Option<SessionGrant>) {
        let act = self.node(at.node).claims.registry.granted(key, by, epoch, session);
        self.node(at.node).claims.pursuits.remove(&by);
        self.act(at, act);
    }

    /// Ends a claim without an answer, if it is one.
    fn give_up(&mut self, at: Proc, by: Claimant) {
        let claims = &mut self.node(at.node).claims;
        let Some(mut pursuit) = claims.pursuits.remove(&by) else { return };
        if let (Some(ticket), Some(stream)) = (pursuit.ticket, claims.streams.get_mut(&pursuit.group)) {
            pursuit.known |= stream.give_up(ticket);
        }
        let settled = claims.registry.asking(by) == Asking::Settled;
        let act = claims.registry.refused(by, ClaimRefusal::Unavailable);
        self.act(at, act);
        if pursuit.known && !settled {
            let what = Proposal::Abandon { key: pursuit.key, nonce: by.nonce };
            self.put_in(at, by.life, pursuit.group, what, |_, _| {});
            self.hand_over(at, pursuit.group);
        }
    }

    pub fn release_claim(
        &mut self,
        node: NodeId,
        broker: BrokerId,
        client: ClientId,
        epoch: Epoch,
        nonce: Nonce,
        leave: Leave,
    ) {
        let (at, now) = (self.proc(node), self.local(node));
        let act = self.node(node).claims.registry.release(now, ClaimKey { broker, client }, nonce, epoch, leave);
        self.act(at, act);
    }

    pub fn abandon_claim(&mut self, node: NodeId, broker: BrokerId, client: ClientId, nonce: Nonce) {
        let at = self.proc(node);
        let act = self.node(node).claims.registry.abandon(&ClaimKey { broker, client }, nonce);
        self.act(at, act);
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
            let (to, again) = (notice.to, notice.kind == NoticeKind::Refused(Refusal::Outdated));
            let act = self.node(node).claims.registry.notice(notice);
            self.act(at, act);
            if again {
                self.ask_for(at, to);
            }
        }
    }

    fn act(&mut self, at: Proc, acts: impl IntoIterator<Item = Act>) {
        for act in acts {
            match act {
                Act::Post(worker, event) => self.post_claim(at.node, worker, event),
                Act::Release(ending) => self.propose_release(at, ending),
                Act::Both(worker, event, ending) => {
                    self.post_claim(at.node, worker, event);
                    self.propose_release(at, ending);
                }
                // Nothing lingers here, and whoever pursues a claim looks by himself.
                Act::Hurry(_) | Act::Withdraw(..) => {}
                Act::Renew(key, grant) => self.renew_claim(at, key, grant),
                Act::Dropped => self.broken(format!("node {}: no room for a release", at.node)),
            }
        }
        self.end_settled(at);
    }

    /// What rings in the driver: who pursues a claim that is answered, or whose connection is gone, ends.
    fn end_settled(&mut self, at: Proc) {
        let claims = &self.node(at.node).claims;
        let settled: Vec<Claimant> =
            claims.pursuits.keys().copied().filter(|by| claims.registry.asking(*by) != Asking::Yes).collect();
        settled.into_iter().for_each(|by| self.give_up(at, by));
    }

    /// Gives back what has rested.
    pub fn end_rest(&mut self, at: Proc) {
        let now = self.local(at.node);
        let acts = self.node(at.node).claims.registry.end_rest(now);
        self.act(at, acts);
    }

    fn renew_claim(&mut self, at: Proc, key: ClaimKey, Grant { by, epoch }: Grant) {
        self.node(at.node).claims.renewed += 1;
        if self.cfg.sabotage == Sabotage::NoRenewal {
            self.node(at.node).claims.registry.renewed(by, Some(epoch));
            let act =
                self.node(at.node).claims.registry.notice(Notice { to: by, key, kind: NoticeKind::Revoked { epoch } });
            return self.act(at, act);
        }
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let what = Proposal::Renew { key, nonce: by.nonce, epoch };
        let renewed = move |w: &mut World, outcome| {
            let now = if let Outcome::Granted { epoch, .. } = outcome { Some(epoch) } else { None };
            w.node(at.node).claims.registry.renewed(by, now);
        };
        self.put_in(at, by.life, group, what, renewed);
        self.hand_over(at, group);
    }

    fn propose_release(&mut self, at: Proc, ending: Ending) {
        let Ending { key, by, epoch, mut leave, renewing, .. } = ending;
        self.node(at.node).claims.given_back.insert(key.clone(), epoch);
        match self.cfg.sabotage {
            Sabotage::WillAnyhow => leave.fire_will = true,
            Sabotage::EndSession => leave.keep = None,
            _ => {}
        }
        let group = self.node(at.node).meta.group_of_client(key.broker, &key.client);
        let what = match renewing {
            true => Proposal::Abandon { key, nonce: by.nonce },
            false => Proposal::Release { key, nonce: by.nonce, epoch, leave },
        };
        let released = move |w: &mut World, _| w.node(at.node).claims.registry.released(by, epoch);
        self.put_in(at, by.life, group, what, released);
        self.hand_over(at, group);
    }

    pub fn post_claim(&mut self, node: NodeId, worker: WorkerId, event: ClaimEvent) {
        let life = self.node(node).broker.as_ref().map(|b| b.life);
        if let Some(life) = life {
            self.post(life, worker.0, Mail::Claim(event));
        }
    }

    // ---- streams ----

    /// Puts a proposal into the stream to `group`, unless a later life proposes there.
    pub fn put_in(
        &mut self,
        at: Proc,
        life: NodeLife,
        group: GroupId,
        what: Proposal,
        then: impl FnOnce(&mut World, Outcome) + 'static,
    ) -> Option<Ticket> {
        let streams = &mut self.node(at.node).claims.streams;
        let stream = streams.entry(group).or_insert_with(|| Outbox::new(life, WINDOW, MAX_QUEUED));
        if stream.life() < life {
            stream.renew(life);
        }
        (stream.life() == life).then(|| stream.push(what, Box::new(then)).ok()).flatten()
    }

    /// Nobody waits for the outcome any more.
    pub fn give_up_ticket(&mut self, at: Proc, group: GroupId, ticket: Ticket) {
        if let Some(stream) = self.node(at.node).claims.streams.get_mut(&group) {
            stream.give_up(ticket);
        }
    }

    pub fn hand_over(&mut self, at: Proc, group: GroupId) {
        loop {
            let stream = self.node(at.node).claims.streams.get_mut(&group);
            let Some(Sending { round, number, command }) = stream.and_then(Outbox::send) else { return };
            self.propose(at, group, command.encode(), move |w, answer| w.handed_over(at, group, round, number, answer));
        }
    }

    fn handed_over(
        &mut self,
        at: Proc,
        group: GroupId,
        round: Round,
        number: Sequence,
        answer: Result<Applied, ProposeError>,
    ) {
        let outcome = answer.map(|a| Outcome::decode(&a.outcome).expect("an outcome of this binary"));
        let claims = &mut self.node(at.node).claims;
        let Some(stream) = claims.streams.get_mut(&group) else { return };
        match outcome {
            Ok(outcome) => {
                if let Outcome::Granted { epoch, .. }
                | Outcome::GrantedSession { epoch, .. }
                | Outcome::Outdated { epoch } = outcome
                {
                    let heard = claims.heard.entry(group).or_default();
                    *heard = epoch.max(*heard);
                }
                if let Some((then, outcome)) = stream.answered(round, number, outcome) {
                    then(self, outcome);
                }
                self.hand_over(at, group);
            }
            Err(ProposeError::Unavailable | ProposeError::Unknown) => {
                if stream.failed(round) {
                    self.later(at, RETRY, move |w| w.hand_over(at, group));
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
}
