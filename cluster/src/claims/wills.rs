//! Which wills this node, as the leader of their shards, has its workers publish (R16). PURE.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{Epoch, GroupId};
use crate::sessions::{ClaimKey, ShardView};

/// Wills of all shards led here that are being published at one time; the others wait in their shards.
const WILLS_IN_FLIGHT: usize = 1024;

/// Wills that this node publishes for the shards it leads.
#[derive(Debug, Default)]
pub struct Wills {
    last: u64,
    by_token: BTreeMap<u64, Name>,
    /// The same, to be found by what the shard knows them by.
    tokens: BTreeMap<Name, u64>,
    /// Those of which the shard was told that they are published.
    confirmed: BTreeSet<u64>,
}

/// What a shard knows a will by: the client, and under which epoch the connection served that left it.
pub type Name = (GroupId, ClaimKey, Epoch);

impl Wills {
    /// The wills of `group` that are to be published now, each with what it is known by here from now on. Forgets what the
    /// shard knows by now to be published.
    pub fn due(&mut self, group: GroupId, view: &ShardView) -> Vec<(u64, ClaimKey, Epoch)> {
        self.keep(|(of, key, epoch)| *of != group || view.firing.contains_key(&(key.clone(), *epoch)));
        let mut due = Vec::new();
        for (key, epoch) in view.firing.keys() {
            if self.in_flight() >= WILLS_IN_FLIGHT {
                break;
            }
            let name = (group, key.clone(), *epoch);
            if !self.tokens.contains_key(&name) {
                due.push((self.begin(name), key.clone(), *epoch));
            }
        }
        due
    }

    /// Forgets those of shards that are not led here any more: their leaders publish what is due there.
    pub fn keep_led(&mut self, led: impl Fn(GroupId) -> bool) {
        self.keep(|(of, ..)| led(*of));
    }

    /// What the shard knows the will by, if it is still being published here.
    pub fn name(&self, token: u64) -> Option<Name> {
        self.by_token.get(&token).cloned()
    }

    /// The shard has it that the will is published; it is remembered until the shard's view shows that.
    pub fn confirmed(&mut self, token: u64) {
        if self.by_token.contains_key(&token) {
            self.confirmed.insert(token);
        }
    }

    /// The will is not being published any more: it is due again, if the shard still says so.
    pub fn forget(&mut self, token: u64) {
        self.confirmed.remove(&token);
        if let Some(name) = self.by_token.remove(&token) {
            self.tokens.remove(&name);
        }
    }

    fn begin(&mut self, name: Name) -> u64 {
        self.last += 1;
        self.by_token.insert(self.last, name.clone());
        self.tokens.insert(name, self.last);
        self.last
    }

    /// How many are not confirmed yet.
    fn in_flight(&self) -> usize {
        self.by_token.len() - self.confirmed.len()
    }

    fn keep(&mut self, which: impl Fn(&Name) -> bool) {
        let gone: Vec<u64> = self.by_token.iter().filter(|(_, name)| !which(name)).map(|(token, _)| *token).collect();
        gone.into_iter().for_each(|token| self.forget(token));
    }
}
