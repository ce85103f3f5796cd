//! How many bytes wait for each broker's clients and on their way from them (R19). The node's accountant, outside, adds
//! up what all workers tell it and says whose brokers may keep no more.

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::ACCOUNT_STEP_BYTES;

use super::conn::{Active, Phase};
use super::{ConnKey, Core, DropReason, Dropped, get};

/// Why a broker may keep nothing more for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Full {
    /// It uses all that it may on this node.
    Broker,
    /// The node's bytes are used up, and it uses more of them than are left.
    Node,
}

impl Full {
    pub(super) fn reason(self) -> DropReason {
        match self {
            Self::Broker => DropReason::BrokerMemory,
            Self::Node => DropReason::NodeMemory,
        }
    }
}

/// What a broker keeps on this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The broker.
    pub broker: BrokerId,
    /// Bytes, more or less: the last turn's.
    pub bytes: usize,
    /// What it may keep on the node.
    pub budget: usize,
}

impl Core {
    /// What changed by `ACCOUNT_STEP_BYTES` or more since it was taken last, and everything at each tick. Each is to be
    /// answered by [`Core::account_stands`].
    pub fn take_usage(&mut self, into: &mut Vec<Usage>) {
        for room in self.unreported.drain(..) {
            if let Some(room) = self.rooms.get_mut(room) {
                into.push(room.account.report(room.id));
            }
        }
        into.append(&mut self.left_behind);
    }

    /// Whether [`Core::take_usage`] has something.
    pub fn has_usage(&self) -> bool {
        !self.unreported.is_empty() || !self.left_behind.is_empty()
    }

    /// What the accountant says about a broker.
    pub fn account_stands(&mut self, broker: BrokerId, full: Option<Full>) {
        if let Some(&room) = self.room_of.get(&broker) {
            self.rooms[room].account.full = full;
        }
    }

    /// The socket took bytes of the connection: what waited for room in its output moves up.
    pub fn drained(&mut self, now: Moment, key: ConnKey) {
        if let Some(conn) = get(&mut self.conns, key)
            && let Phase::Active(active) = &mut conn.phase
        {
            match active.session.pump(now, &mut conn.out) {
                Ok(expired) => self.stats.drop(DropReason::Subscriber(Dropped::Expired), expired),
                Err(ending) => tracing::error!(what = ending.what, "queued message lost"),
            }
            self.reads_on(key);
        }
        self.account_for(key);
    }

    /// A connection's buffers have changed.
    pub(super) fn account_for(&mut self, key: ConnKey) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Some(active) = holds(&conn.phase) else { return };
        let bytes = conn.out.len() + active.session.queued_bytes();
        let before = std::mem::replace(&mut conn.accounted, bytes);
        let room = active.room;
        self.rooms[room].counts.bytes_sent += conn.out.taken();
        let account = &mut self.rooms[room].account;
        account.clients = (account.clients + bytes).saturating_sub(before);
        if account.due() {
            account.listed = true;
            self.unreported.push(room);
        }
    }

    /// Adds everything up afresh and gives idle buffers back.
    pub(super) fn account(&mut self) {
        for (_, room) in &mut self.rooms {
            (room.account.clients, room.account.others) = (room.orphans.bytes(), 0);
        }
        for (_, conn) in &mut self.conns {
            conn.out.shrink();
            if let Some(active) = holds(&conn.phase) {
                conn.accounted = conn.out.len() + active.session.queued_bytes();
                let account = &mut self.rooms[active.room].account;
                account.clients += conn.accounted;
                account.others += conn.carry.len();
                account.budget = active.admitted.settings.broker_bytes;
                self.rooms[active.room].strategy = active.admitted.settings.shared_strategy;
            }
        }
        for (broker, bytes) in self.dests.iter().flat_map(|dest| dest.by_broker()) {
            if let Some(&room) = self.room_of.get(&broker) {
                self.rooms[room].account.others += bytes;
            }
        }
        for (index, room) in &mut self.rooms {
            let account = &mut room.account;
            if !account.listed && (account.bytes() != account.reported || account.full.is_some()) {
                account.listed = true;
                self.unreported.push(index);
            }
        }
    }
}

/// The session that a connection or its absence keeps.
fn holds(phase: &Phase) -> Option<&Active> {
    match phase {
        Phase::Active(active) | Phase::Parked(active) => Some(active),
        Phase::Importing(importing) => Some(&importing.active),
        _ => None,
    }
}

/// One broker's bytes on this worker.
#[derive(Debug)]
pub(super) struct Account {
    /// That wait for its clients.
    clients: usize,
    /// That came from them and go elsewhere, as of the last tick.
    others: usize,
    budget: usize,
    reported: usize,
    /// Whether it stands in the list of those to be reported.
    listed: bool,
    pub full: Option<Full>,
}

impl Default for Account {
    fn default() -> Self {
        Self { clients: 0, others: 0, budget: usize::MAX, reported: 0, listed: false, full: None }
    }
}

impl Account {
    fn bytes(&self) -> usize {
        self.clients + self.others
    }

    fn due(&self) -> bool {
        !self.listed && self.bytes().abs_diff(self.reported) >= ACCOUNT_STEP_BYTES
    }

    fn report(&mut self, broker: BrokerId) -> Usage {
        self.listed = false;
        self.reported = self.bytes();
        Usage { broker, bytes: self.reported, budget: self.budget }
    }

    /// What the accountant must hear when the broker leaves the worker.
    pub(super) fn close(&self, broker: BrokerId) -> Option<Usage> {
        (self.reported > 0).then_some(Usage { broker, bytes: 0, budget: self.budget })
    }

    /// A connection with that many bytes is gone.
    pub(super) fn gone(&mut self, bytes: usize) {
        self.clients = self.clients.saturating_sub(bytes);
    }
}
