//! Driver of [`crate::membership`]: sealed UDP datagrams and timers. One task owns the membership; others
//! read what it publishes through [`Members`].

mod seal;
mod task;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use seal::{Keyring, SEAL_OVERHEAD};

use crate::clock::SharedClock;
use crate::ids::NodeLife;
use crate::membership::{BadCard, Member, Membership, NodeCard};
use crate::net::SharedNet;
use crate::rng::SharedRng;

/// Requests waiting for the task, which answers in microseconds; more are dropped and counted.
const COMMANDS: usize = 64;

/// What [`start`] needs to know.
#[derive(Debug)]
pub struct SwimConfig {
    /// This life of this node.
    pub life: NodeLife,
    /// Where the datagram socket is bound.
    pub bind: SocketAddr,
    /// Where others reach it; `None` takes the address that it got bound to.
    pub advertised: Option<SocketAddr>,
    /// What this node says of itself.
    pub card: NodeCard,
    /// Where others may be.
    pub seeds: Vec<SocketAddr>,
    /// The cluster's keys.
    pub keys: Keyring,
}

/// Why membership did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket.
    #[error("cannot bind the membership socket: {0}")]
    Socket(#[from] io::Error),
    /// The card.
    #[error(transparent)]
    Card(#[from] BadCard),
}

/// What happened to datagrams and requests, counted since the start.
#[derive(Debug, Default)]
pub struct SwimStats {
    /// Datagrams sent.
    pub sent: AtomicU64,
    /// Datagrams received and opened.
    pub received: AtomicU64,
    /// Datagrams that no key of ours opens: another cluster's, or forged.
    pub unauthentic: AtomicU64,
    /// Datagrams the socket did not take.
    pub send_failed: AtomicU64,
    /// Opened and unreadable, or refused by the protocol.
    pub refused: AtomicU64,
    /// Requests dropped because too many waited.
    pub commands_dropped: AtomicU64,
}

enum Command {
    Announce(SocketAddr),
    Card(NodeCard),
    Leave(oneshot::Sender<()>),
}

/// The members as this node sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Members {
    list: watch::Receiver<Arc<[Member]>>,
    commands: mpsc::Sender<Command>,
    stats: Arc<SwimStats>,
    local: SocketAddr,
}

impl Members {
    /// All known nodes with how they are seen, this one too, by node id.
    pub fn members(&self) -> Arc<[Member]> {
        self.list.borrow().clone()
    }

    /// The list, and its changes.
    pub fn watch(&self) -> watch::Receiver<Arc<[Member]>> {
        self.list.clone()
    }

    /// Some node may be at `address`.
    pub fn announce(&self, address: SocketAddr) {
        self.command(Command::Announce(address));
    }

    /// This node's card changed; its life and revision are filled in.
    ///
    /// # Errors
    /// A card that is too big; the former one stays.
    pub fn set_card(&self, card: NodeCard) -> Result<(), BadCard> {
        card.check()?;
        self.command(Command::Card(card));
        Ok(())
    }

    /// Tells the others that this node stops, and ends the task. Returns when that is sent.
    pub async fn leave(&self) {
        let (done, wait) = oneshot::channel();
        self.command(Command::Leave(done));
        // An error says that the task has ended: then there is nothing to wait for.
        let _ = wait.await;
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counters.
    pub fn stats(&self) -> &SwimStats {
        &self.stats
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            self.stats.commands_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Binds the socket and starts the task, which runs until [`Members::leave`] or until it is aborted.
///
/// # Errors
/// Where the socket cannot be bound or the card is too big; nothing is started then.
pub async fn start(
    config: SwimConfig,
    net: SharedNet,
    clock: SharedClock,
    rng: SharedRng,
) -> Result<(Members, JoinHandle<()>), StartError> {
    let socket = net.datagrams(config.bind).await?;
    let local = socket.local_addr()?;
    let address = config.advertised.unwrap_or(local);
    let membership = Membership::new(config.life, address, config.card, rng.u64())?;
    let (list, watched) = watch::channel(membership.members().into());
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let stats = Arc::new(SwimStats::default());
    let members = Members { list: watched, commands, stats: stats.clone(), local };
    let task = task::Task::new(membership, task::Outside { socket, clock, rng, keys: config.keys, stats, list });
    #[expect(clippy::disallowed_methods, reason = "the caller owns the handle")]
    let running = tokio::spawn(task.run(inbox, config.seeds));
    Ok((members, running))
}

#[cfg(test)]
mod tests;
