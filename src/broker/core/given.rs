//! States of sessions that were given to another worker: kept for a moment, as the answer may have been lost on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::ids::{BrokerId, ClientId, SessionId};
use rookery_cluster::limits::SESSION_FETCH_TIMEOUT;

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
    bytes: Bytes,
    at: Moment,
}

impl Given {
    /// Keeps a copy of what is given now, if there is room.
    pub fn keep(&mut self, now: Moment, broker: BrokerId, client: &ClientId, session: SessionId, bytes: &Bytes) {
        self.forget(broker, client);
        if self.states.len() < GIVEN && self.bytes + bytes.len() <= GIVEN_BYTES {
            self.bytes += bytes.len();
            self.states.insert((broker, client.clone()), State { session, bytes: bytes.clone(), at: now });
        }
    }

    /// The state of `session`, if it was given a moment ago.
    pub fn again(&self, broker: BrokerId, client: &ClientId, session: SessionId) -> Option<Bytes> {
        let state = self.states.get(&(broker, client.clone()))?;
        (state.session == session).then(|| state.bytes.clone())
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
