//! Namespaces: collections of brokers; the second label of a broker's hostname, so unique in the cluster.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accounts;
use super::apply::{Answer, Cx};
use super::brokers::check_description;
use super::command::CommandBody as Body;
use super::journal::Change;
use super::names::Name;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::{AccountId, NamespaceId};

/// Namespaces that a new account may hold unless it says otherwise.
pub const DEFAULT_MAX_NAMESPACES: u32 = 100;
/// Brokers that a new namespace may hold unless it says otherwise.
pub const DEFAULT_MAX_BROKERS: u32 = 100;

/// A collection of brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its id.
    pub id: NamespaceId,
    /// Whose it is.
    pub account: AccountId,
    /// Unique in the cluster; never changes.
    pub name: Name,
    /// For people.
    pub description: String,
    /// How many brokers it may hold.
    pub max_brokers: u32,
    /// When it was made.
    pub created_on: UnixMillis,
    /// When it was last changed.
    pub modified_on: UnixMillis,
}

pub(super) fn run(state: &mut State, cx: Cx, body: &Body) -> Answer {
    match body {
        Body::CreateNamespace { id, account, name, description, max_brokers } => {
            let (created_on, modified_on) = (cx.at, cx.at);
            let (name, description) = (name.clone(), description.clone());
            let (id, account, max_brokers) = (*id, *account, *max_brokers);
            create(state, cx, Namespace { id, account, name, description, max_brokers, created_on, modified_on })
        }
        Body::UpdateNamespace { id, description, max_brokers } => {
            update(state, cx, *id, description.as_deref(), *max_brokers)
        }
        Body::DeleteNamespace { id } => delete(state, cx, *id),
        _ => Err(Refused::invalid("not a command about namespaces")),
    }
}

fn create(state: &mut State, cx: Cx, new: Namespace) -> Answer {
    check_description(&new.description)?;
    let account = accounts::existing(state, new.account)?;
    if state.namespaces.contains_key(&new.id) || state.index.namespaces.contains_key(&new.name) {
        return Err(Refused::exists(format!("namespace {} already exists", new.name)));
    }
    let max = account.max_namespaces;
    if state.namespaces_of(new.account).count() >= max as usize {
        return Err(Refused::limit(format!("the account has {max} namespaces, the most it may hold")));
    }
    let id = new.id;
    state.index.namespaces.insert(new.name.clone(), id);
    state.namespaces.insert(id, Arc::new(new));
    state.note(cx.index, Change::Namespace(id));
    Ok(Outcome::Created(Created::Namespace(id)))
}

fn update(state: &mut State, cx: Cx, id: NamespaceId, description: Option<&str>, max_brokers: Option<u32>) -> Answer {
    let mut namespace = existing(state, id)?.as_ref().clone();
    if let Some(description) = description {
        check_description(description)?;
        namespace.description = description.to_owned();
    }
    namespace.max_brokers = max_brokers.unwrap_or(namespace.max_brokers);
    namespace.modified_on = cx.at;
    state.namespaces.insert(id, Arc::new(namespace));
    state.note(cx.index, Change::Namespace(id));
    Ok(Outcome::Done)
}

fn delete(state: &mut State, cx: Cx, id: NamespaceId) -> Answer {
    let name = existing(state, id)?.name.clone();
    if let Some(broker) = state.brokers_of(id).next() {
        return Err(Refused::precondition(format!("namespace {name} still holds broker {}", broker.name)));
    }
    state.namespaces.remove(&id);
    state.index.namespaces.remove(&name);
    state.note(cx.index, Change::Namespace(id));
    Ok(Outcome::Done)
}

pub(super) fn existing(state: &State, id: NamespaceId) -> Result<&Arc<Namespace>, Refused> {
    state.namespace(id).ok_or_else(|| Refused::not_found(format!("there is no namespace {id}")))
}
