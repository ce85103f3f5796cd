//! What this node knows of its own connections' claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;

use super::MIN_WAITING;
use super::streams::Haste;
use crate::control::{Notice, NoticeKind};
use crate::handle::{ClaimEvent, ClaimRefusal, Leave, SessionGrant};
use crate::ids::{BrokerId, Epoch, NodeLife, Nonce, WorkerId};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// The connections that wait for or hold a claim, by nonce, which is unique in the node's life.
pub(super) struct Registry {
    life: Option<NodeLife>,
    entries: BTreeMap<Nonce, Entry>,
    waiting: usize,
    /// Those by broker; none is 0.
    waiting_of: BTreeMap<BrokerId, usize>,
    max_waiting: usize,
    /// Releases on their way, so that a revocation that comes again does not start another.
    releasing: BTreeSet<(Claimant, Epoch)>,
    max_releasing: usize,
}

struct Entry {
    key: ClaimKey,
    by: Claimant,
    worker: WorkerId,
    standing: Standing,
}

enum Standing {
    /// Not answered yet. `gone`: its connection closed in the meantime.
    Asking { wake: Arc<Notify>, gone: bool },
    /// Serves under this epoch. `wanted`: somebody waits for the client.
    Holds { epoch: Epoch, wanted: bool },
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Tell a worker.
    Post(WorkerId, ClaimEvent),
    /// Release what nobody serves.
    Release(Ending),
    /// Both.
    Both(WorkerId, ClaimEvent, Ending),
    /// Somebody waits for the release of this client, which is on its way.
    Hurry(ClaimKey),
    /// A release found no room.
    Dropped,
}

/// A claim that is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) key: ClaimKey,
    pub(super) by: Claimant,
    pub(super) epoch: Epoch,
    pub(super) leave: Leave,
    pub(super) haste: Haste,
}

impl Ending {
    /// One for which somebody may wait.
    fn at_once(key: ClaimKey, by: Claimant, epoch: Epoch, leave: Leave) -> Self {
        Self { key, by, epoch, leave, haste: Haste::Now }
    }
}

/// How a claim begins.
pub(super) enum Begin {
    /// Propose it; the bell rings when something about it has changed.
    Ask(Arc<Notify>),
    /// The same connection has claimed before.
    Known,
    /// Too many wait.
    Full,
}

/// How an unanswered claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Its connection waits.
    Yes,
    /// Its connection is gone.
    Gone,
    /// It was answered.
    Settled,
}

impl Registry {
    pub(super) fn new(max_waiting: usize, max_releasing: usize) -> Self {
        let (entries, waiting_of, releasing) = Default::default();
        Self { life: None, entries, waiting: 0, waiting_of, max_waiting, releasing, max_releasing }
    }

    pub(super) fn begin(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId) -> Begin {
        if self.entries.contains_key(&by.nonce) {
            return Begin::Known;
        }
        let left = self.max_waiting.saturating_sub(self.waiting).max(MIN_WAITING);
        if self.waiting_of.get(&key.broker).is_some_and(|waiting| *waiting >= left) {
            return Begin::Full;
        }
        let wake = Arc::new(Notify::new());
        let standing = Standing::Asking { wake: wake.clone(), gone: false };
        self.waiting += 1;
        *self.waiting_of.entry(key.broker).or_default() += 1;
        self.entries.insert(by.nonce, Entry { key, by, worker, standing });
        Begin::Ask(wake)
    }

    pub(super) fn asking(&self, by: Claimant) -> Asking {
        match self.entries.get(&by.nonce) {
            Some(Entry { by: it, standing: Standing::Asking { gone, .. }, .. }) if *it == by => {
                if *gone {
                    Asking::Gone
                } else {
                    Asking::Yes
                }
            }
            _ => Asking::Settled,
        }
    }

    /// The shard's leader sent `notice`.
    pub(super) fn notice(&mut self, notice: Notice) -> Option<Act> {
        if self.life != Some(notice.to.life) {
            // Of an earlier life: free by comparison (R3), so there is nothing to release.
            return None;
        }
        match notice.kind {
            NoticeKind::Granted { epoch, session } => self.granted(notice.key, notice.to, epoch, session),
            NoticeKind::Revoked { epoch } => self.revoked(notice.key, notice.to, epoch),
            NoticeKind::Refused(why) => self.refused(notice.to, refusal(why)),
            NoticeKind::Discard { session, worker } => {
                let ClaimKey { broker, client } = notice.key;
                Some(Act::Post(worker, ClaimEvent::Discard { broker, client, session }))
            }
        }
    }

    pub(super) fn granted(
        &mut self,
        key: ClaimKey,
        by: Claimant,
        epoch: Epoch,
        session: Option<SessionGrant>,
    ) -> Option<Act> {
        match self.entries.get_mut(&by.nonce).filter(|e| e.by == by) {
            Some(Entry { standing: Standing::Holds { .. }, .. }) => None,
            Some(entry) if !ring(entry) => {
                entry.standing = Standing::Holds { epoch, wanted: false };
                let worker = entry.worker;
                self.answered(key.broker);
                let ClaimKey { broker, client } = key;
                let event = ClaimEvent::Granted { broker, client, nonce: by.nonce, epoch, session };
                Some(Act::Post(worker, event))
            }
            _ => {
                self.remove(by);
                self.start_release(Ending::at_once(key, by, epoch, Leave::untouched(session)))
            }
        }
    }

    fn revoked(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Option<Act> {
        let entry = self.entries.get_mut(&by.nonce).filter(|e| e.by == by);
        if let Some(Entry { worker, standing: Standing::Holds { epoch: held, wanted }, .. }) = entry
            && *held == epoch
        {
            *wanted = true;
            let ClaimKey { broker, client } = key;
            return Some(Act::Post(*worker, ClaimEvent::Revoked { broker, client, nonce: by.nonce, epoch }));
        }
        // Its grant was not heard of: it never served, and must not begin to.
        let refused = self.refused(by, ClaimRefusal::Superseded);
        match (refused, self.start_release(Ending::at_once(key, by, epoch, Leave::NEVER_SERVED))) {
            (Some(Act::Post(worker, event)), Some(Act::Release(ending))) => Some(Act::Both(worker, event, ending)),
            (Some(post), _) => Some(post),
            (None, release) => release,
        }
    }

    pub(super) fn refused(&mut self, by: Claimant, why: ClaimRefusal) -> Option<Act> {
        match self.asking(by) {
            Asking::Settled => None,
            Asking::Gone => {
                self.remove(by);
                None
            }
            Asking::Yes => {
                let Entry { key: ClaimKey { broker, client }, worker, .. } = self.remove(by)?;
                Some(Act::Post(worker, ClaimEvent::Refused { broker, client, nonce: by.nonce, why }))
            }
        }
    }

    pub(super) fn release(&mut self, key: ClaimKey, nonce: Nonce, epoch: Epoch, leave: Leave) -> Option<Act> {
        let Entry { by, standing, .. } = self.entries.get(&nonce)?;
        let (by, wanted) = (*by, matches!(standing, Standing::Holds { wanted: true, .. }));
        self.remove(by);
        // The end of a session that leaves nothing behind.
        let lazy = leave == Leave::default() && !wanted;
        self.start_release(Ending { key, by, epoch, leave, haste: if lazy { Haste::Lazy } else { Haste::Now } })
    }

    /// Who holds the claim of the connection `nonce`, and on which worker.
    pub(super) fn holder(&self, nonce: Nonce) -> Option<(Claimant, WorkerId)> {
        self.entries.get(&nonce).map(|entry| (entry.by, entry.worker))
    }

    pub(super) fn abandon(&mut self, key: &ClaimKey, nonce: Nonce) -> Option<Act> {
        let entry = self.entries.get_mut(&nonce).filter(|e| e.key == *key)?;
        match &mut entry.standing {
            Standing::Asking { wake, gone } => {
                *gone = true;
                wake.notify_one();
                None
            }
            Standing::Holds { epoch, .. } => {
                let (by, epoch) = (entry.by, *epoch);
                self.remove(by);
                // Whoever abandons has not heard of the grant.
                self.start_release(Ending::at_once(key.clone(), by, epoch, Leave::NEVER_SERVED))
            }
        }
    }

    /// This node's life is now `life`: the claims of another are void.
    pub(super) fn keep_only(&mut self, life: Option<NodeLife>) -> Vec<Act> {
        self.life = life;
        let void: Vec<Claimant> = self.entries.values().map(|e| e.by).filter(|by| Some(by.life) != life).collect();
        void.into_iter()
            .filter_map(|by| {
                let act = self.refused(by, ClaimRefusal::Unavailable);
                self.remove(by);
                act
            })
            .collect()
    }

    pub(super) fn released(&mut self, by: Claimant, epoch: Epoch) {
        self.releasing.remove(&(by, epoch));
    }

    /// How many hold, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.entries.len() - self.waiting, self.waiting)
    }

    /// If it is on its way already, that is hurried: who comes with it a second time knows of somebody who waits.
    fn start_release(&mut self, ending: Ending) -> Option<Act> {
        let Ending { by, epoch, .. } = ending;
        if self.releasing.contains(&(by, epoch)) {
            return Some(Act::Hurry(ending.key));
        }
        if self.releasing.len() >= self.max_releasing {
            return Some(Act::Dropped);
        }
        self.releasing.insert((by, epoch));
        Some(Act::Release(ending))
    }

    fn remove(&mut self, by: Claimant) -> Option<Entry> {
        if self.entries.get(&by.nonce)?.by != by {
            return None;
        }
        let entry = self.entries.remove(&by.nonce)?;
        if let Standing::Asking { wake, .. } = &entry.standing {
            wake.notify_one();
            self.answered(entry.key.broker);
        }
        Some(entry)
    }

    /// One that waited does so no more.
    fn answered(&mut self, broker: BrokerId) {
        self.waiting -= 1;
        if let Some(waiting) = self.waiting_of.get_mut(&broker) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting_of.remove(&broker);
            }
        }
    }
}

/// Wakes who pursues an unanswered claim; says whether its connection is gone.
fn ring(entry: &Entry) -> bool {
    match &entry.standing {
        Standing::Asking { wake, gone } => {
            wake.notify_one();
            *gone
        }
        Standing::Holds { .. } => false,
    }
}

/// The shard's refusal as a worker is told of it.
pub(super) fn refusal(why: Refusal) -> ClaimRefusal {
    match why {
        Refusal::Superseded => ClaimRefusal::Superseded,
        Refusal::TooFast => ClaimRefusal::TooFast,
        Refusal::Expired => ClaimRefusal::Unavailable,
        Refusal::Full => ClaimRefusal::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeId};

    fn begin(registry: &mut Registry, broker: u128, nonce: u64) -> Begin {
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let key = ClaimKey { broker: BrokerId(broker), client: format!("c{nonce}").as_str().into() };
        registry.begin(key, Claimant { life, nonce: Nonce(nonce) }, WorkerId(0))
    }

    #[test]
    fn a_broker_whose_clients_wait_in_masses_leaves_room_for_others() {
        let mut registry = Registry::new(1000, 10);
        let mut nonces = 0..;
        let mut flood = |registry: &mut Registry, broker| {
            let mut began = 0;
            while let Begin::Ask(_) = begin(registry, broker, nonces.next().expect("endless")) {
                began += 1;
            }
            began
        };
        assert_eq!(flood(&mut registry, 1), 500);
        assert_eq!(flood(&mut registry, 2), 250);
        for broker in 3..10 {
            assert!(flood(&mut registry, broker) >= MIN_WAITING);
        }
        assert!(registry.counts().1 <= 1000 + 8 * MIN_WAITING);
        let all: Vec<Claimant> = registry.entries.values().map(|entry| entry.by).collect();
        all.into_iter().for_each(|by| drop(registry.remove(by)));
        assert_eq!((registry.counts(), registry.waiting_of.len()), ((0, 0), 0));
    }
}
