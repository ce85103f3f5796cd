//! Tokens whose signature was found genuine, by their SHA-256. What can change (key, revocation, times) is never
//! taken from here. That a token is looked up by its hash tells nobody who guesses one how near the guess came.

use std::collections::HashMap;
use std::sync::Arc;

use rookery_cluster::clock::UnixMillis;

use super::admits::Verified;

/// Tokens remembered in each of two generations.
pub(super) const GENERATION: usize = 16_384;
/// Bytes remembered in each of two generations; with usual claims [`GENERATION`] is reached before.
pub(super) const GENERATION_BYTES: usize = 8 << 20;
/// Bytes of a token besides its texts, about.
const OVERHEAD: usize = 256;

/// What is known of a token for good.
#[derive(Debug)]
pub(super) struct Genuine {
    pub(super) verified: Verified,
    pub(super) not_before: Option<UnixMillis>,
}

impl Genuine {
    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let Verified { client_id, jti, acl, .. } = &self.verified;
        OVERHEAD + client_id.len() + jti.len() + acl.bytes()
    }
}

/// Two generations: when the young one is full, it becomes the old one, and the old one is forgotten. What is asked
/// for stays, at no bookkeeping per use.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    tokens: HashMap<[u8; 32], Arc<Genuine>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&mut self, hash: &[u8; 32]) -> Option<Arc<Genuine>> {
        if let Some(genuine) = self.young.tokens.get(hash) {
            return Some(genuine.clone());
        }
        let genuine = self.old.remove(hash)?;
        self.insert(*hash, genuine.clone());
        Some(genuine)
    }

    pub(super) fn insert(&mut self, hash: [u8; 32], genuine: Arc<Genuine>) {
        if !self.young.has_room(&genuine) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, genuine);
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.young.tokens.len() + self.old.tokens.len(), self.young.bytes + self.old.bytes)
    }
}

impl Generation {
    fn has_room(&self, genuine: &Genuine) -> bool {
        self.tokens.len() < GENERATION && self.bytes + genuine.bytes() <= GENERATION_BYTES
    }

    fn insert(&mut self, hash: [u8; 32], genuine: Arc<Genuine>) {
        self.bytes += genuine.bytes();
        if let Some(before) = self.tokens.insert(hash, genuine) {
            self.bytes -= before.bytes();
        }
    }

    fn remove(&mut self, hash: &[u8; 32]) -> Option<Arc<Genuine>> {
        let genuine = self.tokens.remove(hash)?;
        self.bytes -= genuine.bytes();
        Some(genuine)
    }
}
