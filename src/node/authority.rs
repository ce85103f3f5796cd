//! Who may join, and the certificates of members (R20): any node that knows the cluster's key encryption key signs.

use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::consensus::{BoxFuture, ProposeError};
use rookery_cluster::ids::NodeId;
use rookery_cluster::join::{
    AskForCertificate, JoinAuthority, JoinError, JoinRefusal, JoinReply, JoinRequest, NodeFiles, Standing,
};
use rookery_cluster::metadata::{CommandBody, Created, Lease, Metadata, Outcome, RefusedKind, State};
use rookery_cluster::pki::ClusterCa;
use rookery_cluster::rng::SharedRng;

use super::found::CA_KEY_PURPOSE;
use crate::auth::Sealer;

/// Admits nodes through the metadata.
pub struct Authority {
    pub metadata: Metadata,
    pub files: Arc<NodeFiles>,
    /// This node's peer port, for nodes that join through it.
    pub own_address: String,
    pub sealer: Sealer,
    pub clock: SharedClock,
    pub rng: SharedRng,
}

impl Authority {
    /// The cluster's authority, its key unsealed.
    ///
    /// # Errors
    /// In words for the log and for who asked.
    pub fn ca(&self, state: &State) -> Result<ClusterCa, String> {
        let cluster = state.cluster().ok_or("this node does not know its cluster's authority yet")?;
        let key = self.sealer.unseal(CA_KEY_PURPOSE, &cluster.sealed_ca_key).map_err(|error| error.to_string())?;
        let key = String::from_utf8(key).map_err(|error| error.to_string())?;
        ClusterCa::from_pem(cluster.id, &cluster.ca_pem, &key).map_err(|error| error.to_string())
    }

    async fn add(&self, request: &JoinRequest) -> Result<NodeId, JoinRefusal> {
        let body = CommandBody::AddNode {
            name: request.name.clone(),
            key_hash: request.key_hash,
            join_token: Some(request.secret_hash),
            voter_eligible: true,
        };
        match self.metadata.propose(body).await.map_err(unavailable)? {
            (_, Outcome::Created(Created::Node(node))) => Ok(node),
            (_, Outcome::Refused(refused)) => Err(match refused.kind {
                RefusedKind::NotFound | RefusedKind::Precondition => JoinRefusal::Token(refused.message),
                _ => JoinRefusal::Invalid(refused.message),
            }),
            (_, other) => Err(JoinRefusal::Unavailable(format!("unexpected outcome {other:?}"))),
        }
    }

    /// The node that this request added, if it is a retry.
    fn known(state: &State, request: &JoinRequest) -> Option<NodeId> {
        let node = state.find_node(&request.name)?;
        (node.key_hash == request.key_hash).then_some(node.id)
    }

    fn sign(&self, state: &State, request_pem: &str, node: NodeId, hosts: &[String]) -> Result<String, JoinRefusal> {
        let ca = self.ca(state).map_err(JoinRefusal::Unavailable)?;
        let now = self.clock.wall();
        ca.issue_node_cert(request_pem, node, hosts, now, &*self.rng).map_err(|e| JoinRefusal::Invalid(e.to_string()))
    }
}

fn unavailable(error: ProposeError) -> JoinRefusal {
    JoinRefusal::Unavailable(error.to_string())
}

impl JoinAuthority for Authority {
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<JoinReply, JoinRefusal>> {
        Box::pin(async move {
            let state = self.metadata.read().await.map_err(unavailable)?;
            let node = match Self::known(&state, &request) {
                Some(known) => known,
                None => self.add(&request).await?,
            };
            let certificate_pem = self.sign(&state, &request.request_pem, node, &request.hosts)?;
            tracing::info!(%node, name = request.name, from = %request.from, "a node joined");
            let live = state.nodes().filter(|n| n.lease == Lease::Live && n.id != self.files.node);
            let mut peers: std::collections::BTreeMap<_, _> =
                live.map(|n| (n.id, n.card.addresses.peer.clone())).collect();
            peers.insert(self.files.node, self.own_address.clone());
            Ok(JoinReply {
                node,
                cluster: self.files.cluster,
                certificate_pem,
                ca_pem: self.files.ca_pem.clone(),
                secrets: self.files.secrets.clone(),
                peers,
            })
        })
    }

    fn standing(&self, node: NodeId) -> Standing {
        let state = self.metadata.view();
        match state.node(node) {
            Some(record) => Standing::Member {
                incarnation: record.incarnation,
                live: record.lease == Lease::Live,
                address: record.card.addresses.peer.clone(),
            },
            None if state.was_removed(node) => Standing::Removed,
            None => Standing::Unknown,
        }
    }

    fn renew(
        &self,
        node: NodeId,
        request_pem: String,
        hosts: Vec<String>,
    ) -> BoxFuture<'_, Result<String, JoinRefusal>> {
        Box::pin(async move {
            let state = self.metadata.read().await.map_err(unavailable)?;
            if state.node(node).is_none() {
                return Err(JoinRefusal::Invalid(format!("node {node} is no member")));
            }
            self.sign(&state, &request_pem, node, &hosts)
        })
    }
}

/// How this node renews its own certificate: it signs it itself.
pub fn renewal(authority: Arc<Authority>, own: NodeId, hosts: Vec<String>) -> AskForCertificate {
    Arc::new(move |request_pem| {
        let (authority, hosts) = (authority.clone(), hosts.clone());
        Box::pin(async move {
            authority.renew(own, request_pem, hosts).await.map_err(|refusal| JoinError::Refused(refusal.to_string()))
        })
    })
}
