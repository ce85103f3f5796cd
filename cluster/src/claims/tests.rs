use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registry::REST;
use super::streams::LINGER;
use super::testing::{AtOnce, BROKER, Node, SHARDS, World};
use crate::control::await_everywhere;
use crate::handle::{ClaimEvent, ClaimRefusal, Keep, Leave};
use crate::ids::{Epoch, GroupId, NodeId, Nonce, WorkerId};
use crate::limits::{CLAIM_RESEND, LEASE};

fn revoked(client: &str, nonce: u64, epoch: Epoch) -> ClaimEvent {
    ClaimEvent::Revoked { broker: BROKER, client: client.into(), nonce: Nonce(nonce), epoch }
}

fn refused(client: &str, nonce: u64, why: ClaimRefusal) -> ClaimEvent {
    ClaimEvent::Refused { broker: BROKER, client: client.into(), nonce: Nonce(nonce), why }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_between_nodes_waits_for_no_timer() {
    let world = World::new();
    let (mut one, mut two, mut three) =
        (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    let began = world.clock.now();
    two.claim("c", 1);
    let first = two.granted().await;
    three.claim("c", 1);
    assert_eq!(two.next().await, revoked("c", 1, first));
    two.release("c", first, 1);
    let second = three.granted().await;
    assert!(second > first);
    one.claim("c", 1);
    assert_eq!(three.next().await, revoked("c", 1, second));
    three.release("c", second, 1);
    assert!(one.granted().await > second);
    assert!(world.clock.now().since(began) < CLAIM_RESEND);
    assert_eq!(one.sessions.counts(), (1, 0));
    assert_eq!((two.sessions.counts(), three.sessions.counts()), ((0, 0), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_travels_with_the_next_claim() {
    let world = World::new();
    let mut one = Node::start(&world, 1).await;
    let proposed = |world: &World| world.together.lock().iter().map(|(_, commands)| *commands).collect::<Vec<_>>();
    one.claim("c", 1);
    let epoch = one.granted().await;
    // What rests is given back after a while, and then waits for company.
    one.release("c", epoch, 1);
    while one.sessions.rests() > 0 {
        tokio::time::sleep(LINGER / 4).await;
    }
    assert_eq!(proposed(&world), [1]);
    one.claim("c", 2);
    one.claim("d", 3);
    let (again, other) = (one.granted().await, one.granted().await);
    assert_eq!(proposed(&world), [1, 3]);
    // Without a next claim it goes by itself.
    one.release("c", again, 2);
    one.release("d", other, 3);
    tokio::time::sleep(REST * 2 + LINGER * 2).await;
    assert_eq!(proposed(&world), [1, 3, 2]);
    assert_eq!(one.sessions.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_lies_there_leaves_at_once_when_somebody_waits_for_it() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    let epoch = two.granted().await;
    let began = world.clock.now();
    two.release("c", epoch, 1);
    one.claim("c", 1);
    one.granted().await;
    assert!(world.clock.now().since(began) < LINGER);
}

#[tokio::test(start_paused = true)]
async fn claims_that_come_while_one_is_under_way_are_proposed_together() {
    let world = World::new();
    let mut one = Node::start(&world, 1).await;
    one.claim("c", 1);
    while world.together.lock().is_empty() {
        one.claim("d", 2);
        (3..500).for_each(|nonce| one.claim(&format!("{nonce:04}d"), nonce));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for _ in 1..500 {
        one.granted().await;
    }
    let proposed = world.together.lock().clone();
    assert!(proposed.len() < 20 && proposed.iter().map(|(_, commands)| commands).sum::<usize>() == 499, "{proposed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_released_is_revoked_again() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    let epoch = two.granted().await;
    one.claim("c", 1);
    for _ in 0..4 {
        assert_eq!(two.next().await, revoked("c", 1, epoch));
    }
    two.release("c", epoch, 1);
    one.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_claims_are_free_once_its_lease_has_run_out() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    two.granted().await;
    two.kill(&world);
    one.claim("c", 1);
    one.granted().await;
    assert!(world.clock.now() >= two.lease.serving_until());
    one.claim("other", 2);
    one.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_partitioned_node_stops_before_its_claims_are_free_and_comes_back_as_another_life() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    two.granted().await;
    let life = two.lease.life().unwrap();
    world.cut(NodeId(2));
    one.claim("c", 1);
    two.lease.status().wait_for(|s| !s.held).await.unwrap();
    assert_eq!(one.sessions.counts(), (0, 1), "lapsed before anybody else is granted");
    one.granted().await;
    world.mend(NodeId(2));
    two.lease.status().wait_for(|s| s.held && s.life > Some(life)).await.unwrap();
    assert_eq!(two.sessions.counts(), (0, 0));
    two.claim("d", 2);
    two.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_and_the_others_are_not_locked_out() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    two.granted().await;
    two.claim("d", 2);
    two.granted().await;
    two.kill(&world);
    let mut reborn = Node::start(&world, 2).await;
    let began = world.clock.now();
    reborn.claim("c", 1);
    reborn.granted().await;
    one.claim("d", 1);
    one.granted().await;
    assert!(world.clock.now().since(began) < CLAIM_RESEND);
}

#[tokio::test(start_paused = true)]
async fn a_newer_claim_refuses_the_one_that_waits() {
    let world = World::new();
    let (mut one, mut two, mut three) =
        (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    one.claim("c", 1);
    let epoch = one.granted().await;
    two.claim("c", 1);
    assert_eq!(one.next().await, revoked("c", 1, epoch));
    three.claim("c", 1);
    assert_eq!(two.next().await, refused("c", 1, ClaimRefusal::Superseded));
    one.release("c", epoch, 1);
    three.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_revokes_what_the_old_one_could_not() {
    let world = World::new();
    let (mut one, mut two, _three) =
        (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    two.claim("c", 1);
    let epoch = two.granted().await;
    world.deaf.lock().insert(NodeId(2));
    one.claim("c", 1);
    while one.sessions.stats().revocations_resent.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.deaf.lock().clear();
    (1..=SHARDS).for_each(|g| world.set_leader(GroupId(g), Some(NodeId(3))));
    assert_eq!(two.next().await, revoked("c", 1, epoch));
    two.release("c", epoch, 1);
    one.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_not_heard_of_is_asked_for() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    one.claim("c", 1);
    let epoch = one.granted().await;
    two.claim("c", 1);
    assert_eq!(one.next().await, revoked("c", 1, epoch));
    world.deaf.lock().insert(NodeId(2));
    one.release("c", epoch, 1);
    two.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_connection_is_gone_is_released() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    one.claim("c", 1);
    let epoch = one.granted().await;
    two.claim("c", 1);
    two.claim("d", 2);
    two.granted().await;
    assert_eq!(one.next().await, revoked("c", 1, epoch));
    two.sessions.abandon(BROKER, "c".into(), Nonce(1));
    one.release("c", epoch, 1);
    one.claim("c", 2);
    one.granted().await;
    assert_eq!(two.sessions.counts(), (1, 0));
    assert!(two.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_never_releases_loses_its_nodes_lease() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    two.granted().await;
    let until = loop {
        one.claim("c", world.clock.now().0.as_nanos() as u64);
        let before = two.lease.serving_until();
        // Each claim gives up after its time; the node is reported in the meantime.
        match one.next().await {
            ClaimEvent::Granted { .. } => break before,
            ClaimEvent::Refused { why, .. } => assert_eq!(why, ClaimRefusal::Unavailable),
            other => panic!("nothing is held here: {other:?}"),
        }
    };
    assert!(world.clock.now() >= until);
    assert_eq!(one.lease.stats().reported_stuck.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_claim_is_refused_in_the_end() {
    let world = World::new();
    let mut one = Node::start(&world, 1).await;
    (1..=SHARDS).for_each(|g| world.set_leader(GroupId(g), None));
    one.claim("c", 1);
    assert_eq!(one.next().await, refused("c", 1, ClaimRefusal::Unavailable));
    (1..=SHARDS).for_each(|g| world.set_leader(GroupId(g), Some(NodeId(1))));
    one.claim("c", 2);
    one.granted().await;
}

#[tokio::test(start_paused = true)]
async fn many_takeovers_at_once() {
    const CLIENTS: u64 = 500;
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    for n in 0..CLIENTS {
        one.claim(&format!("c{n}"), n);
    }
    for _ in 0..CLIENTS {
        one.granted().await;
    }
    for n in 0..CLIENTS {
        two.claim(&format!("c{n}"), n);
    }
    for _ in 0..CLIENTS {
        let ClaimEvent::Revoked { broker, client, nonce, epoch } = one.next().await else { panic!("not revoked") };
        one.sessions.release(broker, client, epoch, nonce, Leave::default());
        two.granted().await;
    }
    assert_eq!((one.sessions.counts(), two.sessions.counts()), ((0, 0), (500, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_a_change_of_leader_but_not_a_long_absence() {
    let world = World::new();
    let (_one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    let life = two.lease.life();
    world.set_leader(GroupId::METADATA, None);
    tokio::time::sleep(LEASE / 2).await;
    assert!(two.lease.may_serve());
    world.set_leader(GroupId::METADATA, Some(NodeId(2)));
    let until = two.lease.serving_until();
    while two.lease.serving_until() == until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.set_leader(GroupId::METADATA, None);
    two.lease.status().wait_for(|s| !s.held).await.unwrap();
    assert!(!two.lease.may_serve());
    world.set_leader(GroupId::METADATA, Some(NodeId(1)));
    two.lease.status().wait_for(|s| s.held).await.unwrap();
    assert_eq!(two.lease.life(), life, "nobody ended it, so it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_broker_has_so_many_sessions_and_filters() {
    let world = World::new();
    let mut one = Node::start(&world, 1).await;
    world.most_sessions.store(1, Ordering::Relaxed);
    one.claim_session("c", 1, 100);
    let epoch = one.granted().await;
    one.claim_session("d", 2, 100);
    one.claim_session("e", 3, 100);
    one.claim_session("f", 4, 0);
    for nonce in [2, 3] {
        let client = if nonce == 2 { "d" } else { "e" };
        assert_eq!(one.next().await, refused(client, nonce, ClaimRefusal::Full));
    }
    one.granted().await;
    assert_eq!(one.sessions.stats().sessions_refused.load(Ordering::Relaxed), 2);
    // One session may have all bytes that a broker may, 1 GiB: more than anybody proposes here.
    one.sessions.persist(BROKER, "c".into(), epoch, Nonce(1), 7, vec![("t".into(), Some(1))]);
    assert_eq!(one.next().await, ClaimEvent::Persisted { nonce: Nonce(1), token: 7, stored: true });
}

#[tokio::test(start_paused = true)]
async fn what_a_deleted_broker_left_is_forgotten() {
    let world = World::new();
    let (mut one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    for (client, nonce) in [("c", 1), ("dd", 2)] {
        one.claim_session(client, nonce, 100);
        let epoch = one.granted().await;
        let leave = Leave { keep: Some(Keep { expiry: Some(u32::MAX), home: None }), fire_will: false };
        one.sessions.release(BROKER, client.into(), epoch, Nonce(nonce), leave);
    }
    let kept = |node: &Node| node.sessions.0.board.views().iter().filter(|(_, view)| !view.tallies.is_empty()).count();
    while kept(&two) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(4 * LEASE).await;
    assert_eq!(kept(&two), 2, "the broker is there");
    world.deleted.lock().insert(BROKER);
    while kept(&two) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stands_still_costs_the_lease() {
    let world = World::new();
    let (_one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    let life = two.lease.life();
    let _still = two.lease.worker_progress(WorkerId(0));
    two.lease.status().wait_for(|s| s.life > life).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_force_everywhere_or_its_node_has_ended() {
    let world = World::new();
    let (one, _two, three) = (Node::start(&world, 1).await, Node::start(&world, 2).await, Node::start(&world, 3).await);
    let index = world.write();
    assert_eq!(await_everywhere(one.id, &one.meta, &one.control, &AtOnce, index).await, Ok(()));
    three.kill(&world);
    assert_eq!(await_everywhere(one.id, &one.meta, &one.control, &AtOnce, index).await, Ok(()));
    assert!(world.clock.now() >= three.lease.serving_until());
    assert_eq!(one.meta.live().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_itself_keeps_nobody_waiting() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    two.granted().await;
    let began = world.clock.now();
    two.lease.end().await;
    one.claim("c", 1);
    one.granted().await;
    assert!(world.clock.now().since(began) < CLAIM_RESEND);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_another_process_ended_is_not_followed_by_one_of_this() {
    let world = World::new();
    let (_one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    let mut status = two.lease.status();
    let other = two.meta.register().await.unwrap();
    let ended = *status.wait_for(|s| s.superseded.is_some()).await.unwrap();
    assert_eq!((ended.superseded, ended.life, ended.held), (Some(other), None, false));
    tokio::time::sleep(4 * LEASE).await;
    assert_eq!(two.meta.newest(NodeId(2)), Some(other), "it registers no more");
    assert!(!two.lease.may_serve());
}

#[tokio::test(start_paused = true)]
async fn a_drained_nodes_lease_runs_out() {
    let world = World::new();
    let (one, two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    let life = two.lease.life().unwrap();
    world.drained.lock().insert(NodeId(2));
    let mut status = two.lease.status();
    status.wait_for(|s| !s.held).await.unwrap();
    assert!(!one.meta.has_ended(life), "it stops before its claims are free");
    while !one.meta.has_ended(life) {
        one.meta.changed(one.meta.applied()).await;
    }
}
