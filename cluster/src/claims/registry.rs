//! What this node knows of its own connections' claims, and what it does about what it hears of them. PURE.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::{Notice, NoticeKind};
use crate::handle::{ClaimEvent, ClaimRefusal, Leave, SessionGrant};
use crate::ids::{BrokerId, Epoch, NodeLife, Nonce, WorkerId};
use crate::sessions::{ClaimKey, Claimant, Refusal};

/// How soon a proposal is to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// As soon as what was handed over before has its outcome.
    Now,
    /// With the next one that is in haste, or after a moment: nobody waits for it.
    Lazy,
}

/// Connections of one broker that may wait in any case.
pub const MIN_WAITING: usize = 64;

/// Wakes whoever pursues an unanswered claim.
pub trait Bell {
    /// Something about the claim has changed.
    fn ring(&self);
}

/// Of who looks by itself.
impl Bell for () {
    fn ring(&self) {}
}

/// The connections that wait for or hold a claim, by nonce, which is unique in the node's life.
pub struct Registry<B> {
    life: Option<NodeLife>,
    entries: BTreeMap<Nonce, Entry<B>>,
    waiting: usize,
    /// Those by broker; none is 0.
    waiting_of: BTreeMap<BrokerId, usize>,
    max_waiting: usize,
    /// Releases on their way, so that a revocation that comes again does not start another.
    releasing: BTreeSet<(Claimant, Epoch)>,
    max_releasing: usize,
}

struct Entry<B> {
    key: ClaimKey,
    by: Claimant,
    worker: WorkerId,
    standing: Standing<B>,
}

enum Standing<B> {
    /// Not answered yet. `gone`: its connection closed in the meantime.
    Asking { bell: B, gone: bool },
    /// Serves under this epoch. `wanted`: somebody waits for the client.
    Holds { epoch: Epoch, wanted: bool },
}

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
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
pub struct Ending {
    /// The client.
    pub key: ClaimKey,
    /// The connection.
    pub by: Claimant,
    /// What it was granted.
    pub epoch: Epoch,
    /// What it leaves behind.
    pub leave: Leave,
    /// Whether somebody may wait for it.
    pub haste: Haste,
}

impl Ending {
    /// One for which somebody may wait.
    fn at_once(key: ClaimKey, by: Claimant, epoch: Epoch, leave: Leave) -> Self {
        Self { key, by, epoch, leave, haste: Haste::Now }
    }
}

/// How a claim begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Propose it; its bell rings when something about it has changed.
    Ask,
    /// The same connection has claimed before.
    Known,
    /// Too many wait.
    Full,
}

/// How an unanswered claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Its connection waits.
    Yes,
    /// Its connection is gone.
    Gone,
    /// It was answered.
    Settled,
}

impl<B: Bell> Registry<B> {
    /// Nobody claims anything yet. At most `max_waiting` connections wait at one time (but for [`MIN_WAITING`] of each
    /// broker), and at most `max_releasing` releases are on their way.
    pub fn new(max_waiting: usize, max_releasing: usize) -> Self {
        let (entries, waiting_of, releasing) = Default::default();
        Self { life: None, entries, waiting: 0, waiting_of, max_waiting, releasing, max_releasing }
    }

    /// The connection `by` of `worker` wants to be the one that serves `key`.
    pub fn begin(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId, bell: B) -> Begin {
        if self.entries.contains_key(&by.nonce) {
            return Begin::Known;
        }
        let left = self.max_waiting.saturating_sub(self.waiting).max(MIN_WAITING);
        if self.waiting_of.get(&key.broker).is_some_and(|waiting| *waiting >= left) {
            return Begin::Full;
        }
        let standing = Standing::Asking { bell, gone: false };
        self.waiting += 1;
        *self.waiting_of.entry(key.broker).or_default() += 1;
        self.entries.insert(by.nonce, Entry { key, by, worker, standing });
        Begin::Ask
    }

    /// How the claim of `by` stands.
    pub fn asking(&self, by: Claimant) -> Asking {
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
    pub fn notice(&mut self, notice: Notice) -> Option<Act> {
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

    /// The shard granted `by` its claim.
    pub fn granted(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch, session: Option<SessionGrant>) -> Option<Act> {
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

    /// `by` does not get its claim.
    pub fn refused(&mut self, by: Claimant, why: ClaimRefusal) -> Option<Act> {
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

    /// The connection serves no more.
    pub fn release(&mut self, key: ClaimKey, nonce: Nonce, epoch: Epoch, leave: Leave) -> Option<Act> {
        let Entry { by, standing, .. } = self.entries.get(&nonce)?;
        let (by, wanted) = (*by, matches!(standing, Standing::Holds { wanted: true, .. }));
        self.remove(by);
        // The end of a session that leaves nothing behind.
        let lazy = leave == Leave::default() && !wanted;
        self.start_release(Ending { key, by, epoch, leave, haste: if lazy { Haste::Lazy } else { Haste::Now } })
    }

    /// Who holds the claim of the connection `nonce`, and on which worker.
    pub fn holder(&self, nonce: Nonce) -> Option<(Claimant, WorkerId)> {
        self.entries.get(&nonce).map(|entry| (entry.by, entry.worker))
    }

    /// The connection is gone, and does not know of a grant.
    pub fn abandon(&mut self, key: &ClaimKey, nonce: Nonce) -> Option<Act> {
        let entry = self.entries.get_mut(&nonce).filter(|e| e.key == *key)?;
        match &mut entry.standing {
            Standing::Asking { bell, gone } => {
                *gone = true;
                bell.ring();
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
    pub fn keep_only(&mut self, life: Option<NodeLife>) -> Vec<Act> {
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

    /// A release is committed, or given up.
    pub fn released(&mut self, by: Claimant, epoch: Epoch) {
        self.releasing.remove(&(by, epoch));
    }

    /// How many hold, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
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

    fn remove(&mut self, by: Claimant) -> Option<Entry<B>> {
        if self.entries.get(&by.nonce)?.by != by {
            return None;
        }
        let entry = self.entries.remove(&by.nonce)?;
        if let Standing::Asking { bell, .. } = &entry.standing {
            bell.ring();
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
fn ring<B: Bell>(entry: &Entry<B>) -> bool {
    match &entry.standing {
        Standing::Asking { bell, gone } => {
            bell.ring();
            *gone
        }
        Standing::Holds { .. } => false,
    }
}

/// The shard's refusal as a worker is told of it.
pub fn refusal(why: Refusal) -> ClaimRefusal {
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

    fn begin(registry: &mut Registry<()>, broker: u128, nonce: u64) -> Begin {
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let key = ClaimKey { broker: BrokerId(broker), client: format!("c{nonce}").as_str().into() };
        registry.begin(key, Claimant { life, nonce: Nonce(nonce) }, WorkerId(0), ())
    }

    #[test]
    fn a_broker_whose_clients_wait_in_masses_leaves_room_for_others() {
        let mut registry = Registry::new(1000, 10);
        let mut nonces = 0..;
        let mut flood = |registry: &mut Registry<()>, broker| {
            let mut began = 0;
            while begin(registry, broker, nonces.next().expect("endless")) == Begin::Ask {
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
