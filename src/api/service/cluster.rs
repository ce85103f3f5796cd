//! Actions on the cluster.

use std::time::Duration;

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

/// A removal takes seconds; one call waits this long, below what its caller does.
const REMOVAL: Duration = Duration::from_secs(15);

impl Service {
    pub(super) async fn cluster(&self, caller: Caller, action: Action) -> Result<Reply, ApiError> {
        caller.require_all()?;
        match action {
            // What a node sees of a cluster in trouble must not depend on the cluster.
            Action::Status => Ok(Reply::Status(self.status())),
            Action::Members => Ok(Reply::Members(self.members())),
            Action::CreateJoinToken { seconds, uses } => self.create_join_token(caller, seconds, uses).await,
            Action::RemoveNode { node } => self.remove_node(caller, &node).await,
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
        state.nodes().map(|node| view(node, state.is_leaving(node.id), &seen, &metadata)).collect()
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

    /// Begins a removal, and waits for its end as long as one call may.
    async fn remove_node(&self, caller: Caller, target: &str) -> Result<Reply, ApiError> {
        let node = find(self.read().await?.as_ref(), target);
        let missing = || ApiError::not_found(format!("there is no node {target:?}"));
        let command = |state: &State| Ok(CommandBody::LeaveNode { node: find(state, target).ok_or_else(missing)? });
        let (index, _) = self.write(caller, command).await?;
        // Gone already: an earlier try with this request did it.
        let Some(node) = node else { return Ok(Reply::Done) };
        let mut views = self.0.metadata.watch();
        let gone = views.wait_for(|view| view.applied() >= index && !view.is_leaving(node));
        match tokio::time::timeout(REMOVAL, gone).await {
            Ok(Ok(_)) => Ok(Reply::Done),
            Ok(Err(_)) | Err(_) => Err(self.still_leaving(node)),
        }
    }

    fn still_leaving(&self, node: NodeId) -> ApiError {
        let view = self.0.metadata.view();
        let open = view.leaving().find(|(of, _)| *of == node).map_or(0, |(_, groups)| groups.len());
        let waits = if open == 0 { "its lease runs out".to_owned() } else { format!("{open} groups go on without it") };
        let message = format!("node {node} is being removed, which goes on by itself once {waits}");
        ApiError::new(ApiErrorKind::NotEverywhere, message)
    }
}

/// The node of that name, else of that number.
fn find(state: &State, target: &str) -> Option<NodeId> {
    let by_id = || target.parse().ok().and_then(|id| state.node(NodeId(id)));
    state.find_node(target).or_else(by_id).map(|node| node.id)
}

fn ca_hash(state: &State) -> Result<CaHash, ApiError> {
    let broken = |why: &str| ApiError::new(ApiErrorKind::Internal, format!("the cluster's authority: {why}"));
    let cluster = state.cluster().ok_or_else(|| broken("the cluster is not initialized"))?;
    let certificate = CertificateDer::from_pem_slice(cluster.ca_pem.as_bytes()).map_err(|e| broken(&e.to_string()))?;
    Ok(CaHash::of(&certificate))
}

fn view(node: &NodeRecord, leaving: bool, seen: &[Member], metadata: &GroupStatus) -> MemberView {
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
        leaving,
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
