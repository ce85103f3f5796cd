//! Where clients connect: MQTT over TCP, TLS, WebSocket and WebSocket over TLS.
//!
//! Accepting and shaking hands happen on the control plane's runtime (R18). Then the socket moves, once, to the
//! worker that has the fewest connections.

mod accept;
mod bind;
mod budget;
mod handshake;
pub mod proxy;
pub mod reload;
mod stats;
pub mod tls;
pub mod upgrade;
pub mod websocket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::limits::CONNECT_DEADLINE;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::broker::core::Transport;
use crate::broker::{Mailbox, Seats, Tally};
use crate::config::{LimitsConfig, ListenersConfig, Network};

use self::accept::Door;
pub use self::stats::{Failure, ListenerStats, Refusal};
use self::tls::ClientTls;

/// Handshakes in progress at one listener; while there are as many, it accepts no more. Each is some 20 KB of TLS
/// state, and one that makes no progress occupies its place for [`Bounds::deadline`].
pub const MAX_HANDSHAKES: usize = 4096;

/// Handshakes in progress of one source address (IPv6: of one /64), at all listeners: one alone cannot have all places
/// of a listener. More are closed at once and counted.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 1024;

const _: () = assert!(2 * MAX_HANDSHAKES_PER_ADDRESS < MAX_HANDSHAKES);

/// What one node takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of all listeners together, handshakes included; more are closed at once and counted.
    pub connections: usize,
    /// Of these, connections of one source address (IPv6: of one /64).
    pub per_address: usize,
    /// Handshakes in progress at one listener.
    pub handshakes: usize,
    /// Handshakes in progress of one source address, at all listeners.
    pub handshakes_per_address: usize,
    /// From accept to the end of the handshakes of the PROXY protocol, TLS and WebSocket together.
    pub deadline: Duration,
}

impl Bounds {
    /// Those of `limits`, and the constants of the system.
    pub fn of(limits: &LimitsConfig) -> Self {
        Self { per_address: limits.connections_per_address, ..Self::new(limits.connections) }
    }

    /// `connections`, which one address may have all, and the constants of the system.
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            per_address: connections,
            handshakes: MAX_HANDSHAKES,
            handshakes_per_address: MAX_HANDSHAKES_PER_ADDRESS,
            deadline: CONNECT_DEADLINE,
        }
    }
}

/// The listeners of a node. Dropping them stops accepting.
#[derive(Debug)]
pub struct Listeners {
    open: Vec<Open>,
    stats: Counters,
    seats: Arc<Seats>,
}

#[derive(Debug)]
struct Open {
    transport: Transport,
    address: SocketAddr,
    task: AbortHandle,
}

/// What the listeners of a node count, by kind, as of now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<Transport, Arc<Mutex<ListenerStats>>>);

impl Counters {
    /// Reads them, each with the setting that opens the listener.
    pub fn read(&self) -> Vec<(&'static str, ListenerStats)> {
        self.0.iter().map(|(transport, stats)| (setting(*transport), stats.lock().clone())).collect()
    }
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
        tls: Option<Arc<ClientTls>>,
        mailboxes: Vec<Arc<Mailbox>>,
        control: &Handle,
    ) -> io::Result<Self> {
        let seats = Seats::new(mailboxes.len(), bounds.connections, bounds.per_address);
        let handshakes = Tally::new(bounds.handshakes_per_address);
        let mailboxes: Arc<[Arc<Mailbox>]> = mailboxes.into();
        let proxies: Arc<[Network]> = config.proxy_from.clone().into();
        let mut stats = Counters::default();
        let _entered = control.enter();
        let mut doors = Vec::new();
        for (transport, address) in wanted(config) {
            doors.push(Door {
                transport,
                socket: listen(transport, address, tls.is_some())?,
                tls: tls.clone(),
                proxies: config.proxy.contains(&address).then(|| proxies.clone()),
                bounds,
                seats: seats.clone(),
                handshakes: handshakes.clone(),
                mailboxes: mailboxes.clone(),
                stats: stats.0.entry(transport).or_default().clone(),
            });
        }
        let open = doors.into_iter().map(|door| Open::start(door, control)).collect::<io::Result<_>>()?;
        Ok(Self { open, stats, seats })
    }

    /// Where the listeners of each kind are reached, in the order of the settings; a port 0 in them has become a real
    /// one.
    pub fn local_addrs(&self) -> BTreeMap<Transport, Vec<SocketAddr>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.open.iter().for_each(|open| all.entry(open.transport).or_default().push(open.address));
        all
    }

    /// What the listeners of each kind counted.
    pub fn stats(&self) -> BTreeMap<Transport, ListenerStats> {
        self.stats.0.iter().map(|(transport, stats)| (*transport, stats.lock().clone())).collect()
    }

    /// Where that is read later.
    pub fn counters(&self) -> Counters {
        self.stats.clone()
    }

    /// Connections that are open now, handshakes included.
    pub fn connections(&self) -> usize {
        self.seats.taken()
    }

    /// Closes the listening sockets and abandons handshakes in progress. What the workers have goes on.
    pub fn stop_accepting(&self) {
        self.open.iter().for_each(|open| open.task.abort());
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

impl Open {
    fn start(door: Door, control: &Handle) -> io::Result<Self> {
        let (transport, address, proxy) = (door.transport, door.socket.get_ref().local_addr()?, door.proxies.is_some());
        tracing::info!(listener = setting(transport), %address, proxy, "listening");
        let task = control.spawn(door.run()).abort_handle();
        Ok(Self { transport, address, task })
    }
}

fn wanted(config: &ListenersConfig) -> impl Iterator<Item = (Transport, SocketAddr)> {
    let all = [
        (Transport::Tcp, &config.mqtt),
        (Transport::Tls, &config.mqtts),
        (Transport::Ws, &config.ws),
        (Transport::Wss, &config.wss),
    ];
    all.into_iter().flat_map(|(transport, addresses)| addresses.iter().map(move |address| (transport, *address)))
}

fn listen(transport: Transport, address: SocketAddr, has_tls: bool) -> io::Result<AsyncFd<TcpListener>> {
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
