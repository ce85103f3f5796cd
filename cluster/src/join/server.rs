//! The admitting side.

use std::net::SocketAddr;
use std::sync::Arc;

use rookery_proto::join as proto;
use rookery_proto::join::certificates_server::{Certificates, CertificatesServer};
use rookery_proto::join::join_server::{Join, JoinServer};
use rookery_proto::join::standing_reply::Standing as Wire;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{JoinAuthority, JoinRefusal, JoinReply, JoinRequest, Standing, secret_hash};
use crate::ids::NodeId;
use crate::net::{JoinSource, PeerIdentity};
use crate::pki::request_key_hash;

/// Joins decided at one time: each costs a commit and a signature, and callers are not known yet.
const CONCURRENT: usize = 8;
/// A request with every field at its use is below this, bytes.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// For the join protocol (`net::PeerServer::joins`).
pub fn join_service(authority: Arc<dyn JoinAuthority>) -> JoinServer<impl Join> {
    let door = JoinDoor { authority, turns: Semaphore::new(CONCURRENT) };
    JoinServer::new(door).max_decoding_message_size(MAX_REQUEST_BYTES)
}

/// For members (`net::PeerServer::peers`).
pub fn certificate_service(authority: Arc<dyn JoinAuthority>) -> CertificatesServer<impl Certificates> {
    CertificatesServer::new(Renewals { authority }).max_decoding_message_size(MAX_REQUEST_BYTES)
}

struct JoinDoor {
    authority: Arc<dyn JoinAuthority>,
    turns: Semaphore,
}

#[tonic::async_trait]
impl Join for JoinDoor {
    async fn join(&self, request: Request<proto::JoinRequest>) -> Result<Response<proto::JoinReply>, Status> {
        let Some(JoinSource(from)) = request.extensions().get().copied() else {
            return Err(Status::internal("not on the join protocol"));
        };
        let _turn = self.turns.try_acquire().map_err(|_| Status::unavailable("too many nodes join at this moment"))?;
        let request = checked(request.into_inner(), from)?;
        let name = request.name.clone();
        match self.authority.admit(request).await {
            Ok(reply) => {
                tracing::info!(%from, name, node = %reply.node, "a node joined");
                Ok(Response::new(to_proto(reply)))
            }
            Err(refusal) => {
                tracing::warn!(%from, name, %refusal, "refused a node that asked to join");
                Err(status(refusal))
            }
        }
    }

    async fn standing(
        &self,
        request: Request<proto::StandingRequest>,
    ) -> Result<Response<proto::StandingReply>, Status> {
        let standing = self.authority.standing(NodeId(request.into_inner().node));
        Ok(Response::new(standing_to_wire(standing)))
    }
}

fn standing_to_wire(standing: Standing) -> proto::StandingReply {
    let only = |standing: Wire| proto::StandingReply { standing: standing.into(), ..Default::default() };
    match standing {
        Standing::Member { incarnation, live, address } => {
            proto::StandingReply { incarnation: incarnation.0, live, address, ..only(Wire::Member) }
        }
        Standing::Removed => only(Wire::Removed),
        Standing::Unknown => only(Wire::Unknown),
    }
}

struct Renewals {
    authority: Arc<dyn JoinAuthority>,
}

#[tonic::async_trait]
impl Certificates for Renewals {
    async fn renew(&self, request: Request<proto::RenewRequest>) -> Result<Response<proto::RenewReply>, Status> {
        let Some(PeerIdentity(node)) = request.extensions().get().copied() else {
            return Err(Status::unauthenticated("no node certificate"));
        };
        let proto::RenewRequest { request_pem, hosts } = request.into_inner();
        let certificate_pem = self.authority.renew(node, request_pem, hosts).await.map_err(status)?;
        Ok(Response::new(proto::RenewReply { certificate_pem }))
    }
}

fn checked(request: proto::JoinRequest, from: SocketAddr) -> Result<JoinRequest, Status> {
    let key_hash = request_key_hash(&request.request_pem).map_err(|e| Status::invalid_argument(e.to_string()))?;
    Ok(JoinRequest {
        secret_hash: secret_hash(&request.secret),
        name: request.name,
        request_pem: request.request_pem,
        key_hash,
        addresses: request.addresses.into_iter().collect(),
        hosts: request.hosts,
        version: request.version,
        region: request.region,
        zone: request.zone,
        from,
    })
}

fn to_proto(reply: JoinReply) -> proto::JoinReply {
    proto::JoinReply {
        node: reply.node.0,
        cluster: reply.cluster.to_string(),
        certificate_pem: reply.certificate_pem,
        ca_pem: reply.ca_pem,
        cluster_key: reply.secrets.cluster_key.to_vec().into(),
        key_encryption_key: reply.secrets.key_encryption_key.to_vec().into(),
        peers: reply.peers.into_iter().map(|(id, at)| (id.0, at)).collect(),
    }
}

fn status(refusal: JoinRefusal) -> Status {
    match refusal {
        JoinRefusal::Token(why) => Status::unauthenticated(why),
        JoinRefusal::Invalid(why) => Status::invalid_argument(why),
        JoinRefusal::Version(why) => Status::failed_precondition(why),
        JoinRefusal::Unavailable(why) => Status::unavailable(why),
    }
}
