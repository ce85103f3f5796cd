//! The network, as an argument: how a node listens and dials ([`Net`]), and its connections to its peers
//! ([`PeerChannels`]).

mod accepted;
mod cut;
mod peers;
mod server;
mod tokio_net;
mod tuning;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::Channel;

use crate::consensus::BoxFuture;
use crate::ids::NodeId;

pub use accepted::Accepted;
pub use cut::{Cut, CutSignal, Cuttable};
pub use peers::TlsPeerChannels;
pub use server::{Gate, JoinSource, PeerGate, PeerServer, serve_peers};
pub use tokio_net::TokioNet;
pub use tuning::{tune_endpoint, tune_server};

/// A byte stream between two addresses.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A byte stream of any kind.
pub type BoxStream = Pin<Box<dyn Stream>>;

/// A listening socket.
pub trait Listener: Send + Sync + 'static {
    /// The next connection and who made it.
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
    /// Where it listens (the real port, where 0 was asked for).
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A datagram socket.
pub trait Datagrams: Send + Sync + 'static {
    /// Sends one datagram; may be lost.
    fn send<'a>(&'a self, datagram: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>>;
    /// Receives one datagram into `into`.
    fn receive<'a>(&'a self, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>>;
    /// Where it is bound.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Where sockets between nodes come from. (Client listeners are the broker's own.)
pub trait Net: Send + Sync + 'static {
    /// Listens on `at`.
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>>;
    /// Connects to `host:port`.
    fn connect<'a>(&'a self, to: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
    /// Binds a datagram socket.
    fn datagrams(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Datagrams>>>;
}

/// A network, shared.
pub type SharedNet = Arc<dyn Net>;

/// What a connection to a peer is for: each purpose has a connection of its own, so that none queues behind
/// another (R10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Raft messages.
    Raft,
    /// Leases, claims, interest, forwarded proposals.
    Control,
    /// Publishes.
    Data,
}

/// Who made a connection, as its certificate proves. The peer server puts it into every request's extensions;
/// a service refuses a request without it, and one whose claimed node is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity(pub NodeId);

/// gRPC channels to peers: connected lazily, mutual TLS, one per (peer, purpose), reconnecting by themselves.
pub trait PeerChannels: Send + Sync + 'static {
    /// The channel to `peer` for `purpose`; `None` while the peer's address is not known.
    fn channel(&self, peer: NodeId, purpose: Purpose) -> Option<Channel>;
    /// Forgets the connection, so that the next call dials again (after an error that says the far side is a
    /// zombie).
    fn reset(&self, peer: NodeId, purpose: Purpose);
}

/// Peer channels, shared.
pub type SharedPeers = Arc<dyn PeerChannels>;

#[cfg(test)]
mod tests;
