//! R6: a client ID belongs to one slot, and its slot to one group, as every node sees it.

use super::*;
use crate::world::BROKER;

#[test]
fn r06_all_nodes_agree_where_a_client_belongs() {
    let mut s = Scene::new(3);
    let mut groups = std::collections::BTreeSet::new();
    for n in 0..100 {
        let client = format!("client-{n}");
        let all = [ONE, TWO, THREE].map(|node| s.0.node(node).meta.group_of_client(BROKER, &client));
        assert!(all.iter().all(|group| *group == all[0]));
        groups.insert(all[0]);
    }
    assert_eq!(groups.len() as u32, s.0.cfg.shards, "all shards are used");
    s.end();
}
