//! Trust between nodes (R20): the cluster's certificate authority, the certificates of nodes and of
//! client-facing listeners, and the TLS configurations made of them.
//!
//! A node is known by one DNS name in its certificate, `node-<id>.<cluster id>.rookery.internal`; only the
//! authority can give it. Keys are made by the system's generator, not by `rng::Rng`: nothing that a
//! simulation observes depends on them.

mod ca;
mod names;
mod resolver;
mod secrets;
mod tls;

use std::fmt;
use std::str::FromStr;

pub use ca::{ClusterCa, IssuedKey, KeyAndRequest, NODE_CERT_LIFETIME, SERVER_CERT_LIFETIME, request_key_hash};
pub use names::{NodeName, Validity, node_of, public_key_hash, validity_of};
pub use resolver::{DynamicResolver, NameVerdict};
pub use secrets::ClusterSecrets;
pub use tls::{ALPN_DATA, ALPN_JOIN, ALPN_PEER, NodeTls, join_client_config, server_config_for_clients};

/// Makes ring the process's TLS provider. To be called first in every `main` and test that uses TLS; later
/// calls change nothing.
pub fn install_crypto() {
    // An error says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why a key, certificate or request was not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The text is not what it should be (PEM, DER, X.509): whoever supplied it is at fault.
    #[error("not a readable {what}: {why}")]
    Unreadable {
        /// What it should have been.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// The certificate is a good one for something else.
    #[error("the certificate is for {found}, not for {wanted}")]
    WrongName {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// A host that a node may not have in its certificate.
    #[error("host name {0:?} is not allowed in a certificate")]
    HostRefused(String),
    /// The certificate's key is not the key given.
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate's time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Signing or making a key failed.
    #[error("cannot sign: {0}")]
    Signing(#[from] rcgen::Error),
    /// TLS does not take the certificate or key.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

impl PkiError {
    fn unreadable(what: &'static str, why: impl fmt::Display) -> Self {
        PkiError::Unreadable { what, why: why.to_string() }
    }
}

/// SHA-256 of an authority's certificate (DER): what a join token pins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaHash(pub [u8; 32]);

impl CaHash {
    /// The hash of `certificate` (DER).
    pub fn of(certificate: &[u8]) -> CaHash {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        CaHash(hash)
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaHash({self})")
    }
}

impl FromStr for CaHash {
    type Err = BadHash;
    fn from_str(text: &str) -> Result<Self, BadHash> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(BadHash);
        }
        for (i, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| BadHash)?;
        }
        Ok(CaHash(hash))
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate hash is 64 hexadecimal digits")]
pub struct BadHash;

#[cfg(test)]
pub(crate) mod tests;
