//! Tokens whose signature was found genuine, by their SHA-256. What can change (key, revocation, expiry) is never
//! taken from here.

use std::collections::HashMap;
use std::sync::Arc;

use rookery_cluster::clock::UnixMillis;

use super::admits::Verified;

/// Tokens remembered in each of two generations: about 8 MiB together at most with usual claims.
pub(super) const GENERATION: usize = 16_384;

/// What is known of a token for good.
#[derive(Debug)]
pub(super) struct Genuine {
    pub(super) verified: Verified,
    pub(super) not_before: Option<UnixMillis>,
}

/// Two generations: when the young one is full, it becomes the old one, and the old one is forgotten. What is asked
/// for stays, at no bookkeeping per use.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<[u8; 32], Arc<Genuine>>,
    old: HashMap<[u8; 32], Arc<Genuine>>,
}

impl Cache {
    pub(super) fn get(&mut self, hash: &[u8; 32]) -> Option<Arc<Genuine>> {
        if let Some(genuine) = self.young.get(hash) {
            return Some(genuine.clone());
        }
        let genuine = self.old.remove(hash)?;
        self.insert(*hash, genuine.clone());
        Some(genuine)
    }

    pub(super) fn insert(&mut self, hash: [u8; 32], genuine: Arc<Genuine>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, genuine);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
