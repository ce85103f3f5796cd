//! Tokens of the administration API. Only a hash of the secret is stored. The secret is 32 random bytes, so nobody
//! can search for it and plain SHA-256 is as good as a slow password hash.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accounts::{self, check_label};
use super::apply::{Answer, Cx};
use super::command::CommandBody as Body;
use super::journal::Change;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::{AccountId, TokenId};

/// API tokens of a cluster.
pub const MAX_API_TOKENS: usize = 10_000;

/// What an API token may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Everything: all accounts, nodes, tokens.
    All,
    /// One account with what it holds.
    Account(AccountId),
}

impl Scope {
    /// Whether it covers `account`.
    pub fn covers(self, account: AccountId) -> bool {
        match self {
            Scope::All => true,
            Scope::Account(own) => own == account,
        }
    }
}

/// An API token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its public half.
    pub id: TokenId,
    /// SHA-256 of its secret half.
    pub hash: [u8; 32],
    /// For people.
    pub name: String,
    /// What it may touch.
    pub scope: Scope,
    /// When it was made.
    pub created_on: UnixMillis,
    /// From when on it is not valid; `None`: never.
    pub expires: Option<UnixMillis>,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken").field("id", &self.id).field("scope", &self.scope).finish_non_exhaustive()
    }
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::CreateToken { id, hash, name, scope, expires } => {
            let (name, created_on) = (name.clone(), cx.at);
            let (id, hash, scope, expires) = (*id, *hash, *scope, *expires);
            create(state, cx, ApiToken { id, hash, name, scope, created_on, expires })
        }
        Body::RevokeToken { id } => revoke(state, cx, *id),
        _ => Err(Refused::invalid("not a command about API tokens")),
    }
}

fn create(state: &mut State, cx: Cx, token: ApiToken) -> Answer {
    check_label("a token's name", &token.name)?;
    if let Scope::Account(account) = token.scope {
        accounts::existing(state, account)?;
    }
    if state.tokens.contains_key(&token.id) {
        return Err(Refused::exists(format!("API token {} already exists", token.id)));
    }
    if state.tokens.len() >= MAX_API_TOKENS {
        return Err(Refused::limit(format!("the cluster has {MAX_API_TOKENS} API tokens, the most it can hold")));
    }
    let id = token.id;
    state.tokens.insert(id, Arc::new(token));
    state.note(cx.index, Change::Token(id));
    Ok(Outcome::Created(Created::Token(id)))
}

fn revoke(state: &mut State, cx: Cx, id: TokenId) -> Answer {
    if state.tokens.remove(&id).is_none() {
        return Err(Refused::not_found(format!("there is no API token {id}")));
    }
    state.note(cx.index, Change::Token(id));
    Ok(Outcome::Done)
}
