//! Brokers: tenants with a hostname, keys, credentials and limits of their own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::apply::{Answer, Cx};
use super::journal::Change;
use super::keys::{self, Key, KeyState, NewKey};
use super::limits::{BrokerLimits, Preset};
use super::names::Name;
use super::namespaces;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::{BrokerId, LogIndex, NamespaceId};

/// Longest description, bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 1024;
/// Longest hook URL, bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// Longest broker-level expiration, seconds (100 years): keeps every `exp` far from overflow.
const MAX_EXPIRATION_S: u64 = 100 * 366 * 24 * 3600;

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthType {
    /// A signed JSON Web Token in place of the password.
    #[default]
    Token,
}

/// What happens to claims of a client ID under a partition (P3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimMode {
    /// Never two connections at once; a minority refuses.
    #[default]
    Strict,
    /// Both sides serve; on heal the newer claim wins (R7).
    Available,
}

/// What a broker's owner sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerSettings {
    /// For people.
    pub description: String,
    /// How clients prove who they are.
    pub auth_type: AuthType,
    /// How long a credential is valid unless it asks for less, seconds; `None`: for ever.
    pub expiration: Option<u64>,
    /// URL of the on-publish hook (P11).
    pub on_publish: Option<String>,
    /// Where `limits` came from.
    pub preset: Preset,
    /// What clients may do.
    pub limits: BrokerLimits,
    /// Claims under a partition.
    pub claim_mode: ClaimMode,
}

/// A change of a broker: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerPatch {
    /// A new name, so a new hostname.
    pub name: Option<Name>,
    /// See [`BrokerSettings::description`].
    pub description: Option<String>,
    /// See [`BrokerSettings::expiration`].
    pub expiration: Option<Option<u64>>,
    /// See [`BrokerSettings::on_publish`].
    pub on_publish: Option<Option<String>>,
    /// See [`BrokerSettings::preset`]; does not change `limits` by itself.
    pub preset: Option<Preset>,
    /// See [`BrokerSettings::limits`].
    pub limits: Option<BrokerLimits>,
    /// See [`BrokerSettings::claim_mode`].
    pub claim_mode: Option<ClaimMode>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Where it belongs.
    pub namespace: NamespaceId,
    /// Unique in the namespace; the first label of the hostname.
    pub name: Name,
    /// What its owner set.
    pub settings: BrokerSettings,
    /// Its signing keys, oldest first: retired ones, the active one, the next.
    pub keys: Vec<Key>,
    /// When it was made.
    pub created_on: UnixMillis,
    /// When it was last changed.
    pub modified_on: UnixMillis,
    /// Index of the last change that may forbid what was allowed (revocation, limit, hook, key): what was checked
    /// against an older view must be checked again (P2).
    pub restricted_at: LogIndex,
}

impl Broker {
    /// The key that signs.
    pub fn active_key(&self) -> Option<&Key> {
        self.keys.iter().find(|key| key.state == KeyState::Active)
    }

    /// The key of this id, in any state.
    pub fn key(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid.as_str() == kid)
    }
}

pub(super) fn create(
    state: &mut State,
    cx: Cx,
    id: BrokerId,
    namespace: NamespaceId,
    name: &Name,
    settings: &BrokerSettings,
    keys: &[NewKey],
) -> Answer {
    check(settings)?;
    let home = namespaces::existing(state, namespace)?;
    let place = (namespace, name.clone());
    if state.brokers.contains_key(&id) || state.index.brokers.contains_key(&place) {
        return Err(Refused::exists(format!("broker {name} already exists in namespace {}", home.name)));
    }
    if state.brokers_of(namespace).count() >= home.max_brokers as usize {
        let max = home.max_brokers;
        return Err(Refused::limit(format!("namespace {} has {max} brokers, the most it may hold", home.name)));
    }
    let keys = keys::first(state, cx, keys)?;
    for key in &keys {
        state.index.kids.insert(key.kid.clone(), id);
    }
    let (name, settings, restricted_at) = (name.clone(), settings.clone(), cx.index);
    let (created_on, modified_on) = (cx.at, cx.at);
    let broker = Broker { id, namespace, name, settings, keys, created_on, modified_on, restricted_at };
    state.index.brokers.insert(place, id);
    state.brokers.insert(id, Arc::new(broker));
    state.note(cx.index, Change::Broker { id, restricts: false });
    Ok(Outcome::Created(Created::Broker(id)))
}

pub(super) fn update(state: &mut State, cx: Cx, id: BrokerId, patch: &BrokerPatch) -> Answer {
    let mut broker = existing(state, id)?.as_ref().clone();
    patch.clone().apply_to(&mut broker);
    replace(state, cx, broker)
}

/// See `CommandBody::ChangeBroker`.
pub(super) fn change(state: &mut State, cx: Cx, id: BrokerId, patch: &BrokerPatch, limits: &[(String, u64)]) -> Answer {
    let mut broker = existing(state, id)?.as_ref().clone();
    patch.clone().apply_to(&mut broker);
    if let Some(preset) = patch.preset {
        broker.settings.limits = BrokerLimits::of(preset);
    }
    broker.settings.limits = broker.settings.limits.clone().with(limits)?;
    replace(state, cx, broker)
}

/// Stores what became of a broker, if it may become that.
fn replace(state: &mut State, cx: Cx, broker: Broker) -> Answer {
    let id = broker.id;
    let old = existing(state, id)?.clone();
    check(&broker.settings)?;
    let (from, to) = ((old.namespace, old.name.clone()), (old.namespace, broker.name.clone()));
    if from != to && state.index.brokers.contains_key(&to) {
        return Err(Refused::exists(format!("broker {} already exists in the namespace", to.1)));
    }
    let (was, is) = (&old.settings, &broker.settings);
    let restricts =
        from != to || (&was.limits, &was.on_publish, was.claim_mode) != (&is.limits, &is.on_publish, is.claim_mode);
    state.index.brokers.remove(&from);
    state.index.brokers.insert(to, id);
    store(state, cx, broker, restricts);
    Ok(Outcome::Done)
}

pub(super) fn delete(state: &mut State, cx: Cx, id: BrokerId) -> Answer {
    let broker = existing(state, id)?.clone();
    for key in &broker.keys {
        state.index.kids.remove(&key.kid);
    }
    state.index.brokers.remove(&(broker.namespace, broker.name.clone()));
    state.revocations.remove(&id);
    state.brokers.remove(&id);
    state.note(cx.index, Change::BrokerDeleted(id));
    Ok(Outcome::Done)
}

impl BrokerPatch {
    /// Whether it may forbid what was allowed (P2). What it sets may be what is set already.
    pub fn may_restrict(&self) -> bool {
        let Self { name, on_publish, limits, claim_mode, description: _, expiration: _, preset: _ } = self;
        name.is_some() || on_publish.is_some() || limits.is_some() || claim_mode.is_some()
    }

    fn apply_to(self, broker: &mut Broker) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut broker.name, self.name);
        let settings = &mut broker.settings;
        set(&mut settings.description, self.description);
        set(&mut settings.expiration, self.expiration);
        set(&mut settings.on_publish, self.on_publish);
        set(&mut settings.preset, self.preset);
        set(&mut settings.limits, self.limits);
        set(&mut settings.claim_mode, self.claim_mode);
    }
}

/// Stores a changed broker.
pub(super) fn store(state: &mut State, cx: Cx, mut broker: Broker, restricts: bool) {
    let id = broker.id;
    broker.modified_on = cx.at;
    if restricts {
        broker.restricted_at = cx.index;
    }
    state.brokers.insert(id, Arc::new(broker));
    state.note(cx.index, Change::Broker { id, restricts });
}

pub(super) fn existing(state: &State, id: BrokerId) -> Result<&Arc<Broker>, Refused> {
    state.broker(id).ok_or_else(|| Refused::not_found(format!("there is no broker {id}")))
}

fn check(settings: &BrokerSettings) -> Result<(), Refused> {
    check_description(&settings.description)?;
    settings.limits.check()?;
    if settings.expiration.is_some_and(|s| s == 0 || s > MAX_EXPIRATION_S) {
        return Err(Refused::invalid(format!("a broker's expiration is from 1 to {MAX_EXPIRATION_S} seconds")));
    }
    match &settings.on_publish {
        Some(url) if url.len() > MAX_URL_BYTES => {
            Err(Refused::invalid(format!("the hook's URL has at most {MAX_URL_BYTES} bytes")))
        }
        Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            Err(Refused::invalid("the hook's URL starts with https:// or http://"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_description(text: &str) -> Result<(), Refused> {
    if text.len() > MAX_DESCRIPTION_BYTES {
        return Err(Refused::invalid(format!("a description has at most {MAX_DESCRIPTION_BYTES} bytes")));
    }
    Ok(())
}
