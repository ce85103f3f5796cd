//! The gRPC server: HTTP/2 with or without TLS, reflection, an orderly end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::net::{Accepted, BoxStream, Cut, CutSignal};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::{Request, Status};

use super::Service;
use super::grpc::routes;

/// TLS handshakes at one time (R18); further connections wait in the kernel's backlog.
const HANDSHAKES: usize = 32;
/// A handshake that takes longer is given up.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Accepted connections on their way to gRPC.
const ACCEPTED: usize = 16;
/// After an accept error that is the node's (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Calls at one time on one connection.
const STREAMS: u32 = 256;
/// Silent connections are asked whether they live, and have as long to answer as peers have.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at one time, handshakes among them; further ones wait in the kernel's backlog.
    pub(super) connections: usize,
    /// A connection has this long to make its first call: until then nobody has shown a token.
    pub(super) first_call: Duration,
    /// A connection that makes no call for this long is closed. Longer than any call takes.
    pub(super) idle: Duration,
    /// Calls that are under way when the server is to end may finish within this time.
    pub(super) grace: Duration,
}

/// Administrators and their programs are few; what is left of a node's file descriptors is for clients.
const MAX_CONNECTIONS: usize = 1024;
pub(super) const BOUNDS: Bounds = Bounds {
    connections: MAX_CONNECTIONS,
    first_call: Duration::from_secs(10),
    idle: Duration::from_secs(300),
    grace: Duration::from_secs(2),
};

/// Serves on `listener` until `shutdown`, with TLS if there is a configuration for it (ALPN `h2`). When it returns
/// or is dropped, all its connections are ended.
///
/// # Errors
/// Where HTTP/2 fails as a whole, which no caller can bring about.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve_within(BOUNDS, service, listener, tls, shutdown).await
}

pub(super) async fn serve_within(
    bounds: Bounds,
    service: Service,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    // Cuts when dropped: with this function, however it ends.
    let cut = Arc::new(Cut::new());
    let (to_grpc, connections) = mpsc::channel(ACCEPTED);
    let door = Arc::new(Door { tls: tls.map(TlsAcceptor::from), bounds, to_grpc });
    let mut accepting = JoinSet::new();
    accepting.spawn(accept_all(listener, door, cut.clone()));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .layer(InterceptorLayer::new(note_call))
        .add_routes(routes(service))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async {
            // Its sender goes with this function: gone is ended, too.
            let _ = ended.await;
        });
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result.map_err(io::Error::other),
        () = shutdown => {}
    }
    accepting.shutdown().await;
    drop(end);
    let in_time = tokio::time::timeout(bounds.grace, &mut server).await;
    if let Ok(result) = in_time {
        return result.map_err(io::Error::other);
    }
    cut.now();
    // A connection that is cut ends at its next poll, which the cut brings about.
    tokio::time::timeout(bounds.grace, server).await.unwrap_or(Ok(())).map_err(io::Error::other)
}

/// A connection's calls, and its place among [`Bounds::connections`].
#[derive(Clone)]
struct Calls {
    made: Arc<Notify>,
    _place: Arc<OwnedSemaphorePermit>,
}

fn note_call(request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(calls) = request.extensions().get::<Calls>() {
        calls.made.notify_one();
    }
    Ok(request)
}

/// Resolves when a connection has been without calls for too long.
async fn silent(calls: Arc<Notify>, bounds: Bounds) {
    let mut patience = bounds.first_call;
    while tokio::time::timeout(patience, calls.notified()).await.is_ok() {
        patience = bounds.idle;
    }
}

type ToGrpc = mpsc::Sender<io::Result<Accepted<BoxStream, Calls>>>;

/// What connections pass on their way to gRPC.
struct Door {
    tls: Option<TlsAcceptor>,
    bounds: Bounds,
    to_grpc: ToGrpc,
}

impl Door {
    async fn admit(&self, stream: TcpStream, place: OwnedSemaphorePermit, cut: CutSignal) {
        let stream: BoxStream = match &self.tls {
            None => Box::pin(stream),
            Some(acceptor) => match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Box::pin(stream),
                Ok(Err(error)) => return tracing::debug!(%error, "tls handshake on the api port failed"),
                Err(_) => return tracing::debug!("tls handshake on the api port took too long"),
            },
        };
        let (made, bounds) = (Arc::new(Notify::new()), self.bounds);
        let calls = Calls { made: made.clone(), _place: Arc::new(place) };
        let over = Box::pin(async move {
            tokio::select! {
                () = cut => {}
                () = silent(made, bounds) => tracing::debug!("closing a silent connection on the api port"),
            }
        });
        // Nobody takes it: the server is ending.
        let _ = self.to_grpc.send(Ok(Accepted::new(stream, over, calls))).await;
    }
}

async fn accept_all(listener: TcpListener, door: Arc<Door>, cut: Arc<Cut>) {
    let (room, budget) = (Arc::new(Semaphore::new(door.bounds.connections)), Arc::new(Semaphore::new(HANDSHAKES)));
    let mut handshakes = JoinSet::new();
    // The semaphores are never closed.
    while let (Ok(place), Ok(turn)) = (room.clone().acquire_owned().await, budget.clone().acquire_owned().await) {
        while handshakes.try_join_next().is_some() {}
        let Some(stream) = accept(&listener).await else { continue };
        let (door, cut) = (door.clone(), cut.signal());
        handshakes.spawn(async move {
            door.admit(stream, place, cut).await;
            drop(turn);
        });
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "accepting an api connection failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
