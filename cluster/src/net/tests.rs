#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::*;
use crate::ids::ClusterId;
use crate::pki::tests::{CLUSTER, ca, clock, tls};
use crate::pki::{ClusterCa, NodeTls, join_client_config};

/// Answers with the caller's node id in a header.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<http::Request<Body>> for WhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut response = http::Response::new(Body::empty());
        if let Some(PeerIdentity(node)) = request.extensions().get() {
            response.headers_mut().insert("caller", node.0.into());
        }
        ready(Ok(response))
    }
}

/// Lets nodes below the number in; ends connections when the watch says so.
struct Below(u64, tokio::sync::watch::Receiver<bool>);

impl Gate for Below {
    fn admits(&self, node: NodeId) -> bool {
        node.0 < self.0 && !*self.1.borrow()
    }

    fn removed(&self, _: NodeId) -> BoxFuture<'static, ()> {
        let mut removed = self.1.clone();
        Box::pin(async move {
            if removed.wait_for(|removed| *removed).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

fn below(limit: u64) -> PeerGate {
    Arc::new(Below(limit, tokio::sync::watch::Sender::default().subscribe()))
}

struct Running {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<io::Result<()>>,
}

/// Node 1 of `CLUSTER`, which lets nodes below 100 in.
async fn serve(ca: &ClusterCa) -> Running {
    serve_behind(ca, below(100)).await
}

async fn serve_behind(ca: &ClusterCa, gate: PeerGate) -> Running {
    let listener = TokioNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = PeerServer {
        data: tokio::runtime::Handle::current(),
        listener,
        tls: tls(ca, CLUSTER, 1),
        gate,
        peers: Routes::new(WhoAmI),
        joins: None,
    };
    let ended = tokio::spawn(serve_peers(server, async move { drop(stopped.await) }));
    Running { at, stop, ended }
}

fn channels(tls: Arc<NodeTls>, at: SocketAddr) -> Arc<TlsPeerChannels> {
    let channels = TlsPeerChannels::new(Arc::new(TokioNet), tls, clock(), tokio::runtime::Handle::current());
    channels.set_address(NodeId(1), at.to_string());
    channels
}

/// The caller that node 1 sees, or what went wrong.
async fn ask(channels: &TlsPeerChannels) -> Result<Option<u64>, String> {
    let mut channel = channels.channel(NodeId(1), Purpose::Control).unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|e| format!("{e:?}"))?;
    let request = http::Request::post("http://node/test.WhoAmI/Ask").body(Body::empty()).unwrap();
    let response = channel.call(request).await.map_err(|e| format!("{e:?}"))?;
    if response.headers().contains_key("grpc-status") {
        return Err(format!("status {:?}", response.headers()["grpc-status"]));
    }
    Ok(response.headers().get("caller").map(|v| v.to_str().unwrap().parse().unwrap()))
}

#[tokio::test]
async fn a_peer_is_known_by_its_certificate() {
    let ca = ca(CLUSTER);
    let node = serve(&ca).await;
    for peer in [2, 99] {
        assert_eq!(ask(&channels(tls(&ca, CLUSTER, peer), node.at)).await, Ok(Some(peer)));
    }
}

#[tokio::test]
async fn a_node_that_is_no_member_is_refused() {
    let ca = ca(CLUSTER);
    let node = serve(&ca).await;
    ask(&channels(tls(&ca, CLUSTER, 100), node.at)).await.unwrap_err();
}

#[tokio::test]
async fn a_removed_nodes_connections_end() {
    let ca = ca(CLUSTER);
    let removed = tokio::sync::watch::Sender::new(false);
    let node = serve_behind(&ca, Arc::new(Below(100, removed.subscribe()))).await;
    let tls = tls(&ca, CLUSTER, 7);
    let mut stream =
        TlsConnector::from(tls.client_config()).connect(tls.server_name(NodeId(1)).unwrap(), tcp(node.at).await);
    let mut stream = (&mut stream).await.unwrap();
    let mut hello = [0; 9];
    stream.read_exact(&mut hello).await.unwrap();
    removed.send_replace(true);
    let mut rest = Vec::new();
    let _reset_is_an_end_too = stream.read_to_end(&mut rest).await;
    ask(&channels(tls, node.at)).await.unwrap_err();
}

async fn tcp(at: SocketAddr) -> tokio::net::TcpStream {
    tokio::net::TcpStream::connect(at).await.unwrap()
}

#[tokio::test]
async fn a_node_of_another_authority_or_cluster_is_refused() {
    let ours = ca(CLUSTER);
    let node = serve(&ours).await;
    let other_ca = ca(CLUSTER);
    ask(&channels(tls(&other_ca, CLUSTER, 2), node.at)).await.unwrap_err();
    // A caller that trusts our authority and has a certificate of a foreign one still is none of ours: here
    // one authority for two clusters, where only the name tells them apart.
    let other_cluster = ClusterId(8);
    let same_key = ClusterCa::from_pem(other_cluster, ours.cert_pem(), &ours.key_pem()).unwrap();
    ask(&channels(tls(&same_key, other_cluster, 2), node.at)).await.unwrap_err();
}

#[tokio::test]
async fn the_peer_protocol_needs_a_client_certificate() {
    let ca = ca(CLUSTER);
    let node = serve(&ca).await;
    let own = tls(&ca, CLUSTER, 2);
    let mut config = (*join_client_config(ca.hash(), clock()).unwrap()).clone();
    for protocol in [crate::pki::ALPN_PEER, crate::pki::ALPN_JOIN, b"h2"] {
        config.alpn_protocols = vec![protocol.to_vec()];
        let tcp = TokioNet.connect(&node.at.to_string()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let connected = connector.connect(own.server_name(NodeId(1)).unwrap(), tcp).await;
        // `joins` is not served here, `h2` is none of ours, and a peer must show who it is: in each case the
        // far side ends it without a byte of HTTP/2.
        if let Ok(mut stream) = connected {
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            assert!(!matches!(stream.read(&mut [0; 64]).await, Ok(n) if n > 0));
        }
    }
}

#[tokio::test]
async fn connections_end_at_shutdown_and_at_reset() {
    let ca = ca(CLUSTER);
    let node = serve(&ca).await;
    let channels = channels(tls(&ca, CLUSTER, 2), node.at);
    assert_eq!(ask(&channels).await, Ok(Some(2)));
    channels.reset(NodeId(1), Purpose::Control);
    assert_eq!(ask(&channels).await, Ok(Some(2)));
    node.stop.send(()).unwrap();
    node.ended.await.unwrap().unwrap();
    ask(&channels).await.unwrap_err();
    // The port is free again, and the same channel finds the node's next life there.
    let listener = TokioNet.listen(node.at).await.unwrap();
    let server = PeerServer {
        data: tokio::runtime::Handle::current(),
        listener,
        tls: tls(&ca, CLUSTER, 1),
        gate: below(u64::MAX),
        peers: Routes::new(WhoAmI),
        joins: None,
    };
    let again = tokio::spawn(serve_peers(server, std::future::pending()));
    assert_eq!(ask(&channels).await, Ok(Some(2)));
    again.abort();
}

#[tokio::test]
async fn an_address_can_change_and_be_forgotten() {
    let ca = ca(CLUSTER);
    let node = serve(&ca).await;
    let channels = channels(tls(&ca, CLUSTER, 2), "127.0.0.1:1".parse().unwrap());
    ask(&channels).await.unwrap_err();
    channels.set_address(NodeId(1), node.at.to_string());
    assert_eq!(ask(&channels).await, Ok(Some(2)));
    channels.retain(|_| false);
    assert!(channels.channel(NodeId(1), Purpose::Control).is_none());
}
