//! What follows from a change of the metadata: addresses, live peers, replicas, and what workers must look at again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use rookery_cluster::claims::Board;
use rookery_cluster::forward::Forward;
use rookery_cluster::ids::{BrokerId, GroupId, Incarnation, NodeId};
use rookery_cluster::join::NodeFiles;
use rookery_cluster::metadata::{Change, Lease, State};
use rookery_cluster::net::TlsPeerChannels;
use rookery_cluster::retained::store::Store;
use rookery_raft::{GroupConfig, Groups};
use tokio::sync::watch;

use super::limits::{self, settings};
use super::services::NodeServices;
use super::stores::Stores;
use crate::broker::Mail;

/// Keeps peers' addresses as the metadata has them, and the shards' replicas as placed. Runs from the start, as a
/// node without addresses reaches nobody.
pub async fn replicas(
    own: NodeId,
    mut views: watch::Receiver<Arc<State>>,
    peers: Arc<TlsPeerChannels>,
    groups: Groups,
    board: Board,
    stores: Arc<Stores>,
) {
    loop {
        let view = views.borrow_and_update().clone();
        peers.retain(|node| !view.was_removed(node));
        let others = view.nodes().filter(|node| node.id != own && node.lease != Lease::Never);
        let mut known = Vec::new();
        for node in others {
            known.push(node.id);
            peers.set_address(node.id, node.card.addresses.peer.clone());
        }
        if !known.is_empty() {
            // Whoever leads cannot reach a node that came back at another address until it has said so, through any member.
            groups.set_route(GroupId::METADATA, known);
        }
        for (group, replicas) in view.all_replicas().iter() {
            place(own, *group, replicas, &groups, &board, &stores).await;
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

async fn place(own: NodeId, group: GroupId, replicas: &[NodeId], groups: &Groups, board: &Board, stores: &Stores) {
    if group == GroupId::METADATA {
        return;
    }
    if !replicas.contains(&own) {
        groups.set_route(group, replicas.to_vec());
        return;
    }
    if groups.has_replica(group) {
        return;
    }
    let config = GroupConfig::shard(group, stores.shards.group(group), Box::new(board.machine(group)));
    if let Err(error) = groups.add_group(config).await {
        tracing::error!(%group, %error, "a session shard's replica does not start here; the others go on without it");
    }
}

/// Writes down where the others are, as often as that changes, from `view` on, a linearized read: a node that is started
/// at another address, or after others have moved, finds them there before any of them finds it.
pub async fn whereabouts(
    mut view: Arc<State>,
    mut views: watch::Receiver<Arc<State>>,
    files: Arc<NodeFiles>,
    data: PathBuf,
) {
    let mut written = files.peers.clone();
    loop {
        let others = view.nodes().filter(|node| node.id != files.node && node.lease != Lease::Never);
        let now: BTreeMap<NodeId, String> = others.map(|node| (node.id, node.card.addresses.peer.clone())).collect();
        if now != written {
            let (files, data, peers) = (files.clone(), data.clone(), now.clone());
            match tokio::task::spawn_blocking(move || files.store_peers(&data, &peers)).await {
                Ok(Ok(())) => written = now,
                Ok(Err(error)) => tracing::warn!(%error, "where the other nodes are could not be written down"),
                Err(_) => return,
            }
        }
        if views.changed().await.is_err() {
            return;
        }
        let next = views.borrow_and_update().clone();
        if next.applied() > view.applied() {
            view = next;
        }
    }
}

/// Tells forwarding who is live and workers what changed. Starts from `view`, a linearized read.
pub async fn workers(
    own: NodeId,
    mut view: Arc<State>,
    mut views: watch::Receiver<Arc<State>>,
    forward: Forward,
    services: Arc<NodeServices>,
    retained: Store,
) {
    let mut members = members_of(&view);
    forward.set_members(members.clone());
    let mut live = live_peers(own, &view);
    forward.set_live(live.clone());
    view.brokers().for_each(|broker| retained.bound(broker.id, limits::retained(&broker.settings.limits)));
    services.told(view.applied());
    loop {
        if views.changed().await.is_err() {
            return;
        }
        let next = views.borrow_and_update().clone();
        if next.applied() <= view.applied() {
            continue;
        }
        let now_members = members_of(&next);
        if now_members != members {
            members = now_members;
            forward.set_members(members.clone());
        }
        let now_live = live_peers(own, &next);
        if now_live != live {
            live = now_live;
            forward.set_live(live.clone());
        }
        tell(&services, &retained, &next, &view);
        view = next;
    }
}

fn members_of(view: &State) -> BTreeSet<NodeId> {
    view.nodes().map(|node| node.id).collect()
}

fn live_peers(own: NodeId, view: &State) -> BTreeMap<NodeId, Incarnation> {
    view.live_set().iter().filter(|(node, _)| **node != own).map(|(node, life)| (*node, *life)).collect()
}

/// Tells the workers and the store what changed since `seen`.
fn tell(services: &NodeServices, retained: &Store, view: &State, seen: &State) {
    match view.changes_since(seen.applied()) {
        Some(changes) => changes.for_each(|change| match change {
            Change::Broker { id, restricts } => {
                reconfigure(services, retained, view, *id);
                if *restricts {
                    recheck(services, Some(*id));
                }
            }
            Change::BrokerDeleted(id) => {
                recheck(services, Some(*id));
                retained.remove(*id);
            }
            _ => {}
        }),
        None => {
            view.brokers().for_each(|broker| reconfigure(services, retained, view, broker.id));
            recheck(services, None);
            let gone = seen.brokers().map(|broker| broker.id).filter(|id| view.broker(*id).is_none());
            gone.for_each(|id| retained.remove(id));
        }
    }
    services.told(view.applied());
}

fn recheck(services: &NodeServices, broker: Option<BrokerId>) {
    for mailbox in services.mailboxes() {
        mailbox.post(Mail::Recheck { broker });
    }
}

fn reconfigure(services: &NodeServices, retained: &Store, view: &State, id: BrokerId) {
    let Some(broker) = view.broker(id) else { return };
    retained.bound(id, limits::retained(&broker.settings.limits));
    let settings = Arc::new(settings(&broker.settings.limits));
    for mailbox in services.mailboxes() {
        mailbox.post(Mail::Reconfigured { broker: id, settings: settings.clone() });
    }
}
