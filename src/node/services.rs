//! What workers ask of the rest of the node, and what the rest asks of the workers.

use std::sync::{Arc, OnceLock};

use rookery_cluster::claims::Sessions;
use rookery_cluster::clock::{Moment, SharedClock, UnixMillis};
use rookery_cluster::consensus::BoxFuture;
use rookery_cluster::control::{AppliedPort, Handover, SharedControl, SharedMeta};
use rookery_cluster::forward::Forward;
use rookery_cluster::handle::{ClaimRequest, Home, Leave, Replicas, Run, SendError, SessionAsked};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, LogIndex, NodeId, NodeLife, Nonce, WorkerId};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::metadata::{Metadata, State};
use rookery_cluster::retained::Time;
use rookery_cluster::retained::store::Store;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::auth::{Denied, Verified, Verifier};
use crate::broker::core::{Admitted, AuthRequest, Bulletin, ConnKey, Quota, Transport, View};
use crate::broker::{Answer, Mail, Mailbox, Services, SharedQuota};
use crate::mqtt::codec::ReasonCode;

use super::catch_up::CatchUp;
use super::checks::Checks;
use super::figures::NodeFigures;
use super::limits::settings;
use super::moves;
use super::sparing::Sparing;

/// The rest of the node, as its workers see it.
pub struct NodeServices {
    pub lease: Lease,
    pub metadata: Metadata,
    pub sessions: Sessions,
    pub handover: Handover,
    pub meta: SharedMeta,
    pub calls: SharedControl,
    pub clock: SharedClock,
    pub domain: String,
    pub control: Handle,
    pub(super) verifier: Verifier,
    quota: SharedQuota,
    figures: Option<NodeFigures>,
    pub(super) log: Sparing,
    pub(super) checks: Checks,
    pub(super) catch_up: CatchUp,
    mailboxes: Vec<Arc<Mailbox>>,
    store: Store,
    forward: OnceLock<Forward>,
    /// The life that the workers serve under.
    life: OnceLock<NodeLife>,
    /// Up to which metadata index the workers were told of changes.
    told: watch::Sender<LogIndex>,
}

/// What they are made of.
pub struct Parts {
    pub lease: Lease,
    pub metadata: Metadata,
    pub sessions: Sessions,
    pub handover: Handover,
    pub meta: SharedMeta,
    pub calls: SharedControl,
    pub clock: SharedClock,
    pub domain: String,
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub store: Store,
    /// What is published below `$SYS`; nothing, if it is off.
    pub figures: Option<NodeFigures>,
}

impl NodeServices {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { lease, metadata, sessions, handover, meta, calls, clock, domain, mailboxes, store, figures } =
            parts;
        let catch_up = CatchUp::new(metadata.clone(), clock.clone());
        Arc::new(Self {
            lease,
            metadata,
            sessions,
            handover,
            meta,
            calls,
            clock,
            catch_up,
            domain,
            control: Handle::current(),
            verifier: Verifier::new(),
            quota: SharedQuota::default(),
            figures,
            log: Sparing::default(),
            checks: Checks::default(),
            mailboxes,
            store,
            forward: OnceLock::new(),
            life: OnceLock::new(),
            told: watch::Sender::new(LogIndex(0)),
        })
    }

    /// The life that the workers serve under, if they do.
    pub fn life(&self) -> Option<NodeLife> {
        self.life.get().copied()
    }

    /// Forwarding starts once the node has a life. To be called once, before the workers start.
    pub fn begin(&self, life: NodeLife, forward: Forward) {
        let _ = self.life.set(life);
        let _ = self.forward.set(forward);
    }

    pub fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// The workers know all changes up to `index`.
    pub fn told(&self, index: LogIndex) {
        self.told.send_replace(index);
    }

    /// The memory of tokens' signatures.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    pub(super) fn check(
        &self,
        request: &AuthRequest,
        verify: impl FnOnce(&State, Option<BrokerId>, &str, UnixMillis) -> Result<Verified, Denied>,
    ) -> Result<Admitted, Denied> {
        let state = self.metadata.view();
        let expected = match request.server_name.as_deref().map(|name| broker_of_name(&state, name, &self.domain)) {
            Some(NameOf::Broker(broker)) => Some(broker),
            Some(NameOf::Nobody) => return Err(Denied::NoBroker),
            Some(NameOf::Other) | None => None,
        };
        let token = request.password.as_deref().unwrap_or_default();
        let token = std::str::from_utf8(token).map_err(|_| Denied::Malformed("not text".into()))?;
        let verified = verify(&state, expected, token, self.clock.wall())?;
        if !request.client_id.is_empty() && request.client_id != *verified.client_id {
            return Err(Denied::OtherClient);
        }
        admit(&state, verified)
    }
}

fn admit(state: &State, verified: Verified) -> Result<Admitted, Denied> {
    let broker = state.broker(verified.broker).ok_or(Denied::NoBroker)?;
    Ok(Admitted {
        broker: verified.broker,
        client: verified.client_id,
        jti: verified.jti,
        kid: verified.kid.0,
        expires: verified.expires,
        acl: verified.acl,
        settings: Arc::new(settings(&broker.settings.limits)),
    })
}

/// See [`View::admits`]: as `Verified::still_admitted`.
fn still_admits(state: &State, admitted: &Admitted, now: UnixMillis) -> Result<(), Denied> {
    crate::auth::admits(state, admitted.broker, &admitted.jti, admitted.expires, now)?;
    match state.broker_of_key(&admitted.kid) {
        Some(broker) if broker.id == admitted.broker => Ok(()),
        _ => Err(Denied::UnknownKey),
    }
}

/// What a server name or Host header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// That broker.
    Broker(BrokerId),
    /// A name inside the domain that is no broker's.
    Nobody,
    /// Not a name of the domain: as if it were absent.
    Other,
}

/// Which broker `name` belongs to: `broker.namespace.domain`.
pub fn broker_of_name(state: &State, name: &str, domain: &str) -> NameOf {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let Some(inside) = name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')) else {
        return NameOf::Other;
    };
    let found = inside.split_once('.').and_then(|(broker, namespace)| state.find_broker(namespace, broker));
    found.map_or(NameOf::Nobody, |broker| NameOf::Broker(broker.id))
}

/// Nodes that a client is told of when it is to use another one.
const REFERENCES: usize = 8;

impl View for NodeServices {
    fn elsewhere(&self, transport: Transport) -> Option<String> {
        let state = self.metadata.view();
        let own = self.life().map(|life| life.node);
        let others = state.live_set().keys().filter(|node| Some(**node) != own).filter_map(|node| state.node(*node));
        let addresses = others.map(|record| {
            let at = &record.card.addresses;
            match transport {
                Transport::Tcp => &at.mqtt,
                Transport::Tls => &at.mqtts,
                Transport::Ws => &at.ws,
                Transport::Wss => &at.wss,
            }
        });
        let known: Vec<&str> = addresses.map(String::as_str).filter(|at| !at.is_empty()).take(REFERENCES).collect();
        (!known.is_empty()).then(|| known.join(" "))
    }

    fn serving_until(&self) -> Moment {
        // Read in this order: a lease is granted after its life is shown. The workers serve under one life; the lease
        // of the next is not theirs, and their claims are void by then (R3).
        let until = self.lease.serving_until();
        if self.lease.life().as_ref() == self.life.get() { until } else { Moment::default() }
    }

    fn wall(&self) -> UnixMillis {
        self.clock.wall()
    }

    fn admits(&self, admitted: &Admitted) -> Result<(), ReasonCode> {
        let state = self.metadata.view();
        still_admits(&state, admitted, self.clock.wall()).map_err(|denied| match denied {
            Denied::NoBroker => ReasonCode::ADMINISTRATIVE_ACTION,
            _ => ReasonCode::NOT_AUTHORIZED,
        })
    }
}

impl Services for NodeServices {
    fn view(&self) -> &dyn View {
        self
    }

    fn quota(&self) -> Box<dyn Quota> {
        Box::new(self.quota.clone())
    }

    fn bulletin(&self) -> Option<Box<dyn Bulletin>> {
        self.figures.clone().map(|figures| Box::new(figures) as Box<dyn Bulletin>)
    }

    fn recognise(&self, request: &AuthRequest) -> Option<Admitted> {
        let known = |state: &State, expected, token: &str, now| {
            self.verifier.recognise(state, expected, token, now).ok_or(Denied::Unknown)
        };
        self.check(request, known).ok()
    }

    fn authenticate(self: Arc<Self>, answer: Arc<Mailbox>, conn: ConnKey, request: AuthRequest) {
        self.check_later(answer, conn, request);
    }

    fn claim(&self, request: ClaimRequest) {
        self.sessions.claim(request);
    }

    fn abandon(&self, broker: BrokerId, client: ClientId, nonce: Nonce) {
        self.sessions.abandon(broker, client, nonce);
    }

    fn release(&self, broker: BrokerId, client: ClientId, epoch: Epoch, nonce: Nonce, leave: Leave) {
        self.sessions.release(broker, client, epoch, nonce, leave);
    }

    fn persist(
        &self,
        broker: BrokerId,
        client: ClientId,
        epoch: Epoch,
        nonce: Nonce,
        token: u64,
        changes: Vec<(Arc<str>, Option<u64>)>,
    ) {
        self.sessions.persist(broker, client, epoch, nonce, token, changes);
    }

    fn recall(self: Arc<Self>, worker: WorkerId, broker: BrokerId, client: ClientId, nonce: Nonce) {
        moves::recall(self, worker, broker, client, nonce);
    }

    fn fetch(self: Arc<Self>, worker: WorkerId, home: Home, asked: SessionAsked, answer: Answer) {
        moves::fetch(self, worker, home, asked, answer);
    }

    fn store(&self) -> Option<Store> {
        Some(self.store.clone())
    }

    fn replicas(&self) -> Arc<Replicas> {
        self.forward.get().map_or_else(Arc::default, Forward::replicas)
    }

    fn will_timed(&self, token: u64, time: Time) {
        self.sessions.will_timed(token, time);
    }

    fn will_published(&self, token: u64) {
        self.sessions.will_published(token);
    }

    fn will_refused(&self, token: u64) {
        self.sessions.will_refused(token);
    }

    fn subscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>, token: u64) {
        if let Some(forward) = self.forward.get() {
            forward.subscribe(worker, broker, filter, token);
        }
    }

    fn unsubscribe(&self, worker: WorkerId, broker: BrokerId, filter: Arc<str>) {
        if let Some(forward) = self.forward.get() {
            forward.unsubscribe(worker, broker, filter);
        }
    }

    fn interest_seen(&self, worker: WorkerId, token: u64) {
        if let Some(forward) = self.forward.get() {
            forward.interest_seen(worker, token);
        }
    }

    fn send(&self, worker: WorkerId, peer: NodeId, runs: Vec<Run>) -> Result<u64, (SendError, Vec<Run>)> {
        match self.forward.get() {
            Some(forward) => forward.send(worker, peer, runs),
            None => Err((SendError::NotLive, runs)),
        }
    }
}

impl AppliedPort for NodeServices {
    fn workers_applied(&self, index: LogIndex) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut told = self.told.subscribe();
            if told.wait_for(|told| *told >= index).await.is_err() {
                return std::future::pending().await;
            }
            // Whatever was posted before is done when the worker comes to this.
            for mailbox in &self.mailboxes {
                let (done, seen) = oneshot::channel();
                mailbox.post(Mail::Sync(Box::new(move || {
                    let _ = done.send(());
                })));
                if seen.await.is_err() {
                    return std::future::pending().await;
                }
            }
        })
    }
}
