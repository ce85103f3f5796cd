use std::sync::Arc;

use super::*;
use crate::clock::SystemClock;
use crate::ids::{Incarnation, NodeId};
use crate::membership::MemberState;
use crate::net::TokioNet;
use crate::rng::SystemRng;

async fn node(id: u64, key: [u8; 32], seeds: Vec<SocketAddr>) -> Members {
    let config = SwimConfig {
        life: NodeLife { node: NodeId(id), incarnation: Incarnation(1) },
        bind: "127.0.0.1:0".parse().unwrap(),
        advertised: None,
        card: NodeCard { zone: format!("zone-{id}"), ..NodeCard::default() },
        seeds,
        keys: Keyring::new(1, &key),
    };
    start(config, Arc::new(TokioNet), Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap().0
}

async fn until(node: &Members, holds: impl FnMut(&Arc<[Member]>) -> bool) {
    node.watch().wait_for(holds).await.unwrap();
}

fn is(list: &[Member], id: u64, state: MemberState) -> bool {
    list.iter().any(|m| m.life.node == NodeId(id) && m.state == state)
}

#[tokio::test]
async fn nodes_meet_over_udp_and_see_one_leave() {
    let one = node(1, [1; 32], Vec::new()).await;
    let two = node(2, [1; 32], vec![one.local_addr()]).await;
    let complete = |list: &Arc<[Member]>| list.len() == 2 && list.iter().all(|m| m.card.is_some());
    until(&one, complete).await;
    until(&two, complete).await;
    two.leave().await;
    until(&one, |list| is(list, 2, MemberState::Down)).await;
}

#[tokio::test]
async fn a_node_with_another_key_is_not_heard() {
    let one = node(1, [1; 32], Vec::new()).await;
    let stranger = node(2, [2; 32], vec![one.local_addr()]).await;
    let friend = node(3, [1; 32], Vec::new()).await;
    while one.stats().unauthentic.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    friend.announce(one.local_addr());
    until(&one, |list| is(list, 3, MemberState::Up)).await;
    assert!(!is(&one.members(), 2, MemberState::Up));
    assert_eq!(stranger.members().len(), 1);
}
