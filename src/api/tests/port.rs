//! The port: who is let in, for how long, and how it ends.

use std::time::Duration;

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::pki::{ClusterCa, KeyAndRequest, NodeTls};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::transport::Certificate;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::*;

const SOON: Duration = Duration::from_millis(50);

/// Resolves when the server has closed the connection.
async fn closed(mut stream: TcpStream) {
    let mut bytes = [0; 256];
    while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let world = World::new().await;
    let ask = MessageRequest::ListServices(String::new());
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["Namespaces", "Brokers", "Tokens", "Cluster"] {
        assert!(names.contains(&format!("rookery.admin.v1.{service}")), "{names:?}");
    }
}

#[tokio::test]
async fn with_tls_the_nodes_certificate_is_shown() {
    let (clock, rng) = (Arc::new(SystemClock), SystemRng);
    let now: UnixMillis = rookery_cluster::clock::Clock::wall(&SystemClock);
    let ca = ClusterCa::generate(ClusterId(1), now, &rng).unwrap();
    let key = KeyAndRequest::generate().unwrap();
    let cert = ca.issue_node_cert(&key.request_pem, NodeId(1), &[], now, &rng).unwrap();
    let tls = NodeTls::new(ClusterId(1), NodeId(1), ca.cert_pem(), &cert, &key.key_pem, clock.clone()).unwrap();
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.cert_pem())).domain_name("localhost");
    let world = World::start(BOUNDS, Some((tls.admin_config(clock).unwrap(), trusting))).await;
    world.create_namespace("demo", "").await.unwrap();
    let plain = Endpoint::from_shared(format!("http://{}", world.address)).unwrap().connect_lazy();
    assert!(NamespacesClient::new(plain).list(world.ask(<_>::default())).await.is_err());
}

#[tokio::test]
async fn the_end_waits_for_calls_but_not_for_ever() {
    let bounds = Bounds { grace: SOON, ..BOUNDS };
    let mut world = World::start(bounds, None).await;
    world.create_namespace("demo", "").await.unwrap();
    world.create_broker("demo", "hello").await.unwrap();
    world.others.stuck.store(true, Ordering::Relaxed);
    let delete = admin::DeleteBrokerRequest { namespace: "demo".into(), broker: "hello".into(), ..<_>::default() };
    let (mut brokers, delete) = (world.brokers(), world.ask(delete));
    let mut call = JoinSet::new();
    call.spawn(async move { brokers.delete(delete).await });
    while world.others.waited.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let silent = TcpStream::connect(world.address).await.unwrap();
    world.stop.send(()).unwrap();
    world.server.join_next().await.unwrap().unwrap().unwrap();
    call.join_next().await.unwrap().unwrap().unwrap_err();
    closed(silent).await;
    assert!(TcpStream::connect(world.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn who_says_nothing_is_let_go_and_makes_room() {
    let world = World::start(Bounds { connections: 1, first_call: SOON, ..BOUNDS }, None).await;
    let silent = TcpStream::connect(world.address).await.unwrap();
    // It waits in the backlog until the silent one has gone.
    world.create_namespace("demo", "").await.unwrap();
    closed(silent).await;
}

#[tokio::test]
async fn a_connection_without_calls_is_closed() {
    let world = World::start(Bounds { connections: 1, idle: SOON, ..BOUNDS }, None).await;
    world.create_namespace("demo", "").await.unwrap();
    let other = Endpoint::from_shared(format!("http://{}", world.address)).unwrap().connect_lazy();
    NamespacesClient::new(other).list(world.ask(<_>::default())).await.unwrap();
}
