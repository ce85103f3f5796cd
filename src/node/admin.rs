//! The administration API's view of this node, and its ports: gRPC, and HTTP for health and metrics.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use rookery_cluster::consensus::{BoxFuture, Consensus, GroupStatus};
use rookery_cluster::control::{AppliedPort, SharedControl, SharedMeta, await_everywhere};
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::membership::Member;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::swim::Members;
use rookery_raft::Groups;

use crate::api::{ClusterView, Everywhere, Readiness};

/// What the API asks of the node.
pub struct Admin {
    pub node: NodeId,
    pub groups: Groups,
    pub metadata: Metadata,
    pub lease: Lease,
    pub meta: SharedMeta,
    pub control: SharedControl,
    pub workers: Arc<dyn AppliedPort>,
    /// Membership runs while the node has a life.
    pub members: RwLock<Option<Members>>,
    /// Whether clients' ports are open.
    pub serving: RwLock<bool>,
}

impl Everywhere for Admin {
    fn everywhere(&self, index: LogIndex) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let done = await_everywhere(self.node, &self.meta, &self.control, &*self.workers, index).await;
            done.map_err(|error| error.to_string())
        })
    }
}

impl ClusterView for Admin {
    fn me(&self) -> NodeId {
        self.node
    }

    fn ready(&self) -> Readiness {
        if self.lease.life().is_none() {
            return Err("this node has not registered with the cluster yet".to_owned());
        }
        if !self.lease.may_serve() {
            return Err("this node's lease is not held: it does not reach the metadata leader".to_owned());
        }
        if !*self.serving.read() {
            return Err("the listeners are not open yet".to_owned());
        }
        Ok(())
    }

    fn groups(&self) -> Vec<(GroupId, GroupStatus)> {
        let shards = self.metadata.view().shards();
        (0..=shards).map(|id| (GroupId(id), self.groups.status(GroupId(id)))).collect()
    }

    fn members(&self) -> Vec<Member> {
        self.members.read().as_ref().map(|members| members.members().to_vec()).unwrap_or_default()
    }
}

/// A TCP port for administrators.
pub async fn bind(at: std::net::SocketAddr) -> io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(at).await
}
