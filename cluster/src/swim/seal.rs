//! Sealing of datagrams: key id (1 byte), nonce (12 random bytes), ChaCha20-Poly1305 (RFC 8439) of the
//! content, with its tag (16).
//!
//! A recorded datagram can be sent again by anyone, and harms nothing: what it says is ordered by lives,
//! renewals and SWIM's own incarnations, so that old news lose, and nothing is decided on its word.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::rng::Rng;

/// What sealing adds, bytes.
pub const SEAL_OVERHEAD: usize = 1 + NONCE_LEN + 16;
const HEAD: usize = 1 + NONCE_LEN;

/// The cluster's keys: one seals, all open, so that keys can be exchanged while nodes run.
pub struct Keyring {
    sealing: (u8, LessSafeKey),
    older: Vec<(u8, LessSafeKey)>,
}

impl Keyring {
    /// Seals with `key`, known as `id`.
    pub fn new(id: u8, key: &[u8; 32]) -> Self {
        Self { sealing: (id, aead(key)), older: Vec::new() }
    }

    /// Opens what was sealed with this one too.
    pub fn and_opens(mut self, id: u8, key: &[u8; 32]) -> Self {
        self.older.push((id, aead(key)));
        self
    }

    pub(super) fn seal(&self, content: &[u8], rng: &dyn Rng) -> Option<Vec<u8>> {
        let (id, key) = &self.sealing;
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(SEAL_OVERHEAD + content.len());
        sealed.push(*id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(content);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from([*id]), &mut sealed[HEAD..]).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// The content, if one of the keys made it.
    pub(super) fn open<'a>(&self, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, content) = sealed.split_at_mut_checked(HEAD)?;
        let keys = self.older.iter().chain([&self.sealing]);
        let (id, key) = keys.into_iter().find(|(id, _)| *id == head[0])?;
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).ok()?;
        key.open_in_place(nonce, Aad::from([*id]), content).ok().map(|content| &*content)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("sealing", &self.sealing.0).finish_non_exhaustive()
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the algorithm's length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    #[test]
    fn only_a_key_of_the_ring_opens() {
        let ours = Keyring::new(2, &[2; 32]).and_opens(1, &[1; 32]);
        let sealed = ours.seal(b"news", &SystemRng).unwrap();
        assert_eq!(sealed.len(), 4 + SEAL_OVERHEAD);
        assert_eq!(ours.open(&mut sealed.clone()), Some(&b"news"[..]));
        let old = Keyring::new(1, &[1; 32]);
        assert_eq!(ours.open(&mut old.seal(b"old", &SystemRng).unwrap()), Some(&b"old"[..]));
        assert_eq!(old.open(&mut sealed.clone()), None);
        assert_eq!(Keyring::new(2, &[9; 32]).open(&mut sealed.clone()), None);
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let keys = Keyring::new(1, &[1; 32]);
        let sealed = keys.seal(b"news", &SystemRng).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open(&mut changed), None, "byte {at}");
            assert_eq!(keys.open(&mut sealed.clone()[..at]), None, "cut at {at}");
        }
    }
}
