//! One listener's loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::handshake::{Arrived, shake};
use super::{Bounds, Failure, ListenerStats, setting};
use crate::broker::core::Transport;
use crate::broker::transport::{Incoming, Movable};
use crate::broker::{Mail, Mailbox, Seats};

/// How long accepting rests after an error: file descriptors come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listener.
pub(super) struct Door {
    pub transport: Transport,
    pub socket: TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub bounds: Bounds,
    pub seats: Arc<Seats>,
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    pub stats: Arc<Mutex<ListenerStats>>,
}

/// A connection between accept and its worker.
struct Guest {
    socket: Movable,
    from: SocketAddr,
    worker: usize,
}

impl Door {
    /// Accepts until it is aborted. All handshakes of the listener are polled by this one task: a flood of them
    /// queues behind itself, and takes its turn with the rest of the control plane like one (R18).
    pub async fn run(self) {
        let mut handshakes = FuturesUnordered::new();
        let mut paused = false;
        let pause = sleep(ACCEPT_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                accepted = self.socket.accept(), if !paused && handshakes.len() < self.bounds.handshakes => {
                    match accepted {
                        Ok((socket, from)) => handshakes.extend(self.welcome(socket, from).map(|g| self.receive(g))),
                        Err(error) => {
                            paused = self.accept_failed(&error);
                            pause.set(sleep(ACCEPT_PAUSE));
                        }
                    }
                }
                () = &mut pause, if paused => paused = false,
                Some(()) = handshakes.next(), if !handshakes.is_empty() => {}
            }
        }
    }

    /// Gives a new connection its seat; one with a handshake ahead of it is returned.
    fn welcome(&self, socket: TcpStream, from: SocketAddr) -> Option<Guest> {
        self.stats.lock().accepted += 1;
        let Some(seat) = self.seats.take() else {
            self.stats.lock().refused_by_cap += 1;
            return None;
        };
        // Of a socket that is gone already, the next read tells.
        let _ = socket.set_nodelay(true);
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let guest = Guest { worker: seat.worker(), socket: Movable::seated(socket, seat), from };
        if self.transport != Transport::Tcp {
            return Some(guest);
        }
        let arrived = Arrived { incoming: Incoming::Tcp(guest.socket), server_name: None };
        self.hand_over(arrived, guest.from, guest.worker, Duration::ZERO);
        None
    }

    /// Shakes hands and hands over.
    async fn receive(&self, guest: Guest) {
        let Guest { socket, from, worker } = guest;
        let deadline = sleep(self.bounds.deadline).deadline();
        let shaken = timeout_at(deadline, shake(self.transport, socket, self.tls.as_ref())).await;
        match shaken.unwrap_or(Err(Failure::Timeout)) {
            Ok(arrived) => self.hand_over(arrived, from, worker, (deadline - self.bounds.deadline).elapsed()),
            Err(failure) => self.count(failure, from),
        }
    }

    fn hand_over(&self, arrived: Arrived, from: SocketAddr, worker: usize, spent: Duration) {
        let Arrived { mut incoming, server_name } = arrived;
        if incoming.park().is_err() {
            return self.count(Failure::Gone, from);
        }
        self.stats.lock().handed_over += 1;
        let (incoming, transport) = (Box::new(incoming), self.transport);
        self.mailboxes[worker].post(Mail::Adopt { incoming, from, server_name, transport, spent });
    }

    fn count(&self, failure: Failure, from: SocketAddr) {
        tracing::debug!(listener = setting(self.transport), %from, reason = failure.label(), "handshake failed");
        *self.stats.lock().handshake_failures.entry(failure).or_default() += 1;
    }

    /// Whether accepting shall rest.
    fn accept_failed(&self, error: &io::Error) -> bool {
        self.stats.lock().accept_errors += 1;
        // The connection's own fault, not ours: the next one may be there already.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return false;
        }
        tracing::warn!(listener = setting(self.transport), %error, "cannot accept a connection");
        true
    }
}
