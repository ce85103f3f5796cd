//! The metadata handle as the port that leases and claims use.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;

use super::MetaPort;
use crate::consensus::{BoxFuture, ProposeError};
use crate::ids::{BrokerId, GroupId, Incarnation, LogIndex, NodeId, NodeLife};
use crate::metadata::{CommandBody, Metadata, NodeCard, Outcome};
use crate::sessions::Within;

/// [`MetaPort`] on the real metadata, for one node.
pub struct NodeMetadata {
    metadata: Metadata,
    node: NodeId,
    card: NodeCard,
    /// How often it registered without knowing its last life for sure.
    guesses: AtomicU32,
}

/// Guesses of the next life go this far, as a power of two.
const MAX_GUESS: u32 = 16;

impl NodeMetadata {
    /// For `node`, which registers with `card`.
    pub fn new(metadata: Metadata, node: NodeId, card: NodeCard) -> Self {
        Self { metadata, node, card, guesses: AtomicU32::new(0) }
    }

    async fn propose(&self, body: CommandBody) -> Result<(), ProposeError> {
        match self.metadata.propose(body).await? {
            (_, Outcome::Refused(refused)) => {
                tracing::info!(%refused, "the metadata group refused");
                Err(ProposeError::Unavailable)
            }
            _ => Ok(()),
        }
    }
}

impl MetaPort for NodeMetadata {
    fn group_of(&self, broker: BrokerId, client: &str) -> GroupId {
        self.metadata.view().group_of_client(broker, client)
    }

    fn within(&self, broker: BrokerId) -> Option<Within> {
        let view = self.metadata.view();
        let limits = &view.broker(broker)?.settings.limits;
        Some(Within::share(limits.sessions, limits.session_filter_bytes, view.shards()))
    }

    fn deleted(&self, brokers: Vec<BrokerId>) -> BoxFuture<'_, Result<Vec<BrokerId>, ProposeError>> {
        async move {
            let state = self.metadata.read().await?;
            Ok(brokers.into_iter().filter(|broker| state.broker(*broker).is_none()).collect())
        }
        .boxed()
    }

    fn live(&self) -> Vec<NodeLife> {
        let view = self.metadata.view();
        view.live_set().iter().map(|(node, incarnation)| NodeLife { node: *node, incarnation: *incarnation }).collect()
    }

    fn has_ended(&self, life: NodeLife) -> bool {
        self.metadata.view().is_expired(life)
    }

    fn newest(&self, node: NodeId) -> Option<NodeLife> {
        self.metadata.view().node(node).map(|record| record.life())
    }

    fn is_drained(&self, node: NodeId) -> bool {
        self.metadata.view().is_drained(node)
    }

    fn applied(&self) -> LogIndex {
        self.metadata.view().applied()
    }

    fn changed(&self, seen: LogIndex) -> BoxFuture<'_, ()> {
        let mut watch = self.metadata.watch();
        async move {
            if watch.wait_for(|state| state.applied() > seen).await.is_err() {
                // The state machine is gone: nothing will ever change.
                std::future::pending().await
            }
        }
        .boxed()
    }

    fn register(&self) -> BoxFuture<'_, Result<NodeLife, ProposeError>> {
        async move {
            // A node that has just joined gets the metadata only after it has registered: with its life the others
            // learn its address. Its first life is 1; if it was not the first, the proposal is refused.
            let known = self.metadata.view();
            let (view, ahead) = if known.node(self.node).is_none() {
                (known, 0)
            } else {
                match self.metadata.read().await {
                    Ok(view) => (view, 0),
                    // Nor does a node whose address has changed: the leader cannot bring it what is new. What it knows of
                    // itself may be old, and a life that is not newer is refused: so each try goes further.
                    Err(ProposeError::Unavailable) => (known, self.guesses.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => return Err(error),
                }
            };
            let last = view.node(self.node).map_or(Incarnation(0), |record| record.incarnation);
            let incarnation = Incarnation(last.0 + (1 << ahead.min(MAX_GUESS)));
            let card = self.card.clone();
            self.propose(CommandBody::RegisterIncarnation { node: self.node, incarnation, card }).await?;
            Ok(NodeLife { node: self.node, incarnation })
        }
        .boxed()
    }

    fn lead_leases(&self, term: u64) -> BoxFuture<'_, Result<(), ProposeError>> {
        self.propose(CommandBody::LeadLeases { term }).boxed()
    }

    fn expire(&self, life: NodeLife, term: Option<u64>) -> BoxFuture<'_, Result<(), ProposeError>> {
        let body = match term {
            Some(term) => CommandBody::ExpireLeaseInTerm { life, term },
            None => CommandBody::ExpireLease { life },
        };
        self.propose(body).boxed()
    }
}
