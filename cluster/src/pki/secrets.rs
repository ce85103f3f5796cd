//! The secrets that all nodes of a cluster share, and what is encrypted with them.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::rng::Rng;

/// First byte of what [`ClusterSecrets::encrypt`] makes.
const VERSION: u8 = 1;

/// Shared by all nodes of the cluster; given to a node when it joins.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecrets {
    /// Seals membership datagrams.
    pub cluster_key: [u8; 32],
    /// Encrypts private keys that are kept in the metadata.
    pub key_encryption_key: [u8; 32],
}

impl ClusterSecrets {
    /// Those of a new cluster.
    pub fn generate(rng: &dyn Rng) -> Self {
        let mut secrets = Self { cluster_key: [0; 32], key_encryption_key: [0; 32] };
        rng.fill(&mut secrets.cluster_key);
        rng.fill(&mut secrets.key_encryption_key);
        secrets
    }

    /// Encrypts `plain` for the metadata: version (1 byte), nonce (12), AES-256-GCM. `purpose` says what it is
    /// (such as `ca-key` or a broker's and key's id): one stored value cannot stand in for another.
    pub fn encrypt(&self, purpose: &str, plain: &[u8], rng: &dyn Rng) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        self.key()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(purpose), &mut sealed)
            .expect("AES-GCM seals everything below 64 GiB");
        [&[VERSION], &nonce[..], &sealed].concat()
    }

    /// What [`ClusterSecrets::encrypt`] was given; `None` if the key, the purpose or a byte is another.
    pub fn decrypt(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, content) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = content.to_vec();
        let plain = self.key().open_in_place(nonce, aad(purpose), &mut content).ok()?.len();
        content.truncate(plain);
        Some(content)
    }

    fn key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&AES_256_GCM, &self.key_encryption_key);
        LessSafeKey::new(key.expect("the key has the algorithm's length"))
    }
}

fn aad(purpose: &str) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], purpose.as_bytes()].concat())
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    #[test]
    fn only_the_same_key_and_purpose_decrypt() {
        let secrets = ClusterSecrets::generate(&SystemRng);
        let sealed = secrets.encrypt("ca-key", b"plain", &SystemRng);
        assert_eq!(secrets.decrypt("ca-key", &sealed), Some(b"plain".to_vec()));
        assert_eq!(secrets.decrypt("other", &sealed), None);
        assert_eq!(ClusterSecrets::generate(&SystemRng).decrypt("ca-key", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(secrets.decrypt("ca-key", &changed), None);
            assert_eq!(secrets.decrypt("ca-key", &sealed[..at]), None);
        }
    }
}
