//! The gRPC server: HTTP/2 with or without TLS, reflection, an orderly end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

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
/// Calls that are under way when the server is to end may finish within this time.
const GRACE: Duration = Duration::from_secs(5);
/// Calls at one time on one connection.
const STREAMS: u32 = 256;
/// Silent connections are asked whether they live.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves on `listener` until `shutdown`, with TLS if there is a configuration for it (ALPN `h2`).
///
/// # Errors
/// Where HTTP/2 fails as a whole, which no caller can bring about.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    match tls {
        None => run(service, accept_plain(listener), shutdown).await,
        Some(config) => run(service, accept_tls(listener, TlsAcceptor::from(config)), shutdown).await,
    }
}

type Accepted<S> = mpsc::Receiver<io::Result<S>>;

async fn run<S>(
    service: Service,
    (connections, mut accepting): (Accepted<S>, JoinSet<()>),
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING_EVERY))
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
    accepting.abort_all();
    drop(end);
    tokio::time::timeout(GRACE, server).await.unwrap_or(Ok(())).map_err(io::Error::other)
}

fn accept_plain(listener: TcpListener) -> (Accepted<TcpStream>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let Some(stream) = accept(&listener).await else { continue };
            if sender.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    });
    (receiver, tasks)
}

fn accept_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> (Accepted<tokio_rustls::server::TlsStream<TcpStream>>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(ACCEPTED);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let budget = Arc::new(Semaphore::new(HANDSHAKES));
        let mut handshakes = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(turn) = budget.clone().acquire_owned().await {
            while handshakes.try_join_next().is_some() {}
            let Some(stream) = accept(&listener).await else { continue };
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            handshakes.spawn(async move {
                match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                    // Nobody takes it: the server is ending.
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%error, "tls handshake on the api port failed"),
                    Err(_) => tracing::debug!("tls handshake on the api port took too long"),
                }
                drop(turn);
            });
        }
    });
    (receiver, tasks)
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
