//! Clients' tokens: what is in them, and whether one is genuine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::BrokerId;
use rookery_cluster::metadata::{Kid, MAX_CLIENT_ID_BYTES, MAX_JTI_BYTES, State};
use rookery_cluster::topics::{Acl, BadAcl};
use serde::{Deserialize, Serialize};

use super::admits::{Denied, Verified};
use super::cache::{Cache, Genuine};
use super::provider;

/// Longest token, bytes (the "Limits" page's bound on passwords). Checked before anything is decoded.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The claim `topicAcl`: filters in which `${clientid}` stands for the token's subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TopicAcl {
    /// One filter for both rights; `#` allows all topics that do not begin with `$`.
    Both(String),
    /// Filters for each right; a right without filters is not given.
    Apart(Rights),
}

/// Filters by right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// What may be published to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// What may be subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
}

impl TopicAcl {
    /// Both rights on all topics that do not begin with `$`.
    pub fn all() -> Self {
        Self::Both("#".to_owned())
    }

    /// What it allows `client`.
    ///
    /// # Errors
    /// It has what is no filter, or what does not go with the client ID.
    pub fn resolve(&self, client: &str) -> Result<Acl, BadAcl> {
        match self {
            Self::Both(filter) => {
                let filters = std::slice::from_ref(filter);
                Acl::new(filters, filters, client)
            }
            Self::Apart(Rights { publish, subscribe }) => Acl::new(publish, subscribe, client),
        }
    }
}

/// The claims of a token, in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// When it was issued, seconds since the epoch.
    pub(super) iat: u64,
    /// From when on it is not valid, seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) exp: Option<u64>,
    /// From when on it is valid. Never written, but heeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) nbf: Option<u64>,
    /// The client ID.
    pub(super) sub: String,
    /// The token's id.
    pub(super) jti: String,
    /// What topics it allows.
    #[serde(rename = "topicAcl")]
    pub(super) topic_acl: TopicAcl,
}

/// Checks clients' tokens. Cheap to clone; clones share the memory of tokens whose signature was found genuine, so
/// that a storm of reconnects costs hashes only.
#[derive(Clone, Debug, Default)]
pub struct Verifier(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    cache: Mutex<Cache>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Verifier {
    /// A verifier that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who the bearer of `token` is. `expected`: the broker that the connection's name belongs to, if it has one;
    /// without, the key's id in the token decides (DESIGN §4). Takes some 30 microseconds for a token not seen before.
    pub fn verify(
        &self,
        state: &State,
        expected: Option<BrokerId>,
        token: &str,
        now: UnixMillis,
    ) -> Result<Verified, Denied> {
        if token.is_empty() {
            return Err(Denied::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denied::TooLong(token.len()));
        }
        let hash = sha256(token.as_bytes());
        let known = self.0.cache.lock().get(&hash);
        let genuine = match known {
            Some(genuine) => genuine,
            None => {
                self.0.misses.fetch_add(1, Ordering::Relaxed);
                let genuine = Arc::new(check_signature(state, token)?);
                self.0.cache.lock().insert(hash, genuine.clone());
                genuine
            }
        };
        still_good(&genuine, state, expected, now)
    }

    /// As [`Verifier::verify`], but nobody for a token whose signature is not known to be genuine. Takes a few
    /// microseconds.
    pub fn recognise(
        &self,
        state: &State,
        expected: Option<BrokerId>,
        token: &str,
        now: UnixMillis,
    ) -> Option<Verified> {
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let genuine = self.0.cache.lock().get(&sha256(token.as_bytes()))?;
        let verified = still_good(&genuine, state, expected, now).ok()?;
        self.0.hits.fetch_add(1, Ordering::Relaxed);
        Some(verified)
    }

    /// How many tokens were admitted by [`Verifier::recognise`], and how many signatures were checked.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.hits.load(Ordering::Relaxed), self.0.misses.load(Ordering::Relaxed))
    }
}

/// What can change about a token, or depends on when and where it is used.
fn still_good(
    genuine: &Genuine,
    state: &State,
    expected: Option<BrokerId>,
    now: UnixMillis,
) -> Result<Verified, Denied> {
    let verified = &genuine.verified;
    if expected.is_some_and(|expected| expected != verified.broker) {
        return Err(Denied::OtherBroker);
    }
    if genuine.not_before.is_some_and(|not_before| now < not_before) {
        return Err(Denied::NotYetValid);
    }
    verified.still_admitted(state, now)?;
    Ok(verified.clone())
}

/// What never changes about a token: signature and claims.
fn check_signature(state: &State, token: &str) -> Result<Genuine, Denied> {
    provider::install();
    let malformed = |error: jsonwebtoken::errors::Error| Denied::Malformed(error.to_string());
    let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
    if header.crit.is_some() {
        return Err(Denied::Malformed("its header has extensions that must be understood".into()));
    }
    let Some(kid) = header.kid else { return Err(Denied::Malformed("no kid in its header".into())) };
    let broker = state.broker_of_key(&kid).ok_or(Denied::UnknownKey)?;
    let key = broker.key(&kid).ok_or(Denied::UnknownKey)?;
    // The key decides about the algorithm, never the token.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    let decoded = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(&key.public), &validation);
    let claims = decoded.map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Denied::BadSignature,
        ErrorKind::Json(why) => Denied::BadClaims(why.to_string()),
        _ => malformed(error),
    })?;
    genuine(broker.id, key.kid.clone(), claims.claims)
}

fn genuine(broker: BrokerId, kid: Kid, claims: Claims) -> Result<Genuine, Denied> {
    let bad = |why: &str| Err(Denied::BadClaims(why.into()));
    if claims.sub.is_empty() || claims.sub.len() > usize::from(MAX_CLIENT_ID_BYTES) {
        return bad("sub is empty or too long");
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI_BYTES {
        return bad("jti is empty or too long");
    }
    let acl = claims.topic_acl.resolve(&claims.sub).map_err(|why| Denied::BadClaims(format!("topicAcl: {why}")))?;
    let millis = |seconds: u64| UnixMillis(seconds.saturating_mul(1000));
    let (client_id, jti, expires) = (claims.sub.into(), claims.jti.into(), claims.exp.map(millis));
    let verified = Verified { broker, client_id, jti, kid, expires, acl: Arc::new(acl) };
    Ok(Genuine { verified, not_before: claims.nbf.map(millis) })
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
