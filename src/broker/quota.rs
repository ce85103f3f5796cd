//! The counts that a node's workers share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::core::{Quota, Share, Tally};

/// One count, shared by its clones. The lock is held for a look-up.
#[derive(Clone, Debug, Default)]
pub struct SharedQuota(Arc<Mutex<Tally>>);

impl Quota for SharedQuota {
    fn take(&mut self, share: Share, most: u32) -> bool {
        self.0.lock().take(share, most)
    }

    fn give(&mut self, share: &Share) {
        self.0.lock().give(share);
    }
}
