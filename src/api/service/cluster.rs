//! Actions on the cluster.

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::consensus::GroupStatus;
use rookery_cluster::ids::{GroupId, NodeId};
use rookery_cluster::join::JoinToken;
use rookery_cluster::membership::{Member, MemberState};
use rookery_cluster::metadata::{CommandBody, Lease, NodeRecord, State};
use rookery_cluster::pki::CaHash;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::tokens::made_before;
use super::{Caller, Service, misrouted};
use crate::api::action::Action;
use crate::api::error::{ApiError, ApiErrorKind};
use crate::api::reply::{GroupView, LeaseView, MemberView, Reply, StatusView};

impl Service {
    pub(super) async fn cluster(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        caller.require_all()?;
        match action {
            // What a node sees of a cluster in trouble must not depend on the cluster.
            Action::Status => Ok(Reply::Status(self.status())),
            Action::Members => Ok(Reply::Members(self.members())),
            Action::CreateJoinToken { seconds, uses } => self.create_join_token(caller, seconds, uses).await,
            other => Err(misrouted(&other)),
        }
    }

    fn status(&self) -> StatusView {
        let cluster = &self.0.cluster;
        let groups = cluster.groups().into_iter().map(|(id, status)| GroupView { id, status }).collect();
        StatusView {
            node: cluster.me(),
            version: env!("CARGO_PKG_VERSION"),
            ready: cluster.ready(),
            settled: cluster.settled(),
            leases: self.0.metadata.view().nodes().map(|node| lease(node)).collect(),
            groups,
        }
    }

    fn members(&self) -> Vec<MemberView> {
        let state = self.0.metadata.view();
        let seen = self.0.cluster.members();
        let groups = self.0.cluster.groups();
        let metadata = groups.into_iter().find(|(id, _)| *id == GroupId::METADATA).map(|(_, status)| status);
        let metadata = metadata.unwrap_or_default();
        state.nodes().map(|node| view(node, &seen, &metadata)).collect()
    }

    async fn create_join_token(&self, caller: Caller, seconds: u64, uses: u32) -> Result<Reply, ApiError> {
        let ca = ca_hash(self.read().await?.as_ref())?;
        let expires = UnixMillis(self.0.clock.wall().0 + seconds * 1000);
        let token = JoinToken::generate(ca, expires, self.0.rng.as_ref());
        let hash = token.secret_hash();
        let (index, _) = self.write(caller, |_| Ok(CommandBody::AddJoinToken { hash, expires, uses })).await?;
        if caller.request.is_some() && !self.see(index).await?.join_tokens().any(|(known, _)| *known == hash) {
            return Err(made_before("join token", "make another"));
        }
        Ok(Reply::JoinToken { token: token.to_string(), expires, ca_hash: ca.to_string() })
    }
}

fn ca_hash(state: &State) -> Result<CaHash, ApiError> {
    let broken = |why: &str| ApiError::new(ApiErrorKind::Internal, format!("the cluster's authority: {why}"));
    let cluster = state.cluster().ok_or_else(|| broken("the cluster is not initialized"))?;
    let certificate = CertificateDer::from_pem_slice(cluster.ca_pem.as_bytes()).map_err(|e| broken(&e.to_string()))?;
    Ok(CaHash::of(&certificate))
}

fn view(node: &NodeRecord, seen: &[Member], metadata: &GroupStatus) -> MemberView {
    let member = seen.iter().find(|member| member.life == node.life());
    MemberView {
        id: node.id,
        name: node.name.clone(),
        incarnation: node.incarnation,
        address: node.card.addresses.peer.clone(),
        state: match member.map(|member| member.state) {
            Some(MemberState::Up) => "alive",
            Some(MemberState::Suspect) => "suspect",
            Some(MemberState::Down) => "down",
            None => "unknown",
        },
        role: role(node.id, metadata),
        region: node.card.region.clone(),
        zone: node.card.zone.clone(),
        version: node.card.version.clone(),
        leased: node.lease == Lease::Live,
    }
}

fn lease(node: &NodeRecord) -> LeaseView {
    LeaseView {
        node: node.id,
        name: node.name.clone(),
        incarnation: node.incarnation,
        state: match node.lease {
            Lease::Never => "never",
            Lease::Live => "live",
            Lease::Expired => "expired",
        },
        since: node.started_at,
    }
}

fn role(node: NodeId, metadata: &GroupStatus) -> &'static str {
    if metadata.leader == Some(node) {
        "leader"
    } else if metadata.voters.contains(&node) {
        "voter"
    } else if metadata.learners.contains(&node) {
        "learner"
    } else {
        "none"
    }
}
