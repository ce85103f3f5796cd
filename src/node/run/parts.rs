//! Parts of a node that its run puts together.

use rookery_cluster::ids::NodeId;

use super::super::figures::NodeFigures;
use super::*;

/// What the workers publish below `$SYS`, if they do.
pub(super) fn figures(
    config: &Config,
    node: NodeId,
    clock: &SharedClock,
    metadata: &Metadata,
    store: &Store,
) -> Option<NodeFigures> {
    let (clock, metadata, store) = (clock.clone(), metadata.clone(), store.clone());
    let (workers, since, watched) = (config.node.workers, clock.now(), Arc::default());
    let interval = config.limits.sys_interval?;
    Some(NodeFigures { interval, workers, node, clock, since, metadata, store, watched })
}

impl Node {
    /// The store of retained messages as this life begins with it.
    pub(super) fn retained(&self, view: &State) -> Store {
        let store = &self.stores.retained;
        if store.stale() && view.nodes().count() > 1 {
            tracing::warn!("this node was away for long: its retained messages are copied afresh");
            store.set_aside();
        }
        let gone = store.brokers().into_iter().filter(|broker| view.broker(*broker).is_none());
        gone.for_each(|broker| store.remove(broker));
        store.clone()
    }

    pub(super) async fn membership(&self, life: NodeLife) -> Result<(Members, JoinHandle<()>), NodeError> {
        let listen = self.config.cluster.listen;
        let seeds = self
            .metadata
            .view()
            .nodes()
            .filter(|n| n.id != self.files.node)
            .filter_map(|n| n.card.addresses.swim.parse().ok())
            .collect();
        let swim = SwimConfig {
            life,
            bind: listen,
            advertised: card::advertised(&self.config).parse().ok(),
            card: card::gossip(&self.config, life),
            seeds,
            keys: Keyring::new(1, &self.files.secrets.cluster_key),
        };
        let net: SharedNet = Arc::new(TokioNet);
        Ok(swim::start(swim, net, self.clock.clone(), self.rng.clone()).await?)
    }

    pub(super) fn removal(&self) -> Removal {
        Removal {
            files: self.files.clone(),
            data: self.config.node.data_dir.clone(),
            address: card::advertised(&self.config),
            ca: self.ca,
            clock: self.clock.clone(),
            lease: self.lease.clone(),
            metadata: self.metadata.clone(),
        }
    }
}
