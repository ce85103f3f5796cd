//! R3: a new life ends the one before it.

use super::*;

/// A restarted node's clients come back at once, at any node, without waiting for a lease.
#[test]
fn r03_clients_of_a_restarted_node_come_back_at_once() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.up("bob", ONE);
    s.0.kill_node(ONE);
    s.run(100);
    s.0.start_node(ONE);
    s.must("it serves again", 3000, |w| w.all_serve());
    let (a, b) = (s.0.connect("ann", ONE), s.0.connect("bob", TWO));
    s.must("both are back", 500, |w| w.socks.get(a).up() && w.socks.get(b).up());
    s.end();
}

/// Restarting everything locks nobody out.
#[test]
fn r03_restarting_everything_locks_nobody_out() {
    let mut s = Scene::new(3);
    let clients = ["ann", "bob", "cid"];
    clients.iter().zip([ONE, TWO, THREE]).for_each(|(client, node)| {
        s.up(client, node);
    });
    [ONE, TWO, THREE].into_iter().for_each(|node| s.0.kill_node(node));
    s.run(200);
    [ONE, TWO, THREE].into_iter().for_each(|node| s.0.start_node(node));
    s.must("all serve again", 8000, |w| w.all_serve());
    let back: Vec<SockId> = clients.iter().map(|client| s.0.connect(client, TWO)).collect();
    s.must("all are back", 500, |w| back.iter().all(|id| w.socks.get(*id).up()));
    s.end();
}

/// A dead node's clients are free once its lease has run out, without a sweep.
#[test]
fn r03_claims_of_a_dead_node_are_free_by_comparison() {
    let mut s = Scene::new(3);
    s.up("ann", ONE);
    s.0.kill_node(ONE);
    let waits = s.0.connect("ann", TWO);
    s.must("served", 6000, |w| w.socks.get(waits).up());
    s.up("bob", THREE);
    s.end();
}
