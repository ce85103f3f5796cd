//! The administration API's view of this node, and its ports: gRPC, and HTTP for health and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rookery_cluster::clock::SharedClock;
use rookery_cluster::consensus::{BoxFuture, Consensus, GroupStatus};
use rookery_cluster::control::{AppliedPort, SharedControl, SharedMeta, await_everywhere};
use rookery_cluster::ids::{GroupId, LogIndex, NodeId};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::membership::Member;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::pki::NodeTls;
use rookery_cluster::placement;
use rookery_cluster::swim::Members;
use rookery_raft::Groups;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::NodeError;
use crate::api::{self, ClusterView, Everywhere, Readiness, Service};
use crate::config::Config;
use crate::telemetry::{self, Health};

/// How long the ports may take to close.
const CLOSE: Duration = Duration::from_secs(2);

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
    fn everywhere(&self, index: LogIndex) -> BoxFuture<'_, Result<(), Vec<NodeId>>> {
        Box::pin(async move {
            let done = await_everywhere(self.node, &self.meta, &self.control, &*self.workers, index).await;
            done.map_err(|missing| missing.0.iter().map(|life| life.node).collect())
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

    fn settled(&self) -> Readiness {
        let status = |group| self.groups.status(group);
        placement::unsettled(self.node, &self.metadata.view(), status).map_or(Ok(()), Err)
    }

    fn groups(&self) -> Vec<(GroupId, GroupStatus)> {
        let shards = self.metadata.view().shards();
        (0..=shards).map(|id| (GroupId(id), self.groups.status(GroupId(id)))).collect()
    }

    fn members(&self) -> Vec<Member> {
        self.members.read().as_ref().map(|members| members.members().to_vec()).unwrap_or_default()
    }
}

/// The administrators' ports while they are open.
pub struct ApiPorts {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl ApiPorts {
    /// Binds and serves gRPC, and HTTP where it is configured.
    ///
    /// # Errors
    /// Where a port is taken; nothing is served then.
    pub async fn open(
        config: &Config,
        service: Service,
        health: Arc<dyn Health>,
        tls: &NodeTls,
        clock: SharedClock,
    ) -> Result<Self, NodeError> {
        let grpc = bind("api.grpc", config.api.grpc).await?;
        let http = match config.api.http {
            Some(at) => Some(bind("api.http", at).await?),
            None => None,
        };
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let tls = if config.api.uses_tls() { Some(tls.admin_config(clock)?) } else { None };
        let ended = stopped(stop.subscribe());
        tasks.spawn(async move {
            if let Err(error) = api::serve(service, grpc, tls, ended).await {
                tracing::error!(%error, "the administration api ended");
            }
        });
        if let Some(http) = http {
            let ended = stopped(stop.subscribe());
            tasks.spawn(async move {
                let served = axum::serve(http, telemetry::router(health)).with_graceful_shutdown(ended);
                if let Err(error) = served.await {
                    tracing::error!(%error, "the http port ended");
                }
            });
        }
        Ok(Self { stop, tasks })
    }

    /// Closes the ports; calls under way have a moment.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // A scraper that keeps its connection open does not keep the node.
        if tokio::time::timeout(CLOSE, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // Gone is stopped, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn bind(what: &'static str, at: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(at).await.map_err(|error| NodeError::Port { what, at, error })
}
