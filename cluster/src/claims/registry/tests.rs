use super::*;
use crate::ids::{Incarnation, NodeId};

fn begin(registry: &mut Registry<()>, broker: u128, nonce: u64) -> Begin {
    let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
    let key = ClaimKey { broker: BrokerId(broker), client: format!("c{nonce}").as_str().into() };
    registry.begin(key, Claimant { life, nonce: Nonce(nonce) }, WorkerId(0), (), true)
}

#[test]
fn a_broker_whose_clients_wait_in_masses_leaves_room_for_others() {
    let mut registry = Registry::new(1000, 10, 10);
    let mut nonces = 0..;
    let mut flood = |registry: &mut Registry<()>, broker| {
        let mut began = 0;
        while begin(registry, broker, nonces.next().expect("endless")) == Begin::Ask {
            began += 1;
        }
        began
    };
    assert_eq!(flood(&mut registry, 1), 500);
    assert_eq!(flood(&mut registry, 2), 250);
    for broker in 3..10 {
        assert!(flood(&mut registry, broker) >= MIN_WAITING);
    }
    assert!(registry.counts().1 <= 1000 + 8 * MIN_WAITING);
    let all: Vec<Claimant> = registry.entries.values().map(|entry| entry.by).collect();
    all.into_iter().for_each(|by| drop(registry.remove(by)));
    assert_eq!((registry.counts(), registry.waiting_of.len()), ((0, 0), 0));
}
