//! Reading what was acknowledged elsewhere before a client is refused.

use rookery_cluster::clock::{Moment, SharedClock};
use rookery_cluster::metadata::Metadata;
use tokio::sync::Mutex;

/// Brings this node's view up to date for those who were refused by it: a credential may be newer than the view (P1).
/// One read goes to the cluster at a time, however many ask, so that a flood of bad tokens costs no more than that.
pub(super) struct CatchUp {
    metadata: Metadata,
    clock: SharedClock,
    /// When the last read that succeeded began.
    last: Mutex<Option<Moment>>,
}

impl CatchUp {
    pub(super) fn new(metadata: Metadata, clock: SharedClock) -> Self {
        Self { metadata, clock, last: Mutex::new(None) }
    }

    /// Waits until the view holds everything that was acknowledged before the call; false if that cannot be had.
    pub(super) async fn run(&self) -> bool {
        let asked = self.clock.now();
        let mut last = self.last.lock().await;
        if last.is_some_and(|began| began >= asked) {
            return true;
        }
        let began = self.clock.now();
        let read = self.metadata.read().await.is_ok();
        if read {
            *last = Some(began);
        }
        read
    }
}
