//! The task that owns the membership.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::seal::Keyring;
use super::{Command, SEAL_OVERHEAD, SwimStats};
use crate::clock::{Moment, SharedClock};
use crate::membership::{Input, MAX_DATAGRAM_BYTES, Member, Membership, Output, TICK, Timer};
use crate::net::Datagrams;
use crate::rng::SharedRng;

/// A socket that takes no datagram for this long loses it: SWIM expects loss, not delay.
const SEND_TIMEOUT: Duration = Duration::from_millis(20);
/// An address that sends unauthentic datagrams is logged once in this time.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Such addresses remembered; they can be forged, so there may be any number.
const LOGGED: usize = 256;
/// After a receive error, so that a broken socket costs no processor.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

/// What the task works with.
pub(super) struct Outside {
    pub(super) socket: Arc<dyn Datagrams>,
    pub(super) clock: SharedClock,
    pub(super) rng: SharedRng,
    pub(super) keys: Keyring,
    pub(super) stats: Arc<SwimStats>,
    pub(super) list: watch::Sender<Arc<[Member]>>,
}

pub(super) struct Task {
    membership: Membership,
    outside: Outside,
    timers: BTreeMap<(Moment, u64), Timer>,
    scheduled: u64,
    next_tick: Moment,
    logged: BTreeMap<IpAddr, Moment>,
}

impl Task {
    pub(super) fn new(membership: Membership, outside: Outside) -> Self {
        let next_tick = outside.clock.now() + TICK;
        Self { membership, outside, timers: BTreeMap::new(), scheduled: 0, next_tick, logged: BTreeMap::new() }
    }

    /// Until told to leave, or until every handle is gone.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, seeds: Vec<SocketAddr>) {
        for seed in seeds {
            self.step(Input::Announce(seed)).await;
        }
        let socket = self.outside.socket.clone();
        // One byte more than may come, so that a longer one does not pass for one that fits.
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES + SEAL_OVERHEAD + 1];
        loop {
            let wait = self.next_wakeup().since(self.outside.clock.now());
            tokio::select! {
                received = socket.receive(&mut buffer) => match received {
                    Ok((length, from)) => self.on_datagram(&mut buffer[..length], from).await,
                    Err(error) => {
                        tracing::debug!(%error, "receiving a membership datagram failed");
                        tokio::time::sleep(RECEIVE_PAUSE).await;
                    }
                },
                command = inbox.recv() => match command {
                    Some(Command::Announce(address)) => self.step(Input::Announce(address)).await,
                    Some(Command::Card(card)) => self.step(Input::Card(card)).await,
                    Some(Command::Leave(done)) => {
                        self.step(Input::Leave).await;
                        // Whoever waited may be gone.
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.fire_timers().await;
        }
    }

    fn next_wakeup(&self) -> Moment {
        self.timers.first_key_value().map_or(self.next_tick, |((at, _), _)| (*at).min(self.next_tick))
    }

    async fn fire_timers(&mut self) {
        let now = self.outside.clock.now();
        let mut due = Vec::new();
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        due.sort();
        for timer in due {
            self.step(Input::Timer(timer)).await;
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.step(Input::Tick).await;
        }
    }

    async fn on_datagram(&mut self, sealed: &mut [u8], from: SocketAddr) {
        let stats = &self.outside.stats;
        match self.outside.keys.open(sealed) {
            Some(content) => {
                stats.received.fetch_add(1, Ordering::Relaxed);
                let content = Bytes::copy_from_slice(content);
                self.step(Input::Datagram(content)).await;
            }
            None => {
                stats.unauthentic.fetch_add(1, Ordering::Relaxed);
                self.log_unauthentic(from.ip());
            }
        }
    }

    fn log_unauthentic(&mut self, from: IpAddr) {
        let now = self.outside.clock.now();
        if self.logged.get(&from).is_some_and(|last| now.since(*last) < LOG_EVERY) {
            return;
        }
        if self.logged.len() >= LOGGED {
            self.logged.retain(|_, last| now.since(*last) < LOG_EVERY);
        }
        if self.logged.len() < LOGGED {
            self.logged.insert(from, now);
            tracing::warn!(%from, "dropped a membership datagram that is not sealed with the cluster's key");
        }
    }

    async fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        let before = self.membership.stats();
        self.membership.step(input, &mut outputs);
        let after = self.membership.stats();
        let refused = after.malformed + after.refused - before.malformed - before.refused;
        self.outside.stats.refused.fetch_add(refused, Ordering::Relaxed);
        for output in outputs {
            self.perform(output).await;
        }
        self.publish();
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::Send { to, datagram } => self.send(to, &datagram).await,
            Output::Schedule { after, timer } => {
                self.scheduled += 1;
                self.timers.insert((self.outside.clock.now() + after, self.scheduled), timer);
            }
            Output::Up(life, address) => tracing::info!(%life, %address, "node is up"),
            Output::Down(life) => tracing::info!(%life, "node is down"),
            Output::Card(card) => tracing::debug!(life = %card.life, zone = card.zone, "card of a node"),
            Output::Rejoined => tracing::info!("the others took this node for down; rejoined"),
        }
    }

    async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let Outside { keys, rng, socket, stats, .. } = &self.outside;
        let Some(sealed) = keys.seal(datagram, rng.as_ref()) else { return };
        let sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(&sealed, to)).await;
        let counter = if matches!(sent, Ok(Ok(()))) { &stats.sent } else { &stats.send_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn publish(&self) {
        let members = self.membership.members();
        self.outside.list.send_if_modified(|list| {
            let changed = **list != *members;
            if changed {
                *list = members.into();
            }
            changed
        });
    }
}
