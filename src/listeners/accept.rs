//! One listener's loop.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout_at};

use super::bind;
use super::budget::Budget;
use super::handshake::{Arrived, shake};
use super::proxy::read_header;
use super::tls::ClientTls;
use super::{Bounds, Failure, ListenerStats, Refusal, setting};
use crate::broker::core::Transport;
use crate::broker::transport::Movable;
use crate::broker::{Counted, Mail, Mailbox, Seats, Source, Tally};
use crate::config::Network;

/// How long accepting rests after an error: file descriptors come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that are accepted, and handed over together, before others get their turn.
const TOGETHER: usize = 16;

/// One listener.
pub(super) struct Door {
    pub transport: Transport,
    pub socket: AsyncFd<TcpListener>,
    pub tls: Option<Arc<ClientTls>>,
    /// Where proxies connect from that say whose connections they pass on; `None`: whoever connects is the client.
    pub proxies: Option<Arc<[Network]>>,
    pub bounds: Bounds,
    pub seats: Arc<Seats>,
    /// Handshakes in progress at all listeners.
    pub handshakes: Arc<Tally>,
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    pub stats: Arc<Mutex<ListenerStats>>,
}

/// A connection between accept and its worker.
struct Guest {
    socket: Movable,
    from: SocketAddr,
    worker: usize,
    /// Its place among the handshakes of its source; none before a proxy has said whose it is.
    _greeted: Option<Counted>,
}

/// Why a connection does not get to a worker.
enum Lost {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Door {
    /// Accepts until it is aborted. All handshakes of the listener are polled by this one task, so many steps a turn:
    /// a flood of them queues behind itself, and takes its turn with the rest of the control plane like one (R18).
    pub async fn run(self) {
        let budget = Budget::new();
        budget.per_turn(self.accept(&budget)).await;
    }

    async fn accept(&self, budget: &Budget) {
        let mut handshakes = FuturesUnordered::new();
        let mut paused = false;
        let pause = sleep(ACCEPT_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                accepted = self.next(), if !paused && handshakes.len() < self.bounds.handshakes => {
                    match accepted {
                        Ok(all) => {
                            let guests = self.welcome(all);
                            handshakes.extend(guests.into_iter().map(|guest| budget.meter(self.receive(guest))));
                        }
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

    /// The next connections, one at least. Their sockets are not registered with this runtime: mostly they move on at once.
    async fn next(&self) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
        loop {
            let mut readable = self.socket.readable().await?;
            let mut all = Vec::new();
            while all.len() < TOGETHER {
                match readable.try_io(|listener| bind::accept(listener.get_ref())) {
                    Ok(Ok(accepted)) => all.push(accepted),
                    // It comes again, if it is of any importance.
                    Ok(Err(_)) if !all.is_empty() => break,
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            if !all.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Gives new connections their seats; those with a handshake ahead of them are returned.
    fn welcome(&self, all: Vec<(TcpStream, SocketAddr)>) -> Vec<Guest> {
        self.stats.lock().accepted += all.len() as u64;
        let mut guests = Vec::new();
        let mut mail: BTreeMap<usize, Vec<Mail>> = BTreeMap::new();
        for (socket, from) in all {
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            match self.admit(socket, from) {
                Ok(guest) if self.transport != Transport::Tcp || self.proxies.is_some() => guests.push(guest),
                Ok(Guest { socket, worker, .. }) => {
                    let adopt = self.adopt(Arrived::tcp(socket), from, Duration::ZERO);
                    mail.entry(worker).or_default().extend(adopt);
                }
                Err(lost) => self.count(&lost, from),
            }
        }
        mail.into_iter().for_each(|(worker, mail)| self.mailboxes[worker].post_all(mail));
        guests
    }

    fn admit(&self, socket: TcpStream, from: SocketAddr) -> Result<Guest, Lost> {
        if self.proxies.as_ref().is_some_and(|known| !known.iter().any(|network| network.contains(from.ip()))) {
            return Err(Refusal::ProxySource.into());
        }
        let seat = self.seats.take().ok_or(Refusal::Connections)?;
        let worker = seat.worker();
        let guest = Guest { worker, socket: Movable::parked(socket, seat), from, _greeted: None };
        if self.proxies.is_some() { Ok(guest) } else { self.settle(guest) }
    }

    /// Counts the connection where its client is.
    fn settle(&self, guest: Guest) -> Result<Guest, Lost> {
        let Guest { mut socket, from, worker, .. } = guest;
        let source = Source::of(from.ip());
        if !socket.settle(source) {
            return Err(Refusal::Address.into());
        }
        // Where nothing is to be shaken, nothing is in progress.
        let greeted = match self.transport {
            Transport::Tcp => None,
            _ => Some(self.handshakes.count(source).ok_or(Refusal::Handshakes)?),
        };
        Ok(Guest { socket, from, worker, _greeted: greeted })
    }

    /// Shakes hands and hands over.
    async fn receive(&self, guest: Guest) {
        let mut from = guest.from;
        let deadline = sleep(self.bounds.deadline).deadline();
        let shaken = timeout_at(deadline, self.greet(guest, &mut from)).await;
        match shaken.unwrap_or(Err(Failure::Timeout.into())) {
            Ok((arrived, worker)) => {
                self.hand_over(arrived, from, worker, (deadline - self.bounds.deadline).elapsed());
            }
            Err(lost) => self.count(&lost, from),
        }
    }

    /// Returns what arrived for which worker. `from` becomes what a proxy says it is.
    async fn greet(&self, mut guest: Guest, from: &mut SocketAddr) -> Result<(Arrived, usize), Lost> {
        guest.socket.attach().map_err(|_| Failure::Gone)?;
        if self.proxies.is_some() {
            if let Some(client) = read_header(&mut guest.socket).await? {
                guest.from = client;
                *from = client;
            }
            guest = self.settle(guest)?;
        }
        let Guest { socket, worker, _greeted, .. } = guest;
        let tls = self.tls.as_ref().map(|tls| tls.acceptor(self.transport));
        Ok((shake(self.transport, socket, tls).await?, worker))
    }

    fn hand_over(&self, arrived: Arrived, from: SocketAddr, worker: usize, spent: Duration) {
        self.mailboxes[worker].post_all(self.adopt(arrived, from, spent));
    }

    /// What the worker of a connection is told.
    fn adopt(&self, arrived: Arrived, from: SocketAddr, spent: Duration) -> Option<Mail> {
        let Arrived { mut incoming, server_name, resumed } = arrived;
        if incoming.park().is_err() {
            self.count(&Failure::Gone.into(), from);
            return None;
        }
        {
            let mut stats = self.stats.lock();
            stats.handed_over += 1;
            stats.resumed += u64::from(resumed);
        }
        Some(Mail::Adopt { incoming: Box::new(incoming), from, server_name, transport: self.transport, spent })
    }

    fn count(&self, lost: &Lost, from: SocketAddr) {
        let listener = setting(self.transport);
        let mut stats = self.stats.lock();
        match lost {
            Lost::Refused(refusal) => {
                tracing::debug!(listener, %from, reason = refusal.label(), "connection refused");
                *stats.refused.entry(*refusal).or_default() += 1;
            }
            Lost::Failed(failure) => {
                tracing::debug!(listener, %from, reason = failure.label(), "handshake failed");
                *stats.handshake_failures.entry(*failure).or_default() += 1;
            }
        }
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
