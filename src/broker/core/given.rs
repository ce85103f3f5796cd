//! States of sessions that were given to another worker: kept for a moment, as the answer may have been lost on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::SessionAsked;
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, SessionId};
use rookery_cluster::limits::SESSION_FETCH_TIMEOUT;

use super::Fetched;

/// How long a state is kept after it was given: who got no answer asks again before that.
const KEPT_FOR: Duration = SESSION_FETCH_TIMEOUT.saturating_mul(3);
/// Bytes that are kept at one time. Of what is given beyond them, a lost answer is the end.
const GIVEN_BYTES: usize = 64 << 20;
/// How many are kept at one time.
const GIVEN: usize = 4096;

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    states: BTreeMap<(BrokerId, ClientId), State>,
    bytes: usize,
}

#[derive(Debug)]
struct State {
    session: SessionId,
    /// Of the claim for which it was given.
    epoch: Epoch,
    bytes: Bytes,
    at: Moment,
}

impl Given {
    /// Keeps a copy of what is given now, if there is room.
    pub fn keep(&mut self, now: Moment, asked: &SessionAsked, bytes: &Bytes) {
        let SessionAsked { broker, ref client, session, epoch, .. } = *asked;
        self.forget(broker, client);
        if self.states.len() < GIVEN && self.bytes + bytes.len() <= GIVEN_BYTES {
            self.bytes += bytes.len();
            self.states.insert((broker, client.clone()), State { session, epoch, bytes: bytes.clone(), at: now });
        }
    }

    /// What was given a moment ago, unless that was for a later claim.
    pub fn again(&self, asked: &SessionAsked) -> Option<Fetched> {
        let state = self.states.get(&(asked.broker, asked.client.clone()))?;
        let state = (state.session == asked.session).then_some(state)?;
        Some(if state.epoch <= asked.epoch { Fetched::State(state.bytes.clone()) } else { Fetched::Superseded })
    }

    /// The client has a session here again, or none any more.
    pub fn forget(&mut self, broker: BrokerId, client: &ClientId) {
        if let Some(state) = self.states.remove(&(broker, client.clone())) {
            self.bytes -= state.bytes.len();
        }
    }

    /// Forgets what was given long ago.
    pub fn tick(&mut self, now: Moment) {
        self.states.retain(|_, state| now.since(state.at) < KEPT_FOR);
        self.bytes = self.states.values().map(|state| state.bytes.len()).sum();
    }
}
