//! Knowing that this node was removed from its cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::join::{self, NodeFiles, Standing};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::net::TokioNet;
use rookery_cluster::pki::CaHash;

/// How often a node without a lease asks others whether it is still a member: they let it in no more if it is not.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What tells it.
pub(super) struct Removal {
    pub files: Arc<NodeFiles>,
    pub ca: CaHash,
    pub clock: SharedClock,
    pub lease: Lease,
    pub metadata: Metadata,
}

impl Removal {
    /// Resolves once this node was removed, or is being removed and nothing of it is needed any more.
    pub(super) async fn happened(self) {
        tokio::select! {
            () = self.seen() => {}
            () = self.told() => {}
        }
    }

    async fn seen(&self) {
        let own = self.files.node;
        let mut views = self.metadata.watch();
        if views.wait_for(|view| view.was_removed(own) || view.is_drained(own)).await.is_err() {
            std::future::pending().await
        }
    }

    async fn told(&self) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if self.lease.may_serve() {
                continue;
            }
            for at in self.addresses() {
                let asked = join::standing(&TokioNet, self.clock.clone(), &at, self.ca, self.files.node);
                if asked.await.is_ok_and(|standing| standing == Standing::Removed) {
                    return;
                }
            }
        }
    }

    /// Of the peer ports of other nodes, those known from the metadata and from when this node joined.
    fn addresses(&self) -> BTreeSet<String> {
        let view = self.metadata.view();
        let own = self.files.node;
        let known = view.nodes().filter(|n| n.id != own).map(|n| n.card.addresses.peer.clone());
        let first = self.files.peers.iter().filter(|(node, _)| **node != own).map(|(_, at)| at.clone());
        known.chain(first).filter(|at| !at.is_empty()).collect()
    }
}
