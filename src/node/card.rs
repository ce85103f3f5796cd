//! What a node says of itself: where it is reached, by whom it is run.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rookery_cluster::ids::NodeLife;
use rookery_cluster::membership;
use rookery_cluster::metadata::{Addresses, Level, NodeCard};

use crate::config::Config;

/// The peer port as others reach it.
pub fn advertised(config: &Config) -> String {
    config.cluster.advertised(config.cluster.listen)
}

/// Where the node is reached.
pub fn addresses(config: &Config) -> Addresses {
    let peer = advertised(config);
    let at = |listener: Option<SocketAddr>| listener.map(|at| client_address(&peer, at)).unwrap_or_default();
    Addresses {
        swim: peer.clone(),
        mqtt: at(config.listeners.mqtt.first().copied()),
        mqtts: at(config.listeners.mqtts.first().copied()),
        ws: at(config.listeners.ws.first().copied()),
        wss: at(config.listeners.wss.first().copied()),
        grpc: at(Some(config.api.grpc)),
        http: at(config.api.http),
        peer,
    }
}

/// Where others reach a listener: at the advertised host, if it listens everywhere.
fn client_address(peer: &str, at: SocketAddr) -> String {
    match peer.rsplit_once(':') {
        Some((host, _)) if at.ip().is_unspecified() => format!("{host}:{}", at.port()),
        _ => at.to_string(),
    }
}

/// What it registers with.
pub fn card(config: &Config) -> NodeCard {
    NodeCard {
        addresses: addresses(config),
        region: config.node.region.clone(),
        zone: config.node.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        level: Level::LATEST,
    }
}

/// What it gossips under `life`.
pub fn gossip(config: &Config, life: NodeLife) -> membership::NodeCard {
    let addresses = addresses(config);
    let known = [("peer", addresses.peer), ("mqtts", addresses.mqtts), ("grpc", addresses.grpc)];
    membership::NodeCard {
        life,
        revision: 1,
        region: config.node.region.clone(),
        zone: config.node.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: known.map(|(purpose, at)| (purpose.to_owned(), at)).into_iter().collect::<BTreeMap<_, _>>(),
    }
}
