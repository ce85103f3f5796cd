//! Where clients connect: MQTT over TCP, TLS, WebSocket and WebSocket over TLS.
//!
//! Accepting and shaking hands happen on the control plane's runtime (R18). Then the socket moves, once, to the
//! worker that has the fewest connections.

mod accept;
mod bind;
mod handshake;
mod stats;
pub mod tls;
mod websocket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::limits::CONNECT_DEADLINE;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::broker::core::Transport;
use crate::broker::{Mailbox, Seats};
use crate::config::ListenersConfig;

use self::accept::Door;
pub use self::stats::{Failure, ListenerStats};

/// Handshakes in progress at one listener; while there are as many, it accepts no more. Each is some 20 KB of TLS
/// state, and one that makes no progress occupies its place for [`Bounds::deadline`].
pub const MAX_HANDSHAKES: usize = 4096;

/// What one node takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of all listeners together, handshakes included; more are closed at once and counted.
    pub connections: usize,
    /// Handshakes in progress at one listener.
    pub handshakes: usize,
    /// From accept to the end of the handshakes of TLS and WebSocket together.
    pub deadline: Duration,
}

impl Bounds {
    /// `connections`, and the constants of the system.
    pub fn new(connections: usize) -> Self {
        Self { connections, handshakes: MAX_HANDSHAKES, deadline: CONNECT_DEADLINE }
    }
}

/// The listeners of a node. Dropping them stops accepting.
#[derive(Debug)]
pub struct Listeners {
    open: BTreeMap<Transport, Open>,
    seats: Arc<Seats>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    stats: Arc<Mutex<ListenerStats>>,
    task: AbortHandle,
}

impl Listeners {
    /// Opens what `config` names and hands connections to the workers behind `mailboxes`. The certificate files
    /// of `config` are not looked at: `tls` has what clients are shown.
    ///
    /// # Errors
    /// An address cannot be listened on, or a listener with TLS finds no `tls`: the error names the setting and
    /// the address, and nothing was started.
    pub fn start(
        config: &ListenersConfig,
        bounds: Bounds,
        tls: Option<Arc<ServerConfig>>,
        mailboxes: Vec<Arc<Mailbox>>,
        control: &Handle,
    ) -> io::Result<Self> {
        let seats = Seats::new(mailboxes.len(), bounds.connections);
        let mailboxes: Arc<[Arc<Mailbox>]> = mailboxes.into();
        let tls = tls.map(TlsAcceptor::from);
        let _entered = control.enter();
        let mut doors = Vec::new();
        for (transport, address) in wanted(config) {
            doors.push(Door {
                transport,
                socket: listen(transport, address, tls.is_some())?,
                tls: tls.clone(),
                bounds,
                seats: seats.clone(),
                mailboxes: mailboxes.clone(),
                stats: Arc::default(),
            });
        }
        let open = doors.into_iter().map(|door| Ok((door.transport, Open::start(door, control)?)));
        Ok(Self { open: open.collect::<io::Result<_>>()?, seats })
    }

    /// Where each listener is reached; a port 0 in the settings has become a real one.
    pub fn local_addrs(&self) -> BTreeMap<Transport, SocketAddr> {
        self.open.iter().map(|(transport, open)| (*transport, open.address)).collect()
    }

    /// What each listener counted.
    pub fn stats(&self) -> BTreeMap<Transport, ListenerStats> {
        self.open.iter().map(|(transport, open)| (*transport, open.stats.lock().clone())).collect()
    }

    /// Connections that are open now, handshakes included.
    pub fn connections(&self) -> usize {
        self.seats.taken()
    }

    /// Closes the listening sockets and abandons handshakes in progress. What the workers have goes on.
    pub fn stop_accepting(&self) {
        self.open.values().for_each(|open| open.task.abort());
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

impl Open {
    fn start(door: Door, control: &Handle) -> io::Result<Self> {
        let (address, stats) = (door.socket.local_addr()?, door.stats.clone());
        tracing::info!(listener = setting(door.transport), %address, "listening");
        let task = control.spawn(door.run()).abort_handle();
        Ok(Self { address, stats, task })
    }
}

fn wanted(config: &ListenersConfig) -> impl Iterator<Item = (Transport, SocketAddr)> {
    let all = [
        (Transport::Tcp, config.mqtt),
        (Transport::Tls, config.mqtts),
        (Transport::Ws, config.ws),
        (Transport::Wss, config.wss),
    ];
    all.into_iter().filter_map(|(transport, address)| Some((transport, address?)))
}

fn listen(transport: Transport, address: SocketAddr, has_tls: bool) -> io::Result<TcpListener> {
    let name = setting(transport);
    if matches!(transport, Transport::Tls | Transport::Wss) && !has_tls {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} needs a certificate")));
    }
    bind::listen(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} ({name}): {error}")))
}

/// The setting that opens a listener.
fn setting(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "listeners.mqtt",
        Transport::Tls => "listeners.mqtts",
        Transport::Ws => "listeners.ws",
        Transport::Wss => "listeners.wss",
    }
}
