//! The beat of this node's streams.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Moment, SharedClock};

/// Time between two beats.
pub(super) const EVERY: Duration = Duration::from_millis(4);

/// When streams hand over: all at the same moments, so that what many connections want at one time shares not only entries
/// but a sync and the wake-ups of threads, which cost more than the rest of a claim.
pub(super) struct Beat {
    clock: SharedClock,
    next: Mutex<Moment>,
}

impl Beat {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, next: Mutex::default() }
    }

    /// Waits for the next beat; not at all if the last one was [`EVERY`] ago.
    pub(super) async fn next(&self) {
        let wait = self.next.lock().since(self.clock.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let after = self.clock.now() + EVERY;
        let mut next = self.next.lock();
        *next = after.max(*next);
    }
}
