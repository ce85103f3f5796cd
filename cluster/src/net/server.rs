//! Accepting peers and joining nodes: one port, two protocols told apart in the TLS handshake.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;
use tonic::{Request, Status};

use super::accepted::Accepted;
use super::cut::Cut;
use super::{BoxStream, Listener, PeerIdentity, tune_server};
use crate::consensus::BoxFuture;
use crate::ids::NodeId;
use crate::pki::{ALPN_DATA, ALPN_JOIN, ALPN_PEER, NodeTls, node_of};

/// TLS handshakes at one time (R18); further connections wait in the kernel's backlog.
const HANDSHAKES: usize = 64;
/// A handshake that takes longer is given up.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Accepted connections on their way to gRPC, which takes them at once.
const ACCEPTED: usize = 16;
/// A joining node needs one call; whoever holds the connection longer is not one.
const JOIN_CONNECTION_AGE: Duration = Duration::from_secs(20);
/// HTTP/2 frames on connections that carry batches of publishes: a batch is hundreds of kilobytes.
const DATA_FRAME: u32 = 1 << 20;
/// After an accept error that is the node's (no file descriptors), give the others time to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that were cut end at their next poll; gRPC is waited for this long.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Where a joining node calls from: in the extensions of every request on the join protocol.
#[derive(Clone, Copy, Debug)]
pub struct JoinSource(pub SocketAddr);

/// Whether a node is a member that may talk to this one.
pub trait Gate: Send + Sync + 'static {
    /// Asked at each connection and request, so it must be cheap; a removed node's certificate stays good for weeks.
    fn admits(&self, node: NodeId) -> bool;
    /// Resolves when a node that was admitted is a member no longer: its connections end then.
    fn removed(&self, node: NodeId) -> BoxFuture<'static, ()>;
}

/// Who decides, shared.
pub type PeerGate = Arc<dyn Gate>;

/// What [`serve_peers`] serves.
pub struct PeerServer {
    /// Where it listens.
    pub listener: Arc<dyn Listener>,
    /// This node's certificate and the authority.
    pub tls: Arc<NodeTls>,
    /// Who may call.
    pub gate: PeerGate,
    /// The services for peers.
    pub peers: Routes,
    /// Where connections that carry publishes are served: not behind Raft and leases, nor they behind publishes (R18).
    pub data: Handle,
    /// The services for joining nodes; without them such connections are refused.
    pub joins: Option<Routes>,
}

/// Serves until `shutdown`; then closes the port and every accepted connection.
///
/// # Errors
/// Where gRPC fails as a whole, which no caller can bring about.
pub async fn serve_peers(server: PeerServer, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
    let cut = Arc::new(Cut::new());
    let (peers, peer_connections) = mpsc::channel(ACCEPTED);
    let (data, data_connections) = mpsc::channel(ACCEPTED);
    let (joins, join_connections) = mpsc::channel(ACCEPTED);
    let gate = server.gate.clone();
    let check = InterceptorLayer::new(move |request: Request<()>| check_gate(&gate, request));
    let mut serving = JoinSet::new();
    let peer_grpc = grpc().layer(check.clone()).add_routes(server.peers.clone());
    serving.spawn(peer_grpc.serve_with_incoming(ReceiverStream::new(peer_connections)));
    let data_grpc = grpc().max_frame_size(DATA_FRAME).layer(check).add_routes(server.peers);
    serving.spawn_on(data_grpc.serve_with_incoming(ReceiverStream::new(data_connections)), &server.data);
    match server.joins {
        Some(routes) => {
            let incoming = ReceiverStream::new(join_connections);
            let mut grpc = grpc().max_connection_age(JOIN_CONNECTION_AGE).max_connection_age_grace(HANDSHAKE_DEADLINE);
            serving.spawn(grpc.add_routes(routes).serve_with_incoming(incoming));
        }
        None => drop(join_connections),
    }
    let door = Arc::new(Door { tls: server.tls, gate: server.gate, cut: cut.clone(), peers, data, joins });
    tokio::select! {
        () = shutdown => {}
        () = accept(server.listener.as_ref(), door) => {}
    }
    // The accept loop and its handshakes are gone here, and with them the senders: gRPC ends when its
    // connections do.
    cut.now();
    let ended = tokio::time::timeout(CLOSE_DEADLINE, serving.join_all()).await.unwrap_or_default();
    ended.into_iter().try_for_each(|result| result.map_err(io::Error::other))
}

fn grpc() -> Server {
    tune_server(Server::builder())
}

fn check_gate(gate: &PeerGate, request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<PeerIdentity>() {
        Some(PeerIdentity(node)) if gate.admits(*node) => Ok(request),
        Some(PeerIdentity(node)) => Err(Status::permission_denied(format!("node {node} is not a member"))),
        None => Err(Status::unauthenticated("no node certificate")),
    }
}

/// Where connections go once it is known whose they are.
struct Door {
    tls: Arc<NodeTls>,
    gate: PeerGate,
    cut: Arc<Cut>,
    peers: mpsc::Sender<io::Result<Accepted<TlsStream<BoxStream>, PeerIdentity>>>,
    data: mpsc::Sender<io::Result<Accepted<TlsStream<BoxStream>, PeerIdentity>>>,
    joins: mpsc::Sender<io::Result<Accepted<TlsStream<BoxStream>, JoinSource>>>,
}

async fn accept(listener: &dyn Listener, door: Arc<Door>) {
    let budget = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    // The semaphore is never closed, so the loop ends only by being dropped.
    while let Ok(turn) = budget.clone().acquire_owned().await {
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                let door = door.clone();
                handshakes.spawn(async move {
                    door.admit(stream, from).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Door {
    async fn admit(&self, stream: BoxStream, from: SocketAddr) {
        let handshake = TlsAcceptor::from(self.tls.server_config()).accept(stream);
        let refused = match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => self.sort(stream, from).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the handshake took too long".to_owned()),
        };
        if let Err(why) = refused {
            tracing::warn!(%from, why, "refused a connection on the peer port");
        }
    }

    async fn sort(&self, stream: TlsStream<BoxStream>, from: SocketAddr) -> Result<(), String> {
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_PEER) => {
                let identity = self.identify(&stream)?;
                hand_over(&self.peers, self.member(stream, identity)).await
            }
            Some(ALPN_DATA) => {
                let identity = self.identify(&stream)?;
                hand_over(&self.data, self.member(stream, identity)).await
            }
            Some(ALPN_JOIN) => hand_over(&self.joins, Accepted::new(stream, self.cut.signal(), JoinSource(from))).await,
            _ => Err("the caller asked for none of our protocols".to_owned()),
        }
    }

    fn identify(&self, stream: &TlsStream<BoxStream>) -> Result<PeerIdentity, String> {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = certificates.first().ok_or("the caller has no certificate")?;
        let name = node_of(leaf).map_err(|e| e.to_string())?.ok_or("the caller's certificate names no node")?;
        if name.cluster != self.tls.name().cluster {
            return Err(format!("the caller belongs to cluster {}", name.cluster));
        }
        if !self.gate.admits(name.node) {
            return Err(format!("node {} is not a member", name.node));
        }
        Ok(PeerIdentity(name.node))
    }

    /// A member's connection, which ends with this port or with the membership.
    fn member(&self, stream: TlsStream<BoxStream>, peer: PeerIdentity) -> Accepted<TlsStream<BoxStream>, PeerIdentity> {
        let (cut, removed) = (self.cut.signal(), self.gate.removed(peer.0));
        let end = async move {
            tokio::select! {
                () = cut => {}
                () = removed => tracing::info!(node = %peer.0, "ending a connection of a removed node"),
            }
        };
        Accepted::new(stream, Box::pin(end), peer)
    }
}

async fn hand_over<C>(to: &mpsc::Sender<io::Result<C>>, connection: C) -> Result<(), String> {
    to.send(Ok(connection)).await.map_err(|_| "this node does not serve that protocol".to_owned())
}
