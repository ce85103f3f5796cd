//! The server's side of the calls.

use std::sync::Arc;

use rookery_proto::control as wire;
use rookery_proto::control::control_server::{Control, ControlServer};
use tonic::{Request, Response, Status};

use super::grpc::{life_from_wire, life_to_wire, notice_from_wire, verdict_to_wire};
use super::{AppliedPort, Notices, SharedMeta};
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
}

impl ControlService {
    /// The service of this node.
    pub fn new(lease: Lease, sessions: Arc<dyn Notices>, meta: SharedMeta, applied: Arc<dyn AppliedPort>) -> Self {
        Self { lease, sessions, meta, applied }
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
