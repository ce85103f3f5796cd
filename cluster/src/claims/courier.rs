//! Carries notices to other nodes: one call at a time to each, with all that gathered meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::debug;

use crate::control::{NOTIFY_BYTES, Notice, SharedControl};
use crate::ids::NodeId;

/// Notices waiting for one node; more are dropped. What matters of them is sent again.
const MAX_WAITING: usize = 16_384;
/// Bytes of a notice besides the client ID, at most.
const NOTICE_OVERHEAD: usize = 96;

/// Carries notices. Cheap to clone.
#[derive(Clone)]
pub(super) struct Courier {
    control: SharedControl,
    /// A node is in here while a task carries to it.
    lanes: Arc<Mutex<BTreeMap<NodeId, Vec<Notice>>>>,
}

impl Courier {
    pub(super) fn new(control: SharedControl) -> Self {
        Self { control, lanes: Arc::default() }
    }

    /// Sends `notices` to `node` from a task of its own. Says how many were dropped.
    pub(super) fn send(&self, node: NodeId, notices: Vec<Notice>) -> usize {
        let mut lanes = self.lanes.lock();
        let running = lanes.contains_key(&node);
        let lane = lanes.entry(node).or_default();
        let room = MAX_WAITING.saturating_sub(lane.len());
        let dropped = notices.len().saturating_sub(room);
        lane.extend(notices.into_iter().take(room));
        drop(lanes);
        if !running {
            #[expect(clippy::disallowed_methods, reason = "one task a node, ends when its lane is empty")]
            tokio::spawn(self.clone().carry(node));
        }
        dropped
    }

    async fn carry(self, node: NodeId) {
        while let Some(batch) = self.batch(node) {
            if let Err(why) = self.control.notify(node, batch).await {
                debug!(%node, %why, "notices were not taken");
            }
        }
    }

    /// What fits into one call; closes the lane if there is nothing.
    fn batch(&self, node: NodeId) -> Option<Vec<Notice>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.get_mut(&node).filter(|lane| !lane.is_empty());
        let Some(lane) = lane else {
            lanes.remove(&node);
            return None;
        };
        let mut bytes = 0;
        let fits = lane.iter().take_while(|notice| {
            bytes += notice.key.client.len() + NOTICE_OVERHEAD;
            bytes <= NOTIFY_BYTES
        });
        let count = fits.count().max(1);
        Some(lane.drain(..count).collect())
    }
}
