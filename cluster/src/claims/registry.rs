//! What this node knows of its own connections' claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::control::{Notice, NoticeKind};
use crate::handle::{ClaimEvent, ClaimRefusal};
use crate::ids::{Epoch, NodeLife, Nonce, WorkerId};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// The connections that wait for or hold a claim, by nonce, which is unique in the node's life.
pub(super) struct Registry {
    life: Option<NodeLife>,
    entries: BTreeMap<Nonce, Entry>,
    waiting: usize,
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
    /// Serves under this epoch.
    Holds(Epoch),
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Tell a worker.
    Post(WorkerId, ClaimEvent),
    /// Release what nobody serves.
    Release(ClaimKey, Claimant, Epoch),
    /// Both.
    Both(WorkerId, ClaimEvent, ClaimKey, Claimant, Epoch),
    /// A release found no room.
    Dropped,
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
        let (entries, releasing) = Default::default();
        Self { life: None, entries, waiting: 0, max_waiting, releasing, max_releasing }
    }

    pub(super) fn begin(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId) -> Begin {
        if self.entries.contains_key(&by.nonce) {
            return Begin::Known;
        }
        if self.waiting >= self.max_waiting {
            return Begin::Full;
        }
        let wake = Arc::new(Notify::new());
        let standing = Standing::Asking { wake: wake.clone(), gone: false };
        self.entries.insert(by.nonce, Entry { key, by, worker, standing });
        self.waiting += 1;
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
            NoticeKind::Granted { epoch, session_present } => {
                self.granted(notice.key, notice.to, epoch, session_present)
            }
            NoticeKind::Revoked { epoch } => self.revoked(notice.key, notice.to, epoch),
            NoticeKind::Refused(why) => self.refused(notice.to, refusal(why)),
        }
    }

    pub(super) fn granted(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch, session_present: bool) -> Option<Act> {
        match self.entries.get_mut(&by.nonce).filter(|e| e.by == by) {
            Some(Entry { standing: Standing::Holds(_), .. }) => None,
            Some(entry) if !ring(entry) => {
                entry.standing = Standing::Holds(epoch);
                self.waiting -= 1;
                let ClaimKey { broker, client } = key;
                let event = ClaimEvent::Granted { broker, client, nonce: by.nonce, epoch, session_present };
                Some(Act::Post(entry.worker, event))
            }
            _ => {
                self.remove(by);
                self.start_release(key, by, epoch)
            }
        }
    }

    fn revoked(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Option<Act> {
        let entry = self.entries.get(&by.nonce).filter(|e| e.by == by);
        if let Some(Entry { worker, standing: Standing::Holds(held), .. }) = entry
            && *held == epoch
        {
            let ClaimKey { broker, client } = key;
            return Some(Act::Post(*worker, ClaimEvent::Revoked { broker, client, nonce: by.nonce, epoch }));
        }
        // Its grant was not heard of: it never served, and must not begin to.
        let refused = self.refused(by, ClaimRefusal::Superseded);
        match (refused, self.start_release(key, by, epoch)) {
            (Some(Act::Post(worker, event)), Some(Act::Release(key, by, epoch))) => {
                Some(Act::Both(worker, event, key, by, epoch))
            }
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

    pub(super) fn release(&mut self, key: ClaimKey, nonce: Nonce, epoch: Epoch) -> Option<Act> {
        let by = self.entries.get(&nonce)?.by;
        self.remove(by);
        self.start_release(key, by, epoch)
    }

    pub(super) fn abandon(&mut self, key: &ClaimKey, nonce: Nonce) -> Option<Act> {
        let entry = self.entries.get_mut(&nonce).filter(|e| e.key == *key)?;
        match &mut entry.standing {
            Standing::Asking { wake, gone } => {
                *gone = true;
                wake.notify_one();
                None
            }
            Standing::Holds(epoch) => {
                let (by, epoch) = (entry.by, *epoch);
                self.remove(by);
                self.start_release(key.clone(), by, epoch)
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

    /// Nothing, if it is on its way already.
    fn start_release(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Option<Act> {
        if self.releasing.contains(&(by, epoch)) {
            return None;
        }
        if self.releasing.len() >= self.max_releasing {
            return Some(Act::Dropped);
        }
        self.releasing.insert((by, epoch));
        Some(Act::Release(key, by, epoch))
    }

    fn remove(&mut self, by: Claimant) -> Option<Entry> {
        if self.entries.get(&by.nonce)?.by != by {
            return None;
        }
        let entry = self.entries.remove(&by.nonce)?;
        if let Standing::Asking { wake, .. } = &entry.standing {
            wake.notify_one();
            self.waiting -= 1;
        }
        Some(entry)
    }
}

/// Wakes who pursues an unanswered claim; says whether its connection is gone.
fn ring(entry: &Entry) -> bool {
    match &entry.standing {
        Standing::Asking { wake, gone } => {
            wake.notify_one();
            *gone
        }
        Standing::Holds(_) => false,
    }
}

/// The shard's refusal as a worker is told of it.
pub(super) fn refusal(why: Refusal) -> ClaimRefusal {
    match why {
        Refusal::Superseded => ClaimRefusal::Superseded,
        Refusal::TooFast => ClaimRefusal::TooFast,
        Refusal::Expired => ClaimRefusal::Unavailable,
    }
}
