//! The port that other nodes, and joining ones, talk to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rookery_cluster::claims::Sessions;
use rookery_cluster::consensus::BoxFuture;
use rookery_cluster::control::{AppliedPort, ControlService, KeptSessions, SharedMeta};
use rookery_cluster::forward::{self, Door};
use rookery_cluster::ids::NodeId;
use rookery_cluster::join::{JoinAuthority, certificate_service, join_service};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::net::{Gate, Net, PeerServer, TokioNet, serve_peers};
use rookery_cluster::pki::NodeTls;
use rookery_raft::Groups;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;

/// What the peer port answers with.
pub struct PeerPort {
    pub listen: SocketAddr,
    pub tls: Arc<NodeTls>,
    pub groups: Groups,
    pub metadata: Metadata,
    pub lease: Lease,
    pub sessions: Sessions,
    pub meta: SharedMeta,
    pub applied: Arc<dyn AppliedPort>,
    pub kept: Arc<dyn KeptSessions>,
    pub authority: Arc<dyn JoinAuthority>,
    pub door: Door,
    pub data: tokio::runtime::Handle,
}

/// The running port; dropping it leaves it open.
pub struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl PeerPort {
    /// Binds and serves.
    ///
    /// # Errors
    /// Where the port is taken.
    pub async fn open(self) -> io::Result<Serving> {
        let listener = TokioNet.listen(self.listen).await?;
        let control = ControlService::new(self.lease, Arc::new(self.sessions), self.meta, self.applied, self.kept);
        let mut peers = Routes::builder();
        peers
            .add_service(self.groups.service())
            .add_service(control.into_server())
            .add_service(forward::service(self.door))
            .add_service(certificate_service(self.authority.clone()));
        let mut joins = Routes::builder();
        joins.add_service(join_service(self.authority));
        let server = PeerServer {
            listener,
            tls: self.tls,
            gate: Arc::new(Members(self.metadata)),
            peers: peers.routes(),
            data: self.data,
            joins: Some(joins.routes()),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "ended and awaited by `Serving::close`")]
        let task = tokio::spawn(serve_peers(server, async {
            let _ = stopped.await;
        }));
        Ok(Serving { stop, task })
    }
}

/// Members may call. A node that has just joined knows no members yet: there the certificate alone decides.
struct Members(Metadata);

impl Gate for Members {
    fn admits(&self, node: NodeId) -> bool {
        let view = self.0.view();
        view.cluster().is_none() || view.node(node).is_some()
    }

    fn removed(&self, node: NodeId) -> BoxFuture<'static, ()> {
        let mut views = self.0.watch();
        Box::pin(async move {
            if views.wait_for(|view| view.was_removed(node)).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

impl Serving {
    /// Closes the port and every connection.
    pub async fn close(self) {
        let _ = self.stop.send(());
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the peer port ended badly"),
            Err(error) => tracing::error!(%error, "the peer port's task failed"),
        }
    }
}
