//! Knowing that this node has no place in its cluster any more: it was removed, or another process runs as it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::ids::NodeLife;
use rookery_cluster::join::{self, NodeFiles, Standing};
use rookery_cluster::leases::driver::Lease;
use rookery_cluster::limits;
use rookery_cluster::metadata::Metadata;
use rookery_cluster::net::TokioNet;
use rookery_cluster::pki::CaHash;

use super::NodeError;

/// How often a node without a lease asks others how it stands: they let it in no more if it was removed.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Another process has the lease if it is live, from another address, this many times running: nobody renews it for
/// that long for a process that has gone.
const ASK_TIMES: u32 = 6;
const _: () = assert!(ASK_EVERY.as_millis() * ASK_TIMES as u128 > 2 * limits::LEASE.as_millis());

/// What tells it.
pub(super) struct Removal {
    pub files: Arc<NodeFiles>,
    pub data: PathBuf,
    /// This process's peer port, as it registers it.
    pub address: String,
    pub ca: CaHash,
    pub clock: SharedClock,
    pub lease: Lease,
    pub metadata: Metadata,
}

impl Removal {
    /// Resolves with the reason once this node was removed, is being removed and nothing of it is needed any more, or
    /// cannot register because another process is registered as this node.
    pub(super) async fn happened(self) -> NodeError {
        tokio::select! {
            () = self.seen() => self.removed(),
            why = self.told() => why,
        }
    }

    fn removed(&self) -> NodeError {
        NodeError::Removed { node: self.files.node, data: self.data.clone() }
    }

    async fn seen(&self) {
        let own = self.files.node;
        let mut views = self.metadata.watch();
        if views.wait_for(|view| view.was_removed(own) || view.is_drained(own)).await.is_err() {
            std::future::pending().await
        }
    }

    async fn told(&self) -> NodeError {
        let mut others = 0;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let mut other = None;
            for at in self.addresses() {
                // With a lease it is a member, and the one that is registered.
                if self.lease.may_serve() {
                    break;
                }
                let asked = join::standing(&TokioNet, self.clock.clone(), &at, self.ca, self.files.node);
                match asked.await {
                    Ok(Standing::Removed) => return self.removed(),
                    Ok(Standing::Member { incarnation, live: true, address }) if address != self.address => {
                        other = Some(NodeLife { node: self.files.node, incarnation });
                    }
                    _ => {}
                }
            }
            others = if other.is_some() { others + 1 } else { 0 };
            if let Some(other) = other.filter(|_| others >= ASK_TIMES) {
                return NodeError::Superseded { other, data: self.data.clone() };
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
