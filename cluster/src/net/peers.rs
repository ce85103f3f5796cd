//! Connections to peers: gRPC over mutual TLS, one for each peer and purpose.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::cut::{Cut, CutSignal, Cuttable};
use super::{BoxStream, PeerChannels, Purpose, SharedNet, tune_endpoint};
use crate::clock::{Moment, SharedClock};
use crate::ids::NodeId;
use crate::pki::{ALPN_DATA, ALPN_PEER, NodeTls};

/// A peer that does not answer the TCP and TLS handshakes in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Repeated failures towards one peer are logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Encrypted bytes that may wait for the socket of a connection that carries publishes: a batch in few writes.
const DATA_BUFFER: usize = 512 << 10;

/// Channels to peers over a [`super::Net`], with an address book. Connections run on the runtime that made
/// this (the control plane's, R18), whoever asks for them.
pub struct TlsPeerChannels {
    dialer: Arc<Dialer>,
    runtime: Handle,
    data: Handle,
    peers: Mutex<Peers>,
}

struct Dialer {
    net: SharedNet,
    tls: Arc<NodeTls>,
    clock: SharedClock,
    logged: Mutex<BTreeMap<NodeId, Moment>>,
}

#[derive(Default)]
struct Peers {
    addresses: BTreeMap<NodeId, String>,
    channels: BTreeMap<(NodeId, Purpose), Open>,
}

struct Open {
    channel: Channel,
    _cut: Cut,
}

impl TlsPeerChannels {
    /// No peer is known at first. Must be called inside a tokio runtime, on which all connections live but those of
    /// `Purpose::Data`: these live on `data` (R18).
    pub fn new(net: SharedNet, tls: Arc<NodeTls>, clock: SharedClock, data: Handle) -> Arc<Self> {
        let dialer = Arc::new(Dialer { net, tls, clock, logged: Mutex::default() });
        Arc::new(Self { dialer, runtime: Handle::current(), data, peers: Mutex::default() })
    }

    /// `peer` is at `host:port` from now on; connections to another address of it are ended.
    pub fn set_address(&self, peer: NodeId, address: impl Into<String>) {
        let (address, mut peers) = (address.into(), self.peers.lock());
        if peers.addresses.get(&peer) != Some(&address) {
            peers.close(peer);
            peers.addresses.insert(peer, address);
        }
    }

    /// Forgets the addresses of those that are not `there` and ends the connections to them: they are gone for good.
    pub fn retain(&self, there: impl Fn(NodeId) -> bool) {
        let mut peers = self.peers.lock();
        peers.addresses.retain(|peer, _| there(*peer));
        peers.channels.retain(|(peer, _), _| there(*peer));
    }

    /// Where `peer` is, as far as is known.
    pub fn address(&self, peer: NodeId) -> Option<String> {
        self.peers.lock().addresses.get(&peer).cloned()
    }
}

impl PeerChannels for TlsPeerChannels {
    fn channel(&self, peer: NodeId, purpose: Purpose) -> Option<Channel> {
        let mut peers = self.peers.lock();
        if let Some(open) = peers.channels.get(&(peer, purpose)) {
            return Some(open.channel.clone());
        }
        let address = peers.addresses.get(&peer)?.clone();
        let _runtime = if purpose == Purpose::Data { self.data.enter() } else { self.runtime.enter() };
        let cut = Cut::new();
        let channel = lazy_channel(self.dialer.clone(), peer, purpose, address, &cut)?;
        peers.channels.insert((peer, purpose), Open { channel: channel.clone(), _cut: cut });
        Some(channel)
    }

    fn reset(&self, peer: NodeId, purpose: Purpose) {
        self.peers.lock().channels.remove(&(peer, purpose));
    }
}

impl Peers {
    fn close(&mut self, peer: NodeId) {
        self.channels.retain(|(of, _), _| *of != peer);
    }
}

fn lazy_channel(dialer: Arc<Dialer>, peer: NodeId, purpose: Purpose, address: String, cut: &Cut) -> Option<Channel> {
    // The name is for the `:authority` header only: the connector below decides where to dial.
    let endpoint = Endpoint::from_shared(format!("http://{}", dialer.tls.server_name(peer).ok()?.to_str()))
        .ok()?
        .connect_timeout(CONNECT_TIMEOUT);
    let endpoint = tune_endpoint(endpoint);
    let cut = cut.watch();
    let connector = tower::service_fn(move |_: Uri| {
        let (dialer, address, cut) = (dialer.clone(), address.clone(), cut.signal());
        async move { dialer.dial(peer, purpose, &address, cut).await.map(TokioIo::new) }
    });
    Some(endpoint.connect_with_connector_lazy(connector))
}

type Dialled = Cuttable<tokio_rustls::client::TlsStream<BoxStream>>;

impl Dialer {
    async fn dial(
        self: Arc<Self>,
        peer: NodeId,
        purpose: Purpose,
        address: &str,
        cut: CutSignal,
    ) -> io::Result<Dialled> {
        match self.handshake(peer, purpose, address).await {
            Ok(stream) => {
                let log = move |error: &io::Error| self.log(peer, error);
                Ok(Cuttable::new(stream, cut).on_error(log))
            }
            Err(error) => {
                self.log(peer, &error);
                Err(error)
            }
        }
    }

    async fn handshake(
        &self,
        peer: NodeId,
        purpose: Purpose,
        address: &str,
    ) -> io::Result<tokio_rustls::client::TlsStream<BoxStream>> {
        let (config, protocol) = match purpose {
            Purpose::Data => (self.tls.data_client_config(), ALPN_DATA),
            Purpose::Raft | Purpose::Control => (self.tls.client_config(), ALPN_PEER),
        };
        let name = self.tls.server_name(peer).map_err(io::Error::other)?;
        let tcp = self.net.connect(address).await?;
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        if purpose == Purpose::Data {
            stream.get_mut().1.set_buffer_limit(Some(DATA_BUFFER));
        }
        if stream.get_ref().1.alpn_protocol() != Some(protocol) {
            return Err(io::Error::other("the peer speaks another version of the protocol"));
        }
        Ok(stream)
    }

    /// The far side's refusal arrives here as an alert, after what TLS 1.3 took for a good handshake.
    fn log(&self, peer: NodeId, error: &io::Error) {
        let (now, mut logged) = (self.clock.now(), self.logged.lock());
        if logged.get(&peer).is_none_or(|last| now.since(*last) >= LOG_EVERY) {
            logged.insert(peer, now);
            tracing::warn!(%peer, %error, "no connection to peer");
        }
    }
}
