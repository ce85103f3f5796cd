//! What changed lately, so that a reader need not compare two views. In memory only: not part of a snapshot.

use imbl::OrdMap;

use super::state::State;
use crate::ids::{AccountId, BrokerId, LogIndex, NamespaceId, NodeId, NodeLife, TokenId};

/// Changes remembered; a reader further behind looks at everything anew.
pub const JOURNAL_MEMORY: usize = 4096;

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The cluster's record, level or join tokens.
    Cluster,
    /// An account was made, changed or deleted.
    Account(AccountId),
    /// A namespace was made, changed or deleted.
    Namespace(NamespaceId),
    /// A broker was made or changed. If `restricts`, live connections must be looked at again (P2).
    Broker {
        /// Which.
        id: BrokerId,
        /// Whether something that was allowed may no longer be.
        restricts: bool,
    },
    /// A broker is gone with its keys and revocations.
    BrokerDeleted(BrokerId),
    /// A token of the API was made or revoked.
    Token(TokenId),
    /// A node was added, removed or registered anew.
    Node(NodeId),
    /// This life's lease has expired: its claims are free.
    LeaseExpired(NodeLife),
    /// Who should hold which group.
    Placement,
}

/// The last [`JOURNAL_MEMORY`] changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    entries: OrdMap<u64, (LogIndex, Change)>,
    next: u64,
    /// Changes at or below this index are no longer listed.
    floor: LogIndex,
}

impl Journal {
    pub(super) fn starting_at(floor: LogIndex) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(super) fn push(&mut self, index: LogIndex, change: Change) {
        self.entries.insert(self.next, (index, change));
        self.next += 1;
        if let Some(oldest) = self.next.checked_sub(1 + JOURNAL_MEMORY as u64)
            && let Some((index, _)) = self.entries.remove(&oldest)
        {
            self.floor = self.floor.max(index);
        }
    }

    fn since(&self, seen: LogIndex) -> Option<impl Iterator<Item = &Change> + '_> {
        (seen >= self.floor).then(|| {
            let newest_first = self.entries.values().rev();
            let newer: Vec<&Change> = newest_first.take_while(|(at, _)| *at > seen).map(|(_, c)| c).collect();
            newer.into_iter().rev()
        })
    }
}

impl State {
    /// What changed after a view whose [`State::applied`] was `seen`, in log order. `None`: that view is too old
    /// (or this replica was restored from a snapshot since), so anything may have changed.
    pub fn changes_since(&self, seen: LogIndex) -> Option<impl Iterator<Item = &Change> + '_> {
        self.journal.since(seen)
    }

    /// The brokers that were made, changed or deleted after a view of index `seen`; maybe some twice. `None` as
    /// for [`State::changes_since`].
    pub fn brokers_changed_since(&self, seen: LogIndex) -> Option<impl Iterator<Item = BrokerId> + '_> {
        let changes = self.changes_since(seen)?;
        Some(changes.filter_map(|change| match change {
            Change::Broker { id, .. } | Change::BrokerDeleted(id) => Some(*id),
            _ => None,
        }))
    }
}
