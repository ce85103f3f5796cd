//! Accounts: who owns namespaces.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::apply::{Answer, Cx};
use super::command::CommandBody as Body;
use super::journal::Change;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use super::tokens::Scope;
use crate::clock::UnixMillis;
use crate::ids::AccountId;

/// Accounts of a cluster: bounds the state, which every node holds in memory.
pub const MAX_ACCOUNTS: usize = 100_000;
/// Longest name of an account, node or API token, bytes: they are shown in tables.
pub(super) const MAX_LABEL_BYTES: usize = 128;

/// A tenant account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// For people; need not be unique.
    pub name: String,
    /// How many namespaces it may hold.
    pub max_namespaces: u32,
    /// When it was made.
    pub created_on: UnixMillis,
    /// When it was last changed.
    pub modified_on: UnixMillis,
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::CreateAccount { id, name, max_namespaces } => create(state, cx, *id, name, *max_namespaces),
        Body::UpdateAccount { id, name, max_namespaces } => update(state, cx, *id, name.as_deref(), *max_namespaces),
        Body::DeleteAccount { id } => delete(state, cx, *id),
        _ => Err(Refused::invalid("not a command about accounts")),
    }
}

fn create(state: &mut State, cx: Cx, id: AccountId, name: &str, max_namespaces: u32) -> Answer {
    check_label("an account's name", name)?;
    if state.accounts.contains_key(&id) {
        return Err(Refused::exists(format!("account {id} already exists")));
    }
    if state.accounts.len() >= MAX_ACCOUNTS {
        return Err(Refused::limit(format!("the cluster has {MAX_ACCOUNTS} accounts, the most it can hold")));
    }
    let (created_on, modified_on) = (cx.at, cx.at);
    let account = Account { id, name: name.to_owned(), max_namespaces, created_on, modified_on };
    state.accounts.insert(id, Arc::new(account));
    state.note(cx.index, Change::Account(id));
    Ok(Outcome::Created(Created::Account(id)))
}

fn update(state: &mut State, cx: Cx, id: AccountId, name: Option<&str>, max_namespaces: Option<u32>) -> Answer {
    let mut account = existing(state, id)?.as_ref().clone();
    if let Some(name) = name {
        check_label("an account's name", name)?;
        account.name = name.to_owned();
    }
    account.max_namespaces = max_namespaces.unwrap_or(account.max_namespaces);
    account.modified_on = cx.at;
    state.accounts.insert(id, Arc::new(account));
    state.note(cx.index, Change::Account(id));
    Ok(Outcome::Done)
}

fn delete(state: &mut State, cx: Cx, id: AccountId) -> Answer {
    existing(state, id)?;
    if let Some(namespace) = state.namespaces_of(id).next() {
        let name = &namespace.name;
        return Err(Refused::precondition(format!("account {id} still holds namespace {name}")));
    }
    state.accounts.remove(&id);
    let scope = Scope::Account(id);
    let tokens: Vec<_> = state.tokens.values().filter(|t| t.scope == scope).map(|t| t.id).collect();
    for token in tokens {
        state.tokens.remove(&token);
        state.note(cx.index, Change::Token(token));
    }
    state.note(cx.index, Change::Account(id));
    Ok(Outcome::Done)
}

pub(super) fn existing(state: &State, id: AccountId) -> Result<&Arc<Account>, Refused> {
    state.account(id).ok_or_else(|| Refused::not_found(format!("there is no account {id}")))
}

/// Names that are shown, not parsed: some text without control characters.
pub(super) fn check_label(what: &str, text: &str) -> Result<(), Refused> {
    if text.trim().is_empty() || text.len() > MAX_LABEL_BYTES || text.chars().any(char::is_control) {
        return Err(Refused::invalid(format!("{what} has 1 to {MAX_LABEL_BYTES} bytes and no control characters")));
    }
    Ok(())
}
