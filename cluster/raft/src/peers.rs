//! The links of this node, one per peer and purpose, shared by all groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_cluster::ids::NodeId;
use rookery_cluster::net::{Purpose, SharedPeers};
use tokio::runtime::Handle;

use crate::net::link::Link;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    runtime: Handle,
    channels: SharedPeers,
    links: Arc<Mutex<BTreeMap<(NodeId, Purpose), Link>>>,
}

impl Peers {
    pub(crate) fn new(runtime: Handle, channels: SharedPeers) -> Self {
        Self { runtime, channels, links: Arc::default() }
    }

    pub(crate) fn channels(&self) -> &SharedPeers {
        &self.channels
    }

    /// The link to `peer`, started when first asked for.
    pub(crate) fn link(&self, peer: NodeId, purpose: Purpose) -> Link {
        let start = || Link::start(&self.runtime, self.channels.clone(), peer, purpose);
        self.links.lock().entry((peer, purpose)).or_insert_with(start).clone()
    }

    /// Ends all links. Calls that are waiting fail.
    pub(crate) fn close(&self) {
        self.links.lock().clear();
    }
}
