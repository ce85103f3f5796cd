//! The rest of a node, which admits everybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::clock::{Clock, Moment, SystemClock, UnixMillis};
use rookery_cluster::handle::{
    ClaimEvent, ClaimRequest, ClusterEvent, Holder, Home, InterestChange, Leave, Replicas, Run, SendError, SessionAsked,
};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, NodeId, Nonce, WorkerId};
use rookery_cluster::retained::store::Store;

use crate::broker::core::{Admitted, AuthRequest, Bulletin, ConnKey, Fetched, Quota, Settings, Tally, Transport, View};
use crate::broker::{Answer, Mail, Mailbox, Services};
use crate::mqtt::codec::ReasonCode;

type Owner = (BrokerId, ClientId);

/// Everybody is of this broker.
pub const BROKER: BrokerId = BrokerId(9);
/// The only other node.
pub const PEER: NodeId = NodeId(2);

/// Admits everybody, keeps claims as a shard would, and spreads interest among the workers.
pub struct Fake {
    mailboxes: Vec<Arc<Mailbox>>,
    settings: Arc<Settings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    held: BTreeMap<Owner, (WorkerId, Nonce, Epoch)>,
    waiting: BTreeMap<Owner, ClaimRequest>,
    /// Interest changes on their way: who asked with which token, and how many workers have not seen them.
    spreading: BTreeMap<u64, (WorkerId, u64, usize)>,
    names: Vec<Option<Arc<str>>>,
    sources: Vec<SocketAddr>,
    released: u64,
    /// Batches that the peer will take, and what it took: the last byte of each.
    credit: usize,
    taken: Vec<u8>,
    at_release: Option<Box<dyn FnOnce() + Send>>,
}

impl State {
    fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Fake {
    pub fn new(mailboxes: Vec<Arc<Mailbox>>, settings: Settings) -> Self {
        Self { mailboxes, settings: Arc::new(settings), state: Mutex::default() }
    }

    /// The server names that clients used since the last call.
    pub fn names(&self) -> Vec<Option<Arc<str>>> {
        std::mem::take(&mut self.state.lock().names)
    }

    /// Where clients connected from since the last call.
    pub fn sources(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.state.lock().sources)
    }

    /// How many claims were given back.
    pub fn released(&self) -> u64 {
        self.state.lock().released
    }

    /// The peer takes `batches` more.
    pub fn give_credit(&self, batches: usize) {
        self.state.lock().credit = batches;
        (0..self.mailboxes.len() as u16).for_each(|id| self.post(WorkerId(id), ClusterEvent::Room { peer: PEER }));
    }

    /// The last byte of each batch that the peer took.
    pub fn taken(&self) -> Vec<u8> {
        self.state.lock().taken.clone()
    }

    /// Calls `then` on the worker's thread when the next claim is given back.
    pub fn at_release(&self, then: impl FnOnce() + Send + 'static) {
        self.state.lock().at_release = Some(Box::new(then));
    }

    /// Revokes the claim of `client`, as if a newer one waited elsewhere.
    pub fn revoke(&self, client: &str) {
        let owner = (BROKER, client.into());
        let (worker, nonce, epoch) = self.state.lock().held[&owner];
        self.claim_event(worker, ClaimEvent::Revoked { broker: owner.0, client: owner.1, nonce, epoch });
    }

    fn claim_event(&self, worker: WorkerId, event: ClaimEvent) {
        self.post(worker, ClusterEvent::Claim(event));
    }

    fn admitted(&self, client: &str) -> Admitted {
        Admitted {
            broker: BROKER,
            client: client.into(),
            jti: "any".into(),
            kid: "any".into(),
            expires: None,
            acl: Arc::new(rookery_cluster::topics::Acl::all()),
            settings: self.settings.clone(),
        }
    }

    fn post(&self, worker: WorkerId, event: ClusterEvent) {
        self.mailboxes[usize::from(worker.0)].post(Mail::Cluster(event));
    }

    fn grant(&self, state: &mut State, request: ClaimRequest) {
        let ClaimRequest { broker, client, nonce, worker, .. } = request;
        let epoch = Epoch(state.fresh());
        state.held.insert((broker, client.clone()), (worker, nonce, epoch));
        self.claim_event(worker, ClaimEvent::Granted { broker, client, nonce, epoch, session: None });
    }

    /// Tells all workers but `origin`, and then `origin` if it asked with a token.
    fn spread(&self, origin: WorkerId, change: InterestChange, asked: Option<u64>) {
        let others = (0..self.mailboxes.len() as u16).map(WorkerId).filter(|&worker| worker != origin);
        let others: Vec<WorkerId> = others.collect();
        let token = {
            let mut state = self.state.lock();
            let token = state.fresh();
            if let Some(asked) = asked {
                state.spreading.insert(token, (origin, asked, others.len() + 1));
            }
            token
        };
        for worker in others {
            self.post(worker, ClusterEvent::Interest { token, changes: [change.clone()].into() });
        }
        self.interest_seen(origin, token);
    }
}

impl View for Fake {
    fn serving_until(&self) -> Moment {
        SystemClock.now() + Duration::from_secs(60)
    }
    fn elsewhere(&self, _: Transport) -> Option<String> {
        None
    }

    fn wall(&self) -> UnixMillis {
        SystemClock.wall()
    }
    fn admits(&self, _: &Admitted) -> Result<(), ReasonCode> {
        Ok(())
    }
}

impl Services for Fake {
    fn view(&self) -> &dyn View {
        self
    }

    fn quota(&self) -> Box<dyn Quota> {
        Box::new(Tally::default())
    }

    fn bulletin(&self) -> Option<Box<dyn Bulletin>> {
        None
    }

    /// Clients whose names begin so have been here before.
    fn recognise(&self, request: &AuthRequest) -> Option<Admitted> {
        request.client_id.starts_with("known").then(|| self.admitted(&request.client_id))
    }

    fn authenticate(self: Arc<Self>, answer: Arc<Mailbox>, conn: ConnKey, request: AuthRequest) {
        {
            let mut state = self.state.lock();
            state.names.push(request.server_name);
            state.sources.push(request.from);
        }
        let result = Ok(self.admitted(&request.client_id));
        answer.post(Mail::Authenticated { conn, result });
    }

    fn claim(&self, request: ClaimRequest) {
        let mut state = self.state.lock();
        let owner = (request.broker, request.client.clone());
        let Some(&(worker, nonce, epoch)) = state.held.get(&owner) else { return self.grant(&mut state, request) };
        state.waiting.insert(owner.clone(), request);
        self.claim_event(worker, ClaimEvent::Revoked { broker: owner.0, client: owner.1, nonce, epoch });
    }

    fn abandon(&self, broker: BrokerId, client: ClientId, nonce: Nonce) {
        let mut state = self.state.lock();
        let owner = (broker, client);
        if state.waiting.get(&owner).is_some_and(|request| request.nonce == nonce) {
            state.waiting.remove(&owner);
        }
    }

    fn persist(&self, _: BrokerId, _: ClientId, _: Epoch, _: Nonce, _: u64, _: Vec<(Arc<str>, Option<u64>)>) {}

    fn recall(self: Arc<Self>, _: WorkerId, _: BrokerId, _: ClientId, _: Nonce) {}

    fn fetch(self: Arc<Self>, _: WorkerId, _: Home, _: SessionAsked, answer: Answer) {
        answer(Fetched::Gone);
    }

    fn will_timed(&self, _: u64, _: rookery_cluster::retained::Time) {}

    fn will_published(&self, _: u64) {}

    fn will_refused(&self, _: u64) {}

    fn store(&self) -> Option<Store> {
        None
    }

    fn replicas(&self) -> Arc<Replicas> {
        Arc::default()
    }

    fn release(&self, broker: BrokerId, client: ClientId, epoch: Epoch, _: Nonce, _: Leave) {
        let then = self.state.lock().at_release.take();
        if let Some(then) = then {
            then();
        }
        let mut state = self.state.lock();
        let owner = (broker, client);
        if state.held.get(&owner).is_none_or(|&(_, _, held)| held != epoch) {
            return;
        }
        state.held.remove(&owner);
        state.released += 1;
        if let Some(next) = state.waiting.remove(&owner) {
            self.grant(&mut state, next);
        }
    }

    fn subscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>, token: u64) {
        self.spread(worker, InterestChange::Add { holder: Holder::Worker(worker), broker, filter }, Some(token));
    }

    fn unsubscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>) {
        self.spread(worker, InterestChange::Remove { holder: Holder::Worker(worker), broker, filter }, None);
    }

    fn interest_seen(&self, _: WorkerId, token: u64) {
        let mut state = self.state.lock();
        let Some((origin, asked, left)) = state.spreading.get_mut(&token) else { return };
        *left -= 1;
        if *left == 0 {
            self.post(*origin, ClusterEvent::Barrier { token: *asked, seen: true });
            state.spreading.remove(&token);
        }
    }

    fn send(&self, _: WorkerId, peer: NodeId, runs: Vec<Run>) -> Result<u64, (SendError, Vec<Run>)> {
        let mut state = self.state.lock();
        assert_eq!(peer, PEER);
        if state.credit == 0 {
            return Err((SendError::NoCredit, runs));
        }
        state.credit -= 1;
        state.taken.extend(runs.last().and_then(|run| run.body.last()));
        Ok(state.taken.len() as u64)
    }
}
