//! Signing keys of brokers: Ed25519, two from the start, so that verifiers know the next one before it signs.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::apply::{Answer, Cx};
use super::brokers;
use super::outcome::{Created, Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::BrokerId;

/// Keys of one broker, retired ones too: bounds its JWK set.
pub const MAX_KEYS: usize = 8;
/// Longest key id, bytes; a thumbprint has 43.
const MAX_KID_BYTES: usize = 64;
/// Largest sealed private key, bytes.
const MAX_SEALED_BYTES: usize = 512;

/// A key's id: the RFC 7638 thumbprint of its JWK. Unique in the cluster, so that it names a broker (DESIGN §4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kid(pub Arc<str>);

impl Kid {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Kid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Kid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyState {
    /// No longer signs, still verifies.
    Retired,
    /// Signs.
    Active,
    /// Signs after the next rotation; verifies already.
    Next,
}

/// A signing key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub kid: Kid,
    /// The public key.
    pub public: [u8; 32],
    /// The private key, encrypted under a key that is not in this state.
    pub sealed: Bytes,
    /// When it was made.
    pub created_on: UnixMillis,
    /// What it is used for.
    pub state: KeyState,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid.as_str()).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A key to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// See [`Key::kid`].
    pub kid: Kid,
    /// See [`Key::public`].
    pub public: [u8; 32],
    /// See [`Key::sealed`].
    pub sealed: Bytes,
}

/// The keys of a new broker.
pub(super) fn first(state: &State, cx: Cx, new: &[NewKey]) -> Result<Vec<Key>, Refused> {
    let [active, next] = new else {
        return Err(Refused::invalid("a broker starts with two keys, the active one and the next"));
    };
    if active.kid == next.kid {
        return Err(Refused::invalid("a broker's two keys must differ"));
    }
    Ok(vec![accept(state, cx, active, KeyState::Active)?, accept(state, cx, next, KeyState::Next)?])
}

pub(super) fn rotate(state: &mut State, cx: Cx, broker: BrokerId, next: &NewKey) -> Answer {
    let mut broker = brokers::existing(state, broker)?.as_ref().clone();
    if broker.keys.len() >= MAX_KEYS {
        return Err(Refused::limit(format!("the broker has {MAX_KEYS} keys; remove a retired one first")));
    }
    let next = accept(state, cx, next, KeyState::Next)?;
    for key in &mut broker.keys {
        key.state = match key.state {
            KeyState::Retired | KeyState::Active => KeyState::Retired,
            KeyState::Next => KeyState::Active,
        };
    }
    let kid = next.kid.clone();
    broker.keys.push(next);
    state.index.kids.insert(kid.clone(), broker.id);
    brokers::store(state, cx, broker, false);
    Ok(Outcome::Created(Created::Key(kid)))
}

pub(super) fn remove(state: &mut State, cx: Cx, broker: BrokerId, kid: &Kid) -> Answer {
    let mut broker = brokers::existing(state, broker)?.as_ref().clone();
    let Some(key) = broker.key(kid.as_str()) else {
        return Err(Refused::not_found(format!("the broker has no key {kid}")));
    };
    if key.state != KeyState::Retired {
        return Err(Refused::precondition(format!("key {kid} is in use; rotate the keys first")));
    }
    broker.keys.retain(|key| key.kid != *kid);
    state.index.kids.remove(kid);
    brokers::store(state, cx, broker, true);
    Ok(Outcome::Done)
}

fn accept(state: &State, cx: Cx, new: &NewKey, key_state: KeyState) -> Result<Key, Refused> {
    let kid = new.kid.clone();
    if kid.as_str().is_empty() || kid.as_str().len() > MAX_KID_BYTES || new.sealed.len() > MAX_SEALED_BYTES {
        return Err(Refused::invalid("a key's id or sealed private key is out of bounds"));
    }
    if state.index.kids.contains_key(&kid) {
        return Err(Refused::exists(format!("key {kid} already exists")));
    }
    Ok(Key { kid, public: new.public, sealed: new.sealed.clone(), created_on: cx.at, state: key_state })
}
