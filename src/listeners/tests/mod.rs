//! The listeners and the workers behind them, over real sockets.

mod doors;
mod fake;
mod frames;
mod proxied;
mod secure;
mod transports;
mod workers;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rookery_cluster::clock::{Clock, SystemClock};
use rookery_cluster::handle::ClusterEvent;
use rookery_cluster::ids::{ClusterId, Incarnation, NodeId, NodeLife, WorkerId};
use rookery_cluster::net::Stream;
use rookery_cluster::pki::{ClusterCa, DynamicResolver, NameVerdict};
use rookery_cluster::rng::SystemRng;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::broker::core::{Settings, Stats};
use crate::broker::{Accountant, Mail, Worker, WorkerConfig};
use crate::client::{Client, Event, Options, Trust};
use crate::mqtt::codec::{Connect, Packet, Publish, ReasonCode, Version, encode};

use self::fake::Fake;

/// A name that the resolver signs for.
const NAME: &str = "dev.acme.rookery.localhost";
const ALL: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
/// Ends a test that hangs. Nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Workers and listeners of one node, with [`Fake`] in place of the rest of it.
struct World {
    fake: Arc<Fake>,
    workers: Vec<Worker>,
    listeners: Listeners,
    tls: Arc<ClientTls>,
    resolver: Arc<DynamicResolver>,
    ca_pem: String,
}

fn on_loopback() -> ListenersConfig {
    let any = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    ListenersConfig { mqtt: any.clone(), mqtts: any.clone(), ws: any.clone(), wss: any, ..ListenersConfig::default() }
}

/// Signs for the names of brokers, with an authority whose certificate is returned.
fn resolver() -> (Arc<DynamicResolver>, String) {
    let ca = ClusterCa::generate(ClusterId(7), SystemClock.wall(), &SystemRng).unwrap();
    let pem = ca.cert_pem().to_owned();
    let judge = |name: &str| match name {
        "none.acme.rookery.localhost" => NameVerdict::Refuse,
        name if name.ends_with(".rookery.localhost") => NameVerdict::Issue,
        _ => NameVerdict::Default,
    };
    let resolver = DynamicResolver::new(Box::new(judge), vec!["localhost".into()])
        .with_signer(Arc::new(ca), Arc::new(SystemClock), Arc::new(SystemRng))
        .unwrap();
    (Arc::new(resolver), pem)
}

impl World {
    fn new(workers: u16) -> Self {
        Self::with(workers, Settings::default(), Bounds::new(1000))
    }

    fn with(workers: u16, settings: Settings, bounds: Bounds) -> Self {
        Self::of(&on_loopback(), workers, settings, bounds)
    }

    fn of(config: &ListenersConfig, workers: u16, settings: Settings, bounds: Bounds) -> Self {
        let mailboxes: Vec<Arc<Mailbox>> = (0..workers).map(|_| Arc::default()).collect();
        let fake = Arc::new(Fake::new(mailboxes.clone(), settings));
        let (resolver, ca_pem) = resolver();
        let tls = ClientTls::new(resolver.clone(), Arc::new(SystemClock)).unwrap();
        let listeners =
            Listeners::start(config, bounds, Some(tls.clone()), mailboxes.clone(), &Handle::current()).unwrap();
        let start = |id| {
            let config = WorkerConfig {
                id: WorkerId(id),
                life: NodeLife { node: NodeId(1), incarnation: Incarnation(1) },
                services: fake.clone(),
                mailboxes: mailboxes.clone(),
                clock: Arc::new(SystemClock),
                seed: 7,
                accountant: Arc::new(Accountant::new(usize::MAX)),
                progress: Arc::new(AtomicU64::new(0)),
            };
            let worker = Worker::start(config).unwrap();
            worker.mailbox().post(Mail::Cluster(ClusterEvent::InterestComplete(true)));
            worker
        };
        let workers = (0..workers).map(start).collect();
        Self { fake, workers, listeners, tls, resolver, ca_pem }
    }

    fn address(&self, transport: Transport) -> SocketAddr {
        self.listeners.local_addrs()[&transport][0]
    }

    fn options(&self, transport: Transport, client_id: &str) -> Options {
        let scheme = match transport {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        };
        let address = self.address(transport);
        let url = format!("{scheme}://{NAME}:{}", address.port());
        Options {
            dial: Some(address.to_string()),
            trust: Trust::CaPem(self.ca_pem.clone()),
            client_id: client_id.to_owned(),
            ..Options::new(url.parse().unwrap())
        }
    }

    async fn connect(&self, transport: Transport, client_id: &str) -> Client {
        Client::connect(&self.options(transport, client_id)).await.unwrap().0
    }

    async fn tcp(&self, transport: Transport) -> TcpStream {
        TcpStream::connect(self.address(transport)).await.unwrap()
    }

    fn client_tls(&self) -> ClientConfig {
        self.client_tls_of(rustls::ALL_VERSIONS, &[])
    }

    fn client_tls_of(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A stream for a WebSocket over `transport`.
    async fn below_websocket(&self, transport: Transport) -> Pin<Box<dyn Stream>> {
        let tcp = self.tcp(transport).await;
        if transport == Transport::Ws {
            return Box::pin(tcp);
        }
        let connector = TlsConnector::from(Arc::new(self.client_tls()));
        Box::pin(connector.connect(ServerName::try_from(NAME).unwrap(), tcp).await.unwrap())
    }

    fn failures(&self, transport: Transport, failure: Failure) -> u64 {
        self.listeners.stats()[&transport].handshake_failures.get(&failure).copied().unwrap_or(0)
    }

    fn refused(&self, transport: Transport, refusal: Refusal) -> u64 {
        self.listeners.stats()[&transport].refused.get(&refusal).copied().unwrap_or(0)
    }

    /// The sum over all workers.
    fn sum(&self, of: impl Fn(&Stats) -> u64) -> u64 {
        self.workers.iter().map(|worker| of(&worker.stats().read().0)).sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.mailbox().post(Mail::Stop { reason: ReasonCode::SERVER_SHUTTING_DOWN });
        }
        self.workers.drain(..).for_each(Worker::join);
    }
}

/// A connection from `from`, an address of this machine.
async fn tcp_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = match to {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4().unwrap(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6().unwrap(),
    };
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server closed without a word.
async fn is_closed(socket: &mut TcpStream) -> bool {
    use tokio::io::AsyncReadExt as _;
    // Closed with bytes unread, it is a reset.
    !matches!(within(socket.read(&mut [0; 1])).await, Ok(1..))
}

fn bytes(packets: &[Packet]) -> Bytes {
    let mut bytes = BytesMut::new();
    for packet in packets {
        encode(packet, Version::V5, &mut bytes).unwrap();
    }
    bytes.freeze()
}

fn connect(client_id: &str) -> Packet {
    Packet::Connect(Box::new(Connect::new(Version::V5, client_id)))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this hangs")
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(wait).await;
}

async fn message(client: &mut Client) -> Publish {
    match within(client.next()).await.unwrap() {
        Event::Message(message) => *message,
        other => panic!("{other:?}"),
    }
}
