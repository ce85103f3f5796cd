//! The server's side of the calls.

use std::sync::Arc;

use rookery_proto::control as wire;
use rookery_proto::control::control_server::{Control, ControlServer};
use tonic::{Request, Response, Status};

use super::grpc::{life_from_wire, life_to_wire, notice_from_wire, verdict_to_wire};
use super::{AppliedPort, KeptSessions, Notices, SessionReply, SharedMeta, handover};
use crate::ids::{LogIndex, NodeId};
use crate::leases::driver::Lease;
use crate::limits::MAX_GRPC_MESSAGE_BYTES;
use crate::net::PeerIdentity;

/// Answers other nodes' control calls. Every request must carry a [`PeerIdentity`].
pub struct ControlService {
    lease: Lease,
    sessions: Arc<dyn Notices>,
    meta: SharedMeta,
    applied: Arc<dyn AppliedPort>,
    kept: Arc<dyn KeptSessions>,
}

impl ControlService {
    /// The service of this node.
    pub fn new(
        lease: Lease,
        sessions: Arc<dyn Notices>,
        meta: SharedMeta,
        applied: Arc<dyn AppliedPort>,
        kept: Arc<dyn KeptSessions>,
    ) -> Self {
        Self { lease, sessions, meta, applied, kept }
    }

    /// To be added to the peer server.
    pub fn into_server(self) -> ControlServer<Self> {
        ControlServer::new(self)
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES)
    }
}

fn peer<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let identity = request.extensions().get::<PeerIdentity>();
    identity.map(|p| p.0).ok_or_else(|| Status::unauthenticated("the connection names no node"))
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn renew_lease(
        &self,
        request: Request<wire::RenewLeaseRequest>,
    ) -> Result<Response<wire::RenewLeaseResponse>, Status> {
        let from = peer(&request)?;
        let life = life_from_wire(request.into_inner().life)?;
        if life.node != from {
            return Err(Status::permission_denied("a node renews its own lease only"));
        }
        let verdict = verdict_to_wire(self.lease.renew_for(life).await);
        Ok(Response::new(wire::RenewLeaseResponse { verdict: verdict.into() }))
    }

    async fn notify(&self, request: Request<wire::NotifyRequest>) -> Result<Response<wire::NotifyResponse>, Status> {
        peer(&request)?;
        let notices = request.into_inner().notices.into_iter().map(notice_from_wire).collect::<Result<_, _>>()?;
        self.sessions.notices(notices);
        Ok(Response::new(wire::NotifyResponse {}))
    }

    type FetchSessionStream = handover::Pieces;

    async fn fetch_session(
        &self,
        request: Request<wire::FetchSessionRequest>,
    ) -> Result<Response<Self::FetchSessionStream>, Status> {
        peer(&request)?;
        let (home, asked) = handover::asked_from_wire(request.into_inner())?;
        let reply = match self.lease.life() {
            Some(life) if life == home.life => {
                let reply = self.kept.asked(home.worker, asked).await;
                reply.ok_or_else(|| Status::unavailable("the worker cannot say now; try again"))?
            }
            _ => SessionReply::Gone,
        };
        Ok(Response::new(handover::pieces(reply)))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        peer(&request)?;
        let (broker, home) = handover::drain_from_wire(request.into_inner())?;
        // Read before the wait: what was published under a later life is another's to answer for.
        let life = self.lease.life().ok_or_else(|| Status::unavailable("no life is registered yet"))?;
        if !self.kept.drained(broker, home).await {
            return Err(Status::unavailable("a worker cannot say now; try again"));
        }
        Ok(Response::new(wire::DrainResponse { life: Some(life_to_wire(life)) }))
    }

    async fn report_stuck(
        &self,
        request: Request<wire::ReportStuckRequest>,
    ) -> Result<Response<wire::ReportStuckResponse>, Status> {
        let from = peer(&request)?;
        let life = life_from_wire(request.into_inner().life)?;
        self.lease.stuck(life, from);
        Ok(Response::new(wire::ReportStuckResponse {}))
    }

    async fn wait_applied(
        &self,
        request: Request<wire::WaitAppliedRequest>,
    ) -> Result<Response<wire::WaitAppliedResponse>, Status> {
        peer(&request)?;
        let index = LogIndex(request.into_inner().index);
        // Read before the wait: what holds for a life holds for a later one of the same process, but a life
        // registered while this waits is another's to answer for.
        let life = self.lease.life().ok_or_else(|| Status::unavailable("no life is registered yet"))?;
        applied(&self.meta, &*self.applied, index).await;
        Ok(Response::new(wire::WaitAppliedResponse { life: Some(life_to_wire(life)) }))
    }
}

/// Resolves when this node has applied `index` of the metadata and its workers act by it.
pub(crate) async fn applied(meta: &SharedMeta, workers: &dyn AppliedPort, index: LogIndex) {
    loop {
        let seen = meta.applied();
        if seen >= index {
            break;
        }
        meta.changed(seen).await;
    }
    workers.workers_applied(index).await;
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::claims::testing::{AtOnce, Node, World};
    use crate::consensus::BoxFuture;
    use crate::handle::{Home, SessionAsked};
    use crate::ids::{BrokerId, Epoch, Incarnation, NodeLife, SessionId, WorkerId};
    use wire::renew_lease_response::Verdict;

    /// Keeps one session, at its worker 2.
    struct Nothing;

    impl KeptSessions for Nothing {
        fn asked(&self, worker: WorkerId, asked: SessionAsked) -> BoxFuture<'_, Option<SessionReply>> {
            let here = worker == WorkerId(2) && asked.session == SessionId(5);
            let awaited = Home { life: NodeLife::default(), worker: WorkerId(3) };
            let reply = match (here, asked.take) {
                _ if asked.epoch == Epoch(1) => SessionReply::Superseded,
                _ if asked.epoch == Epoch(2) => SessionReply::Awaits(awaited),
                (false, _) => SessionReply::Gone,
                (true, false) => SessionReply::Subscriptions(vec![("a/+".into(), 7)]),
                (true, true) => SessionReply::State(vec![3; 3 << 20].into()),
            };
            Box::pin(async move { Some(reply) })
        }

        fn drained(&self, _: BrokerId, home: Home) -> BoxFuture<'_, bool> {
            Box::pin(async move { home.worker == WorkerId(2) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_given_by_the_life_that_keeps_it() {
        let world = World::new();
        let one = Node::start(&world, 1).await;
        let it = service(&one);
        let life = one.lease.life().expect("a life");
        let fetch_by = async |home: Home, session: u64, take: bool, epoch: u64| {
            let (session, epoch) = (SessionId(session), Epoch(epoch));
            let asked = SessionAsked { broker: BrokerId(9), client: "c".into(), session, take, epoch };
            let request = from(2, handover::asked_to_wire(home, &asked));
            handover::gather(it.fetch_session(request).await.expect("answers").into_inner()).await
        };
        let fetch = async |home, session, take| fetch_by(home, session, take, 7).await;
        let home = Home { life, worker: WorkerId(2) };
        let awaited = Home { life: NodeLife::default(), worker: WorkerId(3) };
        assert_eq!(fetch_by(home, 5, true, 1).await.ok(), Some(SessionReply::Superseded));
        assert_eq!(fetch_by(home, 5, true, 2).await.ok(), Some(SessionReply::Awaits(awaited)));
        assert_eq!(fetch(home, 5, false).await.ok(), Some(SessionReply::Subscriptions(vec![("a/+".into(), 7)])));
        assert_eq!(fetch(home, 5, true).await.ok(), Some(SessionReply::State(vec![3; 3 << 20].into())));
        assert_eq!(fetch(home, 6, true).await.ok(), Some(SessionReply::Gone));
        let earlier = Home { life: NodeLife { incarnation: Incarnation(0), ..life }, ..home };
        assert_eq!(fetch(earlier, 5, true).await.ok(), Some(SessionReply::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_says_under_which_life_it_has_handed_over_what_it_had() {
        let world = World::new();
        let one = Node::start(&world, 1).await;
        let it = service(&one);
        let life = NodeLife { node: NodeId(2), incarnation: Incarnation(4) };
        let drain = async |worker| {
            let home = Home { life, worker: WorkerId(worker) };
            it.drain(from(2, handover::drain_to_wire(BrokerId(9), home))).await.map(|reply| reply.into_inner().life)
        };
        let answered = drain(2).await.ok().and_then(|life| life_from_wire(life).ok());
        assert_eq!(answered, one.lease.life());
        assert_eq!(drain(3).await.map_err(|status| status.code()).err(), Some(Code::Unavailable));
    }

    fn from<T>(node: u64, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(PeerIdentity(NodeId(node)));
        request
    }

    fn service(node: &Node) -> ControlService {
        let sessions = Arc::new(node.sessions.clone());
        ControlService::new(node.lease.clone(), sessions, node.meta.clone(), Arc::new(AtOnce), Arc::new(Nothing))
    }

    fn renew(node: u64, incarnation: u64) -> wire::RenewLeaseRequest {
        let life = NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) };
        wire::RenewLeaseRequest { life: Some(life_to_wire(life)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_renews_its_own_lease_only() {
        let world = World::new();
        let (one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
        let leader = service(&one);
        let verdict = async |node, incarnation| {
            leader.renew_lease(from(node, renew(2, incarnation))).await.map(|r| r.into_inner().verdict())
        };
        assert_eq!(verdict(2, 1).await.ok(), Some(Verdict::Granted));
        assert_eq!(verdict(3, 1).await.map_err(|s| s.code()).err(), Some(Code::PermissionDenied));
        assert_eq!(verdict(2, 0).await.ok(), Some(Verdict::Ended));
        assert_eq!(verdict(2, 2).await.ok(), Some(Verdict::NotLeader), "not registered as far as it knows");
        let anonymous = leader.renew_lease(Request::new(renew(2, 1))).await;
        assert_eq!(anonymous.map_err(|s| s.code()).err(), Some(Code::Unauthenticated));
        let other = service(&two).renew_lease(from(1, renew(1, 1))).await.unwrap();
        assert_eq!(other.into_inner().verdict(), Verdict::NotLeader);
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_is_answered_for_once_it_is_applied() {
        let world = World::new();
        let one = Node::start(&world, 1).await;
        let it = service(&one);
        let index = LogIndex(world.write().0 + 1);
        let mut answer = it.wait_applied(from(2, wire::WaitAppliedRequest { index: index.0 }));
        assert!(futures_util::FutureExt::now_or_never(&mut answer).is_none());
        world.write();
        let life = answer.await.unwrap().into_inner().life;
        assert_eq!(life_from_wire(life).ok(), one.lease.life());
    }
}
