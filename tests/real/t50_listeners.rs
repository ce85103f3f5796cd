//! The listeners of a running node: certificates that change, several addresses, proxies, shares of an address.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rookery_cluster::clock::{Clock, SystemClock};
use rookery_cluster::ids::ClusterId;
use rookery_cluster::pki::ClusterCa;
use rookery_cluster::rng::SystemRng;
use rookery_jepsen::Cluster;
use rookery_jepsen::cluster::{DEADLINE, until};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{credentials, output, start};
use crate::t40_bad_packets::connect;

/// Outside of the brokers' domain, so that the files decide what is shown.
const NAME: &str = "mqtt.example";

fn free_port(ip: &str) -> SocketAddr {
    let listener = std::net::TcpListener::bind((ip, 0)).expect("an address of this machine");
    listener.local_addr().expect("it is bound")
}

/// Stops the only node, changes its settings' text, and starts it again.
async fn reconfigure(cluster: &mut Cluster, change: impl FnOnce(&str) -> String) {
    cluster.kill(1).await.expect("dies");
    let file = cluster.folder().join("node-1.toml");
    let text = fs::read_to_string(&file).expect("dev wrote it");
    fs::write(&file, change(&text)).expect("is written");
    cluster.restart(1).await.expect("comes up again");
}

async fn metrics(cluster: &Cluster) -> String {
    let mut socket = TcpStream::connect(&cluster.info().node(1).http).await.expect("connects");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("is taken");
    let mut page = String::new();
    timeout(DEADLINE, socket.read_to_string(&mut page)).await.expect("ends").expect("is text");
    page
}

/// What `page` says of `name`; 0 if nothing.
fn value(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// Waits until the page of metrics has that line.
async fn counted(cluster: &Cluster, line: &str) {
    let what = format!("the metrics say {line}");
    let seen = until(&what, async || metrics(cluster).await.lines().any(|found| found == line)).await;
    seen.unwrap_or_else(|error| panic!("{error}"));
}

async fn byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    timeout(DEADLINE, stream.read_u8()).await.expect("the server says something or closes").ok()
}

/// Whether a CONNECT is answered with a CONNACK that admits; the stream is behind it then.
async fn admitted(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), who: &(String, String)) -> bool {
    let sent = stream.write_all(&connect(4, &who.0, &who.1)).await;
    if sent.is_err() || byte(stream).await != Some(0x20) {
        return false;
    }
    let mut rest = [0; 3];
    timeout(DEADLINE, stream.read_exact(&mut rest)).await.expect("the rest of it").expect("the rest of it");
    rest[2] == 0
}

async fn is_alive(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    stream.write_all(b"\xc0\x00").await.is_ok() && byte(stream).await == Some(0xd0) && byte(stream).await == Some(0)
}

/// Clients that trust `ca`.
fn trusting(ca: &ClusterCa, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).expect("pem")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn secured(at: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(at).await.expect("connects");
    let name = ServerName::try_from(NAME).expect("a name");
    timeout(DEADLINE, TlsConnector::from(config.clone()).connect(name, socket)).await.expect("ends")
}

fn authority() -> ClusterCa {
    ClusterCa::generate(ClusterId(7), SystemClock.wall(), &SystemRng).expect("an authority")
}

fn write_certificate(folder: &Path, ca: &ClusterCa) {
    let issued = ca.issue_server_cert(&[NAME.to_owned()], SystemClock.wall(), &SystemRng).expect("is signed");
    fs::write(folder.join("clients.key"), issued.key_pem).expect("is written");
    fs::write(folder.join("clients.crt"), issued.chain_pem).expect("is written");
}

#[tokio::test]
async fn t50_a_certificate_changes_under_a_running_node() {
    let mut cluster = start(1).await;
    let folder = cluster.folder().to_owned();
    let (first, second) = (authority(), authority());
    write_certificate(&folder, &first);
    let files = format!(
        "tls_cert = {:?}\ntls_key = {:?}\n",
        folder.join("clients.crt").display().to_string(),
        folder.join("clients.key").display().to_string()
    );
    reconfigure(&mut cluster, |text| text.replace("[listeners]\n", &format!("[listeners]\n{files}"))).await;
    let at = cluster.info().node(1).mqtts.clone();
    let [one, other] = credentials(&cluster).try_into().expect("dev issues two credentials");

    let trusts_first = trusting(&first, &["mqtt"]);
    let mut old = secured(&at, &trusts_first).await.expect("the certificate of the files");
    assert!(admitted(&mut old, &one).await);
    let again = secured(&at, &trusts_first).await.expect("connects again");
    assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));

    fs::write(folder.join("clients.crt"), "no certificate").expect("is written");
    counted(&cluster, "rookery_certificate_reloads_total{result=\"refused\"} 1").await;
    let kept = secured(&at, &trusting(&first, &[])).await.expect("the old one stays in use");
    assert_eq!(kept.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));

    write_certificate(&folder, &second);
    counted(&cluster, "rookery_certificate_reloads_total{result=\"taken\"} 1").await;
    assert!(secured(&at, &trusts_first).await.is_err(), "whoever trusts the old one only, ticket or not");
    let mut new = secured(&at, &trusting(&second, &[])).await.expect("the new one is shown");
    assert!(admitted(&mut new, &other).await);
    assert!(is_alive(&mut old).await, "the connection from before stays");

    write_certificate(&folder, &first);
    let pid = cluster.info().node(1).pid.to_string();
    output(Command::new("kill").args(["-HUP", &pid])).await;
    counted(&cluster, "rookery_certificate_reloads_total{result=\"taken\"} 2").await;
    secured(&at, &trusting(&first, &[])).await.expect("the first one is shown again");
    assert!(is_alive(&mut old).await && is_alive(&mut new).await);

    let log = fs::read_to_string(folder.join("node-1.log")).expect("is read");
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("the changed certificate is no good"), "{errors:?}");
}

/// A header of the PROXY protocol, version 2, for a connection from `ip`.
fn proxied(ip: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &ip, &[192, 0, 2, 1, 1, 2, 3, 4]].concat()
}

#[tokio::test]
async fn t50_several_addresses_proxies_and_shares() {
    let mut cluster = start(1).await;
    let (proxy, v6) = (free_port("127.0.0.1"), std::net::TcpListener::bind("[::1]:0").is_ok());
    let mut addresses = vec![cluster.info().node(1).mqtt.clone(), proxy.to_string()];
    if v6 {
        addresses.push(free_port("::1").to_string());
    }
    let (mqtt, ws) = (cluster.info().node(1).mqtt.clone(), cluster.info().node(1).ws.clone());
    reconfigure(&mut cluster, |text| {
        let listeners = format!("mqtt = {addresses:?}\nproxy = [{:?}]\nproxy_from = \"127.0.0.1\"", proxy.to_string());
        let text = text.replace(&format!("mqtt = {mqtt:?}"), &listeners);
        format!("{text}\n[limits]\nconnections_per_address = 3\n")
    })
    .await;
    let [one, other] = credentials(&cluster).try_into().expect("dev issues two credentials");

    let mut held = Vec::new();
    for who in cluster.issue(3).await.expect("three more credentials") {
        // A connection of the readiness probes may still be ending.
        let holds = until("a connection is admitted", async || {
            let mut socket = TcpStream::connect(&mqtt).await.expect("connects");
            let holds = admitted(&mut socket, &who).await;
            held.extend(holds.then_some(socket));
            holds
        });
        holds.await.unwrap_or_else(|error| panic!("{error}"));
    }
    let refusals = "rookery_listener_refused_total{listener=\"listeners.mqtt\",reason=\"connections_per_address\"}";
    let before = value(&metrics(&cluster).await, refusals);
    let mut refused = TcpStream::connect(&mqtt).await.expect("the kernel connects");
    assert_eq!(byte(&mut refused).await, None, "its share is full");
    counted(&cluster, &format!("{refusals} {}", before + 1)).await;

    let mut behind = TcpStream::connect(proxy).await.expect("connects");
    behind.write_all(&proxied([192, 0, 2, 7])).await.expect("is taken");
    assert!(admitted(&mut behind, &one).await, "another address's share");
    let mut v1 = TcpStream::connect(proxy).await.expect("connects");
    v1.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n").await.expect("is taken");
    assert_eq!(byte(&mut v1).await, None);
    counted(&cluster, "rookery_listener_handshake_failures_total{listener=\"listeners.mqtt\",reason=\"proxy_v1\"} 1")
        .await;
    if let Some(at) = addresses.get(2) {
        let mut socket = TcpStream::connect(at).await.expect("connects over IPv6");
        assert!(admitted(&mut socket, &other).await);
    }
    drop(held);

    // The share has room again when the node has seen that the others are gone.
    let answered = until("a path that is none gets its 404", async || {
        let mut socket = TcpStream::connect(&ws).await.expect("connects");
        let _ = socket.write_all(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut said = String::new();
        let _ = timeout(DEADLINE, socket.read_to_string(&mut said)).await.expect("ends");
        said.starts_with("HTTP/1.1 404 ")
    });
    answered.await.unwrap_or_else(|error| panic!("{error}"));
    counted(&cluster, "rookery_listener_handshake_failures_total{listener=\"listeners.ws\",reason=\"path\"} 1").await;
    assert!(is_alive(&mut behind).await);
}
