//! The cluster's own record, and the tokens by which nodes join (R20).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::apply::{Answer, Cx};
use super::command::CommandBody as Body;
use super::journal::Change;
use super::outcome::{Outcome, Refused};
use super::placement::{MAX_SHARDS, Placement};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::ClusterId;

/// Join tokens at one time; expired ones make room.
pub const MAX_JOIN_TOKENS: usize = 1000;

/// What the cluster is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// When it was made.
    pub created_on: UnixMillis,
    /// Certificate of its own authority, PEM.
    pub ca_pem: String,
    /// The authority's private key, encrypted under a key that is not in this state.
    pub sealed_ca_key: Bytes,
    /// Further secrets shared by the nodes, encrypted likewise.
    pub sealed_secrets: Bytes,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Lets nodes join. Known by the SHA-256 of its secret (32 random bytes, so a plain hash suffices).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// When it was made.
    pub created_on: UnixMillis,
    /// From when on it is not valid.
    pub expires: UnixMillis,
    /// How many nodes it still admits; not 0.
    pub uses: u32,
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::InitCluster { id, ca_pem, sealed_ca_key, sealed_secrets, shards } => {
            let cluster = Cluster {
                id: *id,
                created_on: cx.at,
                ca_pem: ca_pem.clone(),
                sealed_ca_key: sealed_ca_key.clone().into(),
                sealed_secrets: sealed_secrets.clone().into(),
            };
            init(state, cx, cluster, *shards)
        }
        Body::AddJoinToken { hash, expires, uses } => add_join_token(state, cx, *hash, *expires, *uses),
        Body::RemoveJoinToken { hash } => match state.join_tokens.remove(hash) {
            Some(_) => changed(state, cx),
            None => Err(Refused::not_found("there is no such join token")),
        },
        _ => Err(Refused::invalid("not a command about the cluster")),
    }
}

fn init(state: &mut State, cx: Cx, cluster: Cluster, shards: u32) -> Answer {
    if let Some(old) = state.cluster() {
        return Err(Refused::exists(format!("this is cluster {} already", old.id)));
    }
    if !(1..=MAX_SHARDS).contains(&shards) {
        return Err(Refused::invalid(format!("a cluster has 1 to {MAX_SHARDS} session shards")));
    }
    state.cluster = Some(Arc::new(cluster));
    state.placement = Placement::with_shards(shards);
    state.note(cx.index, Change::Placement);
    changed(state, cx)
}

fn add_join_token(state: &mut State, cx: Cx, hash: [u8; 32], expires: UnixMillis, uses: u32) -> Answer {
    if expires <= cx.at || uses == 0 {
        return Err(Refused::invalid("a join token expires in the future and admits at least one node"));
    }
    if state.join_tokens.contains_key(&hash) {
        return Err(Refused::exists("the join token already exists"));
    }
    let valid = state.join_tokens.iter().filter(|(_, token)| token.expires > cx.at);
    let mut tokens: imbl::OrdMap<_, _> = valid.map(|(hash, token)| (*hash, *token)).collect();
    if tokens.len() >= MAX_JOIN_TOKENS {
        return Err(Refused::limit(format!("the cluster has {MAX_JOIN_TOKENS} join tokens, the most it can hold")));
    }
    tokens.insert(hash, JoinToken { created_on: cx.at, expires, uses });
    state.join_tokens = tokens;
    changed(state, cx)
}

/// Whether the token admits one more node now.
pub(super) fn check_join_token(state: &State, cx: Cx, hash: &[u8; 32]) -> Result<(), Refused> {
    match state.join_tokens.get(hash) {
        None => Err(Refused::not_found("the join token is unknown, used up or removed")),
        Some(token) if token.expires <= cx.at => Err(Refused::precondition("the join token has expired")),
        Some(_) => Ok(()),
    }
}

/// Takes one use of a token that was checked.
pub(super) fn use_join_token(state: &mut State, hash: &[u8; 32]) {
    if let Some(token) = state.join_tokens.get_mut(hash) {
        token.uses -= 1;
        if token.uses == 0 {
            state.join_tokens.remove(hash);
        }
    }
}

fn changed(state: &mut State, cx: Cx) -> Answer {
    state.note(cx.index, Change::Cluster);
    Ok(Outcome::Done)
}
