//! Making clients' credentials.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, Header};
use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{BrokerId, is_generated_client_id};
use rookery_cluster::limits::MAX_CREDENTIALS_PER_CALL;
use rookery_cluster::metadata::{Broker, State};
use rookery_cluster::rng::Rng;
use rookery_cluster::topics::BadAcl;
use ulid::Ulid;

use super::expiration::{Lifetime, effective_lifetime};
use super::jwt::{Claims, MAX_TOKEN_BYTES, TopicAcl};
use super::keys::{SigningKey, signing_key};
use super::provider;
use super::sealing::Sealer;

/// For whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// This many new client IDs: ULIDs, 26 characters.
    Generate(usize),
    /// These client IDs.
    Named(Vec<String>),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// For whom.
    pub clients: Clients,
    /// What topics the credentials are to be good for.
    pub acl: TopicAcl,
    /// For how long, if not as the broker says.
    pub lifetime: Option<Lifetime>,
}

/// A credential as it is handed out; the service keeps nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The client ID that it is for.
    pub client_id: String,
    /// Its id, by which it can be revoked.
    pub jti: String,
    /// From when on it is not valid; `None`: never.
    pub expires: Option<UnixMillis>,
    /// The signed JWT: a secret.
    pub token: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("client_id", &self.client_id).field("jti", &self.jti).finish_non_exhaustive()
    }
}

/// Why no credential was made. Nothing is written anywhere either way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The caller's fault.
    #[error("there is no such broker")]
    NoBroker,
    /// The caller's fault.
    #[error("1 to {MAX_CREDENTIALS_PER_CALL} credentials can be issued per call")]
    Count,
    /// The caller's fault.
    #[error("client id {0:?} is empty, longer than the broker's limit of {1} bytes, or has control characters")]
    ClientId(String, u16),
    /// The caller's fault.
    #[error("client id {0:?} is named twice")]
    Twice(String),
    /// The caller's fault.
    #[error(transparent)]
    Acl(#[from] BadAcl),
    /// The caller's fault.
    #[error("the token would have {0} bytes; a password has at most {MAX_TOKEN_BYTES}: name fewer filters")]
    TooLong(usize),
    /// This node's fault: it does not have the cluster's key encryption key.
    #[error("the broker's signing key cannot be unsealed on this node")]
    Sealed,
    /// A bug.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// Issues credentials of a broker, signed by its active key; in the order asked for.
pub fn issue(
    state: &State,
    sealer: &Sealer,
    broker: BrokerId,
    order: Order,
    now: UnixMillis,
    rng: &dyn Rng,
) -> Result<Vec<Credential>, IssueError> {
    let broker = state.broker(broker).ok_or(IssueError::NoBroker)?;
    let client_ids = client_ids(broker, order.clients, now, rng)?;
    let key = broker.active_key().ok_or(IssueError::Sealed)?;
    let key = signing_key(sealer, key).map_err(|_| IssueError::Sealed)?;
    let lifetime = effective_lifetime(broker.settings.expiration, order.lifetime);
    let exp = lifetime.map(|seconds| now.seconds().saturating_add(seconds));
    provider::install();
    client_ids.into_iter().map(|client_id| credential(&key, client_id, &order.acl, exp, now, rng)).collect()
}

fn credential(
    key: &SigningKey,
    client_id: String,
    acl: &TopicAcl,
    exp: Option<u64>,
    now: UnixMillis,
    rng: &dyn Rng,
) -> Result<Credential, IssueError> {
    let jti = new_ulid(now, rng);
    // Seed order, and no `typ`: byte for byte the header that the service's own samples have.
    let header = Header { typ: None, kid: Some(key.kid.as_str().to_owned()), ..Header::new(Algorithm::EdDSA) };
    acl.resolve(&client_id)?;
    let (sub, topic_acl) = (client_id.clone(), acl.clone());
    let claims = Claims { iat: now.seconds(), exp, nbf: None, sub, jti: jti.clone(), topic_acl };
    let encoding_key = key.encoding_key().ok_or_else(|| IssueError::Signing("no PKCS#8 form".into()))?;
    let token = jsonwebtoken::encode(&header, &claims, &encoding_key);
    let token = token.map_err(|error| IssueError::Signing(error.to_string()))?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(IssueError::TooLong(token.len()));
    }
    Ok(Credential { client_id, jti, expires: exp.map(|s| UnixMillis(s.saturating_mul(1000))), token })
}

fn client_ids(broker: &Broker, clients: Clients, now: UnixMillis, rng: &dyn Rng) -> Result<Vec<String>, IssueError> {
    let per_call = 1..=MAX_CREDENTIALS_PER_CALL;
    match clients {
        Clients::Generate(number) if per_call.contains(&number) => {
            Ok((0..number).map(|_| new_ulid(now, rng)).collect())
        }
        Clients::Named(names) if per_call.contains(&names.len()) => {
            let most = broker.settings.limits.client_id_bytes;
            let mut seen = BTreeSet::new();
            for name in &names {
                let too_long = name.len() > usize::from(most) && !is_generated_client_id(name);
                if name.is_empty() || too_long || name.chars().any(char::is_control) {
                    return Err(IssueError::ClientId(name.clone(), most));
                }
                if !seen.insert(name.as_str()) {
                    return Err(IssueError::Twice(name.clone()));
                }
            }
            Ok(names)
        }
        Clients::Generate(_) | Clients::Named(_) => Err(IssueError::Count),
    }
}

fn new_ulid(now: UnixMillis, rng: &dyn Rng) -> String {
    Ulid::from_parts(now.0, rng.u128()).to_string()
}
