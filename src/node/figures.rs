//! What a node's workers publish below `$SYS`, and where they meet for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_cluster::clock::{Moment, SharedClock};
use rookery_cluster::ids::{BrokerId, NodeId, WorkerId};
use rookery_cluster::metadata::Metadata;
use rookery_cluster::retained::store::Store;

use crate::broker::core::{Bulletin, Facts, Figures, Watched};

/// One for each worker, shared by its clones. The lock is held for a look-up.
#[derive(Clone)]
pub struct NodeFigures {
    pub interval: Duration,
    pub workers: usize,
    pub node: NodeId,
    pub clock: SharedClock,
    pub since: Moment,
    pub metadata: Metadata,
    pub store: Store,
    pub watched: Arc<Mutex<Watched>>,
}

impl std::fmt::Debug for NodeFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeFigures").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Bulletin for NodeFigures {
    fn interval(&self) -> Duration {
        self.interval
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn facts(&self, broker: BrokerId) -> Facts {
        let view = self.metadata.view();
        Facts {
            uptime: self.clock.now().since(self.since),
            retained: self.store.totals_of(broker).messages,
            node: self.node,
            live: view.live_set().len(),
            members: view.nodes().count(),
        }
    }

    fn watch(&mut self, broker: BrokerId, until: Moment) {
        self.watched.lock().watch(broker, until);
    }

    fn watched(&mut self, now: Moment) -> Vec<BrokerId> {
        self.watched.lock().watched(now)
    }

    fn report(&mut self, broker: BrokerId, worker: WorkerId, figures: Figures) {
        self.watched.lock().report(broker, worker, figures);
    }

    fn figures(&self, broker: BrokerId) -> Figures {
        self.watched.lock().figures(broker)
    }
}
