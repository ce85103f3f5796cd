//! Tokens of the administration API: random secrets of which the cluster keeps a hash.
//!
//! A secret is 32 random bytes: nobody can search that space, so the hash is plain SHA-256, not a slow password
//! hash. Comparing hashes tells nothing by its timing of a secret that a caller does not have; it is done in constant
//! time all the same.

use std::sync::Arc;

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::TokenId;
use rookery_cluster::metadata::{ApiToken, State};
use rookery_cluster::rng::Rng;

use super::jwt::sha256;
use super::sealing::{hex, unhex};

const API_PREFIX: &str = "rkt_";

/// A new API token: id and hash go into the command, the text to whoever asked, once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewApiToken {
    /// Its public half.
    pub id: TokenId,
    /// SHA-256 of its secret half.
    pub hash: [u8; 32],
    /// `rkt_<id>_<secret>`: a secret.
    pub text: String,
}

impl std::fmt::Debug for NewApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApiToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why an API token is not accepted. All of them are the same 403 to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenDenied {
    /// Not `rkt_<id>_<secret>`.
    #[error("not an API token of this service")]
    Malformed,
    /// No such token, or another secret.
    #[error("unknown or revoked API token")]
    Unknown,
    /// Its time is over.
    #[error("API token expired")]
    Expired,
}

/// Makes an API token.
pub fn new_api_token(rng: &dyn Rng) -> NewApiToken {
    let (id, secret) = (TokenId(rng.u128()), secret(rng));
    NewApiToken { id, hash: sha256(&secret), text: format!("{API_PREFIX}{id}_{}", hex(&secret)) }
}

/// Whose API token `text` is.
pub fn check_api_token(state: &State, text: &str, now: UnixMillis) -> Result<Arc<ApiToken>, TokenDenied> {
    let parts = text.strip_prefix(API_PREFIX).and_then(|rest| rest.split_once('_'));
    let (id, secret) = parts.ok_or(TokenDenied::Malformed)?;
    let id: TokenId = id.parse().map_err(|_| TokenDenied::Malformed)?;
    let secret: [u8; 32] = unhex(secret).ok_or(TokenDenied::Malformed)?;
    let token = state.token(id).ok_or(TokenDenied::Unknown)?;
    if !same(&sha256(&secret), &token.hash) {
        return Err(TokenDenied::Unknown);
    }
    if token.expires.is_some_and(|expires| now >= expires) {
        return Err(TokenDenied::Expired);
    }
    Ok(token.clone())
}

fn secret(rng: &dyn Rng) -> [u8; 32] {
    let mut secret = [0; 32];
    rng.fill(&mut secret);
    secret
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
