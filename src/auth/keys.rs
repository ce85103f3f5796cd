//! Brokers' signing keys: making them, showing the public halves as a JWK set, and signing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::EncodingKey;
use rookery_cluster::metadata::{Broker, Key, Kid, NewKey};
use rookery_cluster::rng::Rng;
use serde::{Deserialize, Serialize};

use super::sealing::{Sealer, Unsealable};

/// A public key as a JSON Web Key (RFC 8037 §2), members in the order that the service has always shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// `OKP`.
    pub kty: String,
    /// The key's id: its thumbprint.
    pub kid: String,
    /// `Ed25519`.
    pub crv: String,
    /// `EdDSA`.
    pub alg: String,
    /// The public key, base64url without padding.
    pub x: String,
}

/// A JSON Web Key Set (RFC 7517 §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A private key, unsealed for use. Signs clients' tokens and hook requests alike.
pub struct SigningKey {
    /// Its id.
    pub kid: Kid,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The Ed25519 signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    pub(super) fn encoding_key(&self) -> Option<EncodingKey> {
        let der = self.key.to_pkcs8_der().ok()?;
        Some(EncodingKey::from_ed_der(der.as_bytes()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// RFC 7638 SHA-256 thumbprint of an Ed25519 public key, base64url without padding.
pub fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()))
}

/// Makes a key pair, the private half sealed, to be put into a command.
pub fn generate_key(sealer: &Sealer, rng: &dyn Rng) -> NewKey {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let kid = Kid::from(thumbprint(&public).as_str());
    let sealed = sealer.seal(kid.as_str().as_bytes(), &seed, rng).into();
    NewKey { kid, public, sealed }
}

/// Unseals a key's private half.
pub fn signing_key(sealer: &Sealer, key: &Key) -> Result<SigningKey, Unsealable> {
    let seed = sealer.unseal(key.kid.as_str().as_bytes(), &key.sealed)?;
    let seed: [u8; 32] = seed.try_into().map_err(|_| Unsealable)?;
    let secret = ed25519_dalek::SigningKey::from_bytes(&seed);
    if secret.verifying_key().to_bytes() != key.public {
        return Err(Unsealable);
    }
    Ok(SigningKey { kid: key.kid.clone(), key: secret })
}

/// The public keys by which a broker's tokens and hook requests are verified, retired ones too.
pub fn jwk_set(broker: &Broker) -> JwkSet {
    JwkSet { keys: broker.keys.iter().map(jwk).collect() }
}

fn jwk(key: &Key) -> Jwk {
    Jwk {
        usage: "sig".into(),
        kty: "OKP".into(),
        kid: key.kid.as_str().into(),
        crv: "Ed25519".into(),
        alg: "EdDSA".into(),
        x: URL_SAFE_NO_PAD.encode(key.public),
    }
}
