//! Claims whose connections ended and left nothing behind, and of whose end the shard is not told yet: if the same client
//! connects here again, it goes on with its claim, and nobody else needs to hear of it. PURE.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::Epoch;
use crate::sessions::{ClaimKey, Claimant};

/// How long a claim rests before it is given back. It is given back at once when somebody waits for it, so this only
/// bounds how much the shard keeps of who is gone.
pub const REST: Duration = Duration::from_millis(250);

/// A claim as the shard granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To which connection.
    pub by: Claimant,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// The claims that rest.
#[derive(Debug)]
pub struct Resting {
    most: usize,
    claims: BTreeMap<ClaimKey, (Moment, Grant)>,
    /// Since when they do, the oldest first.
    since: BTreeSet<(Moment, ClaimKey)>,
}

impl Resting {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { most, claims: BTreeMap::new(), since: BTreeSet::new() }
    }

    /// From now on `grant` rests; `false` if there is no room, or another claim of the client rests.
    pub fn put(&mut self, now: Moment, key: &ClaimKey, grant: Grant) -> bool {
        if self.claims.len() >= self.most || self.claims.contains_key(key) {
            return false;
        }
        self.claims.insert(key.clone(), (now, grant));
        self.since.insert((now, key.clone()));
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// Takes out what rests of `key`.
    pub fn take(&mut self, key: &ClaimKey) -> Option<Grant> {
        let (since, grant) = self.claims.remove(key)?;
        self.since.remove(&(since, key.clone()));
        Some(grant)
    }

    /// Whether what was granted to `by` rests.
    pub fn has(&self, key: &ClaimKey, by: Claimant) -> bool {
        self.claims.get(key).is_some_and(|(_, rests)| rests.by == by)
    }

    /// Takes `grant` out, if it rests.
    pub fn take_this(&mut self, key: &ClaimKey, grant: Grant) -> bool {
        self.claims.get(key).is_some_and(|(_, rests)| *rests == grant) && self.take(key).is_some()
    }

    /// Takes out what has rested for [`REST`].
    pub fn due(&mut self, now: Moment) -> Vec<(ClaimKey, Grant)> {
        let mut due = Vec::new();
        while let Some((since, key)) = self.since.first()
            && now.since(*since) >= REST
        {
            let key = key.clone();
            due.extend(self.take(&key).map(|grant| (key, grant)));
        }
        due
    }

    /// Forgets those of which `keep` is false.
    pub fn keep(&mut self, keep: impl Fn(&Grant) -> bool) {
        self.claims.retain(|_, (_, grant)| keep(grant));
        let claims = &self.claims;
        self.since.retain(|(_, key)| claims.contains_key(key));
    }
}
