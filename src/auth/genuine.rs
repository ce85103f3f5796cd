//! Whether a signature is genuine. A key that has signed a few tokens gets a table of its multiples: with it a check takes half
//! the time.

use std::collections::HashMap;
use std::sync::Arc;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsBasepointTable, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::BasepointTable;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use parking_lot::Mutex;

/// Keys remembered in each of two generations; a table takes 30 KiB.
const KEYS: usize = 64;
/// Signatures of a key that are checked before its table is made: that takes as long as it saves in so many.
const USES: u32 = 48;

/// The public keys that signatures were checked with lately.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<[u8; 32], Known>,
    old: HashMap<[u8; 32], Known>,
}

#[derive(Clone, Debug)]
enum Known {
    /// Used so often.
    Key(VerifyingKey, u32),
    Table(Arc<Table>),
}

/// A public key A, and the multiples of -A.
struct Table {
    key: [u8; 32],
    multiples: EdwardsBasepointTable,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Keys {
    /// Whether `signature` is that of `message` by `key` (RFC 8032 §5.1.7, without the cofactor).
    pub(super) fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        match self.known(key) {
            Some(Known::Table(table)) => table.verify(message, signature),
            Some(Known::Key(key, _)) => key.verify(message, &Signature::from_bytes(signature)).is_ok(),
            None => false,
        }
    }

    /// `None` if it is no key.
    fn known(&self, key: &[u8; 32]) -> Option<Known> {
        let mut generations = self.0.lock();
        let known = match generations.young.remove(key).or_else(|| generations.old.remove(key)) {
            Some(Known::Key(known, uses)) if uses >= USES => Known::Table(Arc::new(Table::new(&known)?)),
            Some(Known::Key(known, uses)) => Known::Key(known, uses + 1),
            Some(table) => table,
            None => Known::Key(VerifyingKey::from_bytes(key).ok()?, 1),
        };
        if generations.young.len() >= KEYS {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(*key, known.clone());
        Some(known)
    }
}

impl Table {
    fn new(key: &VerifyingKey) -> Option<Self> {
        let key = key.to_bytes();
        let point = CompressedEdwardsY(key).decompress()?;
        Some(Self { key, multiples: EdwardsBasepointTable::create(&-point) })
    }

    /// As `VerifyingKey::verify` does it: R is sB - kA, compared as it is written, and s below the order of the group.
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (r, s) = signature.split_at(32);
        let Ok(s) = s.try_into() else { return false };
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else { return false };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA512);
        [r, &self.key, message].into_iter().for_each(|part| hash.update(part));
        let Ok(k) = hash.finish().as_ref().try_into() else { return false };
        let k = Scalar::from_bytes_mod_order_wide(&k);
        let expected = &self.multiples * &k + EdwardsPoint::mul_base(&s);
        expected.compress().as_bytes() == r
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;

    fn table(key: &SigningKey) -> Table {
        Table::new(&key.verifying_key()).unwrap()
    }

    #[test]
    fn keys_get_tables_and_are_forgotten() {
        let keys = Keys::default();
        let is_table = |key: &SigningKey| {
            let all = keys.0.lock();
            let public = key.verifying_key().to_bytes();
            all.young.get(&public).or_else(|| all.old.get(&public)).map(|known| matches!(known, Known::Table(_)))
        };
        let key = SigningKey::from_bytes(&[1; 32]);
        let (public, signature) = (key.verifying_key().to_bytes(), key.sign(b"m").to_bytes());
        for _ in 0..USES {
            assert!(keys.verify(&public, b"m", &signature) && !keys.verify(&[2; 32], b"m", &signature));
        }
        assert_eq!(is_table(&key), Some(false));
        assert!(keys.verify(&public, b"m", &signature) && !keys.verify(&public, b"n", &signature));
        assert_eq!(is_table(&key), Some(true));
        for n in 0..=255 {
            let other = SigningKey::from_bytes(&[n; 32]);
            assert!(keys.verify(&other.verifying_key().to_bytes(), b"m", &other.sign(b"m").to_bytes()));
            let all = keys.0.lock();
            assert!(all.young.len() <= KEYS && all.old.len() <= KEYS);
        }
        assert_eq!(is_table(&key), None, "not used for long");
    }

    #[test]
    fn a_scalar_that_is_not_reduced_is_refused() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let mut signature = key.sign(b"m").to_bytes();
        assert!(table(&key).verify(b"m", &signature));
        // The order of the group, little-endian, added to s.
        let order: [u8; 16] =
            [0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14];
        let mut carry = 0_u16;
        for at in 0..32 {
            let addend = order.get(at).copied().unwrap_or(if at == 31 { 0x10 } else { 0 });
            let sum = u16::from(signature[32 + at]) + u16::from(addend) + carry;
            (signature[32 + at], carry) = (sum as u8, sum >> 8);
        }
        assert!(!table(&key).verify(b"m", &signature));
        assert!(key.verifying_key().verify(b"m", &Signature::from_bytes(&signature)).is_err());
    }

    proptest! {
        #[test]
        fn a_table_decides_as_the_libraries_do(seed: [u8; 32], message: Vec<u8>, byte in 0_usize..64, bit in 0_u8..9) {
            let key = SigningKey::from_bytes(&seed);
            let mut signature = key.sign(&message).to_bytes();
            if bit < 8 {
                signature[byte] ^= 1 << bit;
            }
            let public = key.verifying_key();
            let by_dalek = public.verify(&message, &Signature::from_bytes(&signature)).is_ok();
            let ring_key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public.to_bytes());
            let by_ring = ring_key.verify(&message, &signature).is_ok();
            let by_table = table(&key).verify(&message, &signature);
            prop_assert_eq!((by_table, by_table), (by_dalek, by_ring));
            prop_assert_eq!(by_table, bit == 8);
        }
    }
}
