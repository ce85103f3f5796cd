//! Calls over gRPC, and the wire form of what they carry.

use std::time::Duration;

use rookery_proto::control as wire;
use rookery_proto::control::control_client::ControlClient as Client;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{ControlClient, ControlError, Notice, NoticeKind, handover};
use crate::consensus::BoxFuture;
use crate::handle::{Home, SessionGrant};
use crate::ids::{BrokerId, Epoch, Incarnation, LogIndex, NodeId, NodeLife, Nonce, SessionId, WorkerId};
use crate::leases::Verdict;
use crate::limits::{LEASE_ANSWER, LEASE_RENEW_EVERY, MAX_GRPC_MESSAGE_BYTES};
use crate::net::{Purpose, SharedPeers};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// How long a short call may take. Not longer than the time to the next renewal, so that a node which lost its
/// leader finds the new one within its lease.
const CALL_TIMEOUT: Duration = LEASE_RENEW_EVERY;

/// [`ControlClient`] on the peers' control connections.
pub struct GrpcControl {
    peers: SharedPeers,
}

impl GrpcControl {
    /// Calls over `peers`.
    pub fn new(peers: SharedPeers) -> Self {
        Self { peers }
    }

    fn client(&self, peer: NodeId) -> Result<Client<Channel>, ControlError> {
        let channel = self.peers.channel(peer, Purpose::Control).ok_or(ControlError::Unreachable)?;
        Ok(Client::new(channel).max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES))
    }
}

impl ControlClient for GrpcControl {
    fn renew(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<Verdict, ControlError>> {
        Box::pin(async move {
            let message = wire::RenewLeaseRequest { life: Some(life_to_wire(life)) };
            let answer = self.client(leader)?.renew_lease(within(message, LEASE_ANSWER)).await.map_err(failed)?;
            verdict_from_wire(answer.into_inner().verdict())
        })
    }

    fn notify(&self, to: NodeId, notices: Vec<Notice>) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let message = wire::NotifyRequest { notices: notices.iter().map(notice_to_wire).collect() };
            self.client(to)?.notify(within(message, CALL_TIMEOUT)).await.map_err(failed)?;
            Ok(())
        })
    }

    fn report_stuck(&self, leader: NodeId, life: NodeLife) -> BoxFuture<'_, Result<(), ControlError>> {
        Box::pin(async move {
            let message = wire::ReportStuckRequest { life: Some(life_to_wire(life)) };
            self.client(leader)?.report_stuck(within(message, CALL_TIMEOUT)).await.map_err(failed)?;
            Ok(())
        })
    }

    fn wait_applied(
        &self,
        node: NodeId,
        index: LogIndex,
        limit: Duration,
    ) -> BoxFuture<'_, Result<NodeLife, ControlError>> {
        Box::pin(async move {
            let message = wire::WaitAppliedRequest { index: index.0 };
            let answer = self.client(node)?.wait_applied(within(message, limit)).await.map_err(failed)?;
            life_from_wire(answer.into_inner().life).map_err(failed)
        })
    }

    fn drain(
        &self,
        node: NodeId,
        broker: BrokerId,
        home: Home,
        limit: Duration,
    ) -> BoxFuture<'_, Result<NodeLife, ControlError>> {
        Box::pin(async move {
            let message = handover::drain_to_wire(broker, home);
            let answer = self.client(node)?.drain(within(message, limit)).await.map_err(failed)?;
            life_from_wire(answer.into_inner().life).map_err(failed)
        })
    }
}

fn within<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

fn failed(status: Status) -> ControlError {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ControlError::Unreachable,
        _ => ControlError::Status(status.message().to_owned()),
    }
}

pub(super) fn life_to_wire(life: NodeLife) -> wire::Life {
    wire::Life { node: life.node.0, incarnation: life.incarnation.0 }
}

pub(super) fn life_from_wire(life: Option<wire::Life>) -> Result<NodeLife, Status> {
    let life = life.ok_or_else(|| Status::invalid_argument("no life given"))?;
    Ok(NodeLife { node: NodeId(life.node), incarnation: Incarnation(life.incarnation) })
}

pub(super) fn verdict_to_wire(verdict: Verdict) -> wire::renew_lease_response::Verdict {
    use wire::renew_lease_response::Verdict as Wire;
    match verdict {
        Verdict::Granted => Wire::Granted,
        Verdict::Ended => Wire::Ended,
        Verdict::Refused => Wire::Refused,
        Verdict::NotLeader => Wire::NotLeader,
    }
}

fn verdict_from_wire(verdict: wire::renew_lease_response::Verdict) -> Result<Verdict, ControlError> {
    use wire::renew_lease_response::Verdict as Wire;
    match verdict {
        Wire::Granted => Ok(Verdict::Granted),
        Wire::Ended => Ok(Verdict::Ended),
        Wire::Refused => Ok(Verdict::Refused),
        Wire::NotLeader => Ok(Verdict::NotLeader),
        Wire::Unspecified => Err(ControlError::Status("no verdict".into())),
    }
}

pub(super) fn notice_to_wire(notice: &Notice) -> wire::Notice {
    use wire::notice::Kind;
    let (kind, epoch) = match notice.kind {
        NoticeKind::Granted { epoch, .. } => (Kind::Granted, epoch),
        NoticeKind::Revoked { epoch } => (Kind::Revoked, epoch),
        NoticeKind::Refused(Refusal::Superseded) => (Kind::Superseded, Epoch(0)),
        NoticeKind::Refused(Refusal::TooFast) => (Kind::TooFast, Epoch(0)),
        NoticeKind::Refused(Refusal::Expired) => (Kind::Expired, Epoch(0)),
        NoticeKind::Refused(Refusal::Full) => (Kind::Full, Epoch(0)),
        NoticeKind::Refused(Refusal::Outdated) => (Kind::Outdated, Epoch(0)),
        NoticeKind::Discard { .. } => (Kind::Discard, Epoch(0)),
    };
    let session = match notice.kind {
        NoticeKind::Granted { session: Some(grant), .. } => Some(wire::Session {
            id: grant.id.0,
            present: grant.present,
            home: grant.home.map(|home| life_to_wire(home.life)),
            worker: grant.home.map_or(0, |home| u32::from(home.worker.0)),
        }),
        NoticeKind::Discard { session, worker } => {
            Some(wire::Session { id: session.0, present: false, home: None, worker: u32::from(worker.0) })
        }
        _ => None,
    };
    wire::Notice {
        to: Some(life_to_wire(notice.to.life)),
        nonce: notice.to.nonce.0,
        broker: bytes::Bytes::copy_from_slice(&notice.key.broker.0.to_be_bytes()),
        client: notice.key.client.to_string(),
        kind: kind.into(),
        epoch: epoch.0,
        session,
    }
}

fn session_from_wire(session: wire::Session) -> Result<(SessionGrant, WorkerId), Status> {
    let worker = u16::try_from(session.worker).map_err(|_| Status::invalid_argument("a worker id has 16 bits"))?;
    let worker = WorkerId(worker);
    let home = session.home.map(|life| life_from_wire(Some(life))).transpose()?.map(|life| Home { life, worker });
    Ok((SessionGrant { id: SessionId(session.id), present: session.present, home }, worker))
}

pub(super) fn notice_from_wire(notice: wire::Notice) -> Result<Notice, Status> {
    use wire::notice::Kind;
    let epoch = Epoch(notice.epoch);
    let session = notice.session.map(session_from_wire).transpose()?;
    let kind = match notice.kind.try_into().unwrap_or(Kind::Unspecified) {
        Kind::Granted => NoticeKind::Granted { epoch, session: session.map(|(grant, _)| grant) },
        Kind::Discard => {
            let (grant, worker) = session.ok_or_else(|| Status::invalid_argument("no session given"))?;
            NoticeKind::Discard { session: grant.id, worker }
        }
        Kind::Revoked => NoticeKind::Revoked { epoch },
        Kind::Superseded => NoticeKind::Refused(Refusal::Superseded),
        Kind::TooFast => NoticeKind::Refused(Refusal::TooFast),
        Kind::Expired => NoticeKind::Refused(Refusal::Expired),
        Kind::Full => NoticeKind::Refused(Refusal::Full),
        Kind::Outdated => NoticeKind::Refused(Refusal::Outdated),
        Kind::Unspecified => return Err(Status::invalid_argument("a notice of an unknown kind")),
    };
    let broker: [u8; 16] =
        notice.broker.as_ref().try_into().map_err(|_| Status::invalid_argument("a broker id is 16 bytes"))?;
    let to = Claimant { life: life_from_wire(notice.to)?, nonce: Nonce(notice.nonce) };
    let key = ClaimKey { broker: BrokerId(u128::from_be_bytes(broker)), client: notice.client.into() };
    Ok(Notice { to, key, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_the_wire() {
        let life = NodeLife { node: NodeId(3), incarnation: Incarnation(9) };
        let kinds = [
            NoticeKind::Granted { epoch: Epoch(4), session: None },
            NoticeKind::Granted {
                epoch: Epoch(4),
                session: Some(SessionGrant {
                    id: SessionId(2),
                    present: true,
                    home: Some(Home { life, worker: WorkerId(3) }),
                }),
            },
            NoticeKind::Granted {
                epoch: Epoch(4),
                session: Some(SessionGrant { id: SessionId(2), present: false, home: None }),
            },
            NoticeKind::Discard { session: SessionId(5), worker: WorkerId(1) },
            NoticeKind::Revoked { epoch: Epoch(5) },
            NoticeKind::Refused(Refusal::Superseded),
            NoticeKind::Refused(Refusal::TooFast),
            NoticeKind::Refused(Refusal::Expired),
            NoticeKind::Refused(Refusal::Full),
            NoticeKind::Refused(Refusal::Outdated),
        ];
        for kind in kinds {
            let key = ClaimKey { broker: BrokerId(u128::MAX - 1), client: "c".into() };
            let notice = Notice { to: Claimant { life, nonce: Nonce(8) }, key, kind };
            assert_eq!(notice_from_wire(notice_to_wire(&notice)).ok(), Some(notice));
        }
    }

    #[test]
    fn a_notice_that_makes_no_sense_is_refused() {
        assert!(notice_from_wire(wire::Notice::default()).is_err());
    }
}
