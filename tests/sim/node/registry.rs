//! What a node knows of its own connections' claims: the decisions of `claims::registry`, without its bells.

use std::collections::{BTreeMap, BTreeSet};

use rookery_cluster::control::{Notice, NoticeKind};
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, SessionGrant};
use rookery_cluster::ids::{Epoch, NodeLife, Nonce, WorkerId};
use rookery_cluster::sessions::{ClaimKey, Claimant, Refusal};

#[derive(Default)]
pub struct Registry {
    life: Option<NodeLife>,
    entries: BTreeMap<Nonce, Entry>,
    releasing: BTreeSet<(Claimant, Epoch)>,
}

struct Entry {
    key: ClaimKey,
    by: Claimant,
    worker: WorkerId,
    standing: Standing,
}

#[derive(Clone, Copy)]
enum Standing {
    Asking { gone: bool },
    Holds(Epoch),
}

#[derive(Clone, Debug)]
pub enum Act {
    Post(WorkerId, ClaimEvent),
    Release(ClaimKey, Claimant, Epoch),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    Yes,
    Gone,
    Settled,
}

impl Registry {
    /// Whether the claim is to be proposed.
    pub fn begin(&mut self, key: ClaimKey, by: Claimant, worker: WorkerId) -> bool {
        let known = self.entries.contains_key(&by.nonce);
        if !known {
            self.entries.insert(by.nonce, Entry { key, by, worker, standing: Standing::Asking { gone: false } });
        }
        !known
    }

    pub fn asking(&self, by: Claimant) -> Asking {
        match self.entries.get(&by.nonce) {
            Some(Entry { by: it, standing: Standing::Asking { gone }, .. }) if *it == by => {
                if *gone {
                    Asking::Gone
                } else {
                    Asking::Yes
                }
            }
            _ => Asking::Settled,
        }
    }

    pub fn notice(&mut self, notice: Notice) -> Vec<Act> {
        if self.life != Some(notice.to.life) {
            return Vec::new();
        }
        match notice.kind {
            NoticeKind::Granted { epoch, session } => self.granted(notice.key, notice.to, epoch, session),
            NoticeKind::Discard { .. } => Vec::new(),
            NoticeKind::Revoked { epoch } => self.revoked(notice.key, notice.to, epoch),
            NoticeKind::Refused(why) => self.refused(notice.to, refusal(why)),
        }
    }

    pub fn granted(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch, session: Option<SessionGrant>) -> Vec<Act> {
        match self.entries.get_mut(&by.nonce).filter(|e| e.by == by) {
            Some(Entry { standing: Standing::Holds(_), .. }) => Vec::new(),
            Some(entry) if matches!(entry.standing, Standing::Asking { gone: false }) => {
                entry.standing = Standing::Holds(epoch);
                let ClaimKey { broker, client } = key;
                let event = ClaimEvent::Granted { broker, client, nonce: by.nonce, epoch, session };
                vec![Act::Post(entry.worker, event)]
            }
            _ => {
                self.remove(by);
                self.start_release(key, by, epoch)
            }
        }
    }

    fn revoked(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Vec<Act> {
        let entry = self.entries.get(&by.nonce).filter(|e| e.by == by);
        if let Some(Entry { worker, standing: Standing::Holds(held), .. }) = entry
            && *held == epoch
        {
            let ClaimKey { broker, client } = key;
            return vec![Act::Post(*worker, ClaimEvent::Revoked { broker, client, nonce: by.nonce, epoch })];
        }
        // Its grant was not heard of: it never served, and must not begin to.
        let mut acts = self.refused(by, ClaimRefusal::Superseded);
        acts.extend(self.start_release(key, by, epoch));
        acts
    }

    pub fn refused(&mut self, by: Claimant, why: ClaimRefusal) -> Vec<Act> {
        match self.asking(by) {
            Asking::Settled => Vec::new(),
            Asking::Gone => {
                self.remove(by);
                Vec::new()
            }
            Asking::Yes => {
                let Some(Entry { key: ClaimKey { broker, client }, worker, .. }) = self.remove(by) else {
                    return Vec::new();
                };
                vec![Act::Post(worker, ClaimEvent::Refused { broker, client, nonce: by.nonce, why })]
            }
        }
    }

    pub fn release(&mut self, key: ClaimKey, nonce: Nonce, epoch: Epoch) -> Vec<Act> {
        let Some(by) = self.entries.get(&nonce).map(|e| e.by) else { return Vec::new() };
        self.remove(by);
        self.start_release(key, by, epoch)
    }

    pub fn abandon(&mut self, key: &ClaimKey, nonce: Nonce) -> Vec<Act> {
        let Some(entry) = self.entries.get_mut(&nonce).filter(|e| e.key == *key) else { return Vec::new() };
        let by = entry.by;
        match &mut entry.standing {
            Standing::Asking { gone } => {
                *gone = true;
                Vec::new()
            }
            Standing::Holds(epoch) => {
                let epoch = *epoch;
                self.remove(by);
                self.start_release(key.clone(), by, epoch)
            }
        }
    }

    pub fn keep_only(&mut self, life: Option<NodeLife>) -> Vec<Act> {
        self.life = life;
        let void: Vec<Claimant> = self.entries.values().map(|e| e.by).filter(|by| Some(by.life) != life).collect();
        void.into_iter()
            .flat_map(|by| {
                let acts = self.refused(by, ClaimRefusal::Unavailable);
                self.remove(by);
                acts
            })
            .collect()
    }

    pub fn released(&mut self, by: Claimant, epoch: Epoch) {
        self.releasing.remove(&(by, epoch));
    }

    fn start_release(&mut self, key: ClaimKey, by: Claimant, epoch: Epoch) -> Vec<Act> {
        if !self.releasing.insert((by, epoch)) {
            return Vec::new();
        }
        vec![Act::Release(key, by, epoch)]
    }

    fn remove(&mut self, by: Claimant) -> Option<Entry> {
        if self.entries.get(&by.nonce)?.by != by {
            return None;
        }
        self.entries.remove(&by.nonce)
    }
}

pub fn refusal(why: Refusal) -> ClaimRefusal {
    match why {
        Refusal::Superseded => ClaimRefusal::Superseded,
        Refusal::TooFast => ClaimRefusal::TooFast,
        Refusal::Expired => ClaimRefusal::Unavailable,
        Refusal::Full => ClaimRefusal::Full,
    }
}
