//! The join token: `rkj_` and base64url of version (1 byte), hash of the authority's certificate (32), secret
//! (32), expiry (8, big endian, milliseconds since the epoch).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixMillis;
use crate::pki::CaHash;
use crate::rng::Rng;

const PREFIX: &str = "rkj_";
const VERSION: u8 = 1;
const LENGTH: usize = 1 + 32 + 32 + 8;

/// Lets one who has it join. Its text is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The authority that the node will trust.
    pub ca: CaHash,
    /// Proves the right to join.
    pub secret: [u8; 32],
    /// When it ends. The cluster has its own record of that; this one spares a futile try.
    pub expires: UnixMillis,
}

/// A text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Not one at all, or cut off when copied.
    #[error("not a join token: it starts with rkj_ and has 102 characters")]
    Malformed,
    /// Made by another version.
    #[error("the join token has format {0}, this program knows format 1")]
    Version(u8),
}

impl JoinToken {
    /// A new token for the cluster whose authority hashes to `ca`.
    pub fn generate(ca: CaHash, expires: UnixMillis, rng: &dyn Rng) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Self { ca, secret, expires }
    }

    /// What the cluster knows the token by.
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }
}

/// SHA-256 of a token's secret. The secret is random, so a plain hash suffices.
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    CaHash::of(secret).0
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[VERSION], &self.ca.0[..], &self.secret, &self.expires.0.to_be_bytes()].concat();
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("ca", &self.ca).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(BadToken::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| BadToken::Malformed)?;
        match bytes.first() {
            Some(&VERSION) if bytes.len() == LENGTH => {}
            Some(&version) if version != VERSION => return Err(BadToken::Version(version)),
            _ => return Err(BadToken::Malformed),
        }
        let (mut ca, mut secret, mut expires) = ([0; 32], [0; 32], [0; 8]);
        ca.copy_from_slice(&bytes[1..33]);
        secret.copy_from_slice(&bytes[33..65]);
        expires.copy_from_slice(&bytes[65..]);
        Ok(Self { ca: CaHash(ca), secret, expires: UnixMillis(u64::from_be_bytes(expires)) })
    }
}
