//! Revoked credentials of brokers, by the token's `jti`.

use std::sync::Arc;

use imbl::OrdMap;

use super::apply::{Answer, Cx};
use super::brokers;
use super::outcome::{Outcome, Refused};
use super::state::State;
use crate::clock::UnixMillis;
use crate::ids::BrokerId;
use crate::limits::MAX_REVOCATIONS;

/// Longest `jti` that can be revoked, bytes; those that are issued have 26.
pub const MAX_JTI_BYTES: usize = 128;

impl State {
    /// Whether the token with this `jti` is revoked.
    pub fn is_revoked(&self, broker: BrokerId, jti: &str) -> bool {
        self.revocations.get(&broker).is_some_and(|revoked| revoked.contains_key(jti))
    }

    /// The revoked `jti`s of a broker and when each was revoked.
    pub fn revocations(&self, broker: BrokerId) -> impl Iterator<Item = (&Arc<str>, UnixMillis)> {
        self.revocations.get(&broker).into_iter().flat_map(|revoked| revoked.iter()).map(|(jti, at)| (jti, *at))
    }
}

pub(super) fn revoke(state: &mut State, cx: Cx, broker: BrokerId, jtis: &[String]) -> Answer {
    let record = brokers::existing(state, broker)?.as_ref().clone();
    check(jtis)?;
    let mut revoked: OrdMap<Arc<str>, UnixMillis> = state.revocations.get(&broker).cloned().unwrap_or_default();
    for jti in jtis {
        revoked.entry(jti.as_str().into()).or_insert(cx.at);
    }
    if revoked.len() > MAX_REVOCATIONS {
        return Err(Refused::limit(format!(
            "a broker can hold {MAX_REVOCATIONS} revoked credentials; unrevoke expired ones first"
        )));
    }
    state.revocations.insert(broker, revoked);
    brokers::store(state, cx, record, true);
    Ok(Outcome::Done)
}

pub(super) fn unrevoke(state: &mut State, cx: Cx, broker: BrokerId, jtis: &[String]) -> Answer {
    let record = brokers::existing(state, broker)?.as_ref().clone();
    check(jtis)?;
    if let Some(revoked) = state.revocations.get_mut(&broker) {
        for jti in jtis {
            revoked.remove(jti.as_str());
        }
        if revoked.is_empty() {
            state.revocations.remove(&broker);
        }
    }
    brokers::store(state, cx, record, false);
    Ok(Outcome::Done)
}

fn check(jtis: &[String]) -> Result<(), Refused> {
    if jtis.is_empty() {
        return Err(Refused::invalid("name at least one jti"));
    }
    if jtis.iter().any(|jti| jti.is_empty() || jti.len() > MAX_JTI_BYTES) {
        return Err(Refused::invalid(format!("a jti has 1 to {MAX_JTI_BYTES} bytes")));
    }
    Ok(())
}
