//! Claims that rest for the next connection of their client, and claims that are given up before their answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registry::REST;
use super::streams::LINGER;
use super::testing::{BROKER, Node, SHARDS, World};
use crate::handle::{ClaimEvent, Leave};
use crate::ids::{Epoch, GroupId, Nonce};
use crate::limits::CLAIM_RESEND;

fn proposed(world: &World) -> Vec<usize> {
    world.together.lock().iter().map(|(_, commands)| *commands).collect()
}

fn revoked(nonce: u64, epoch: Epoch) -> ClaimEvent {
    ClaimEvent::Revoked { broker: BROKER, client: "c".into(), nonce: Nonce(nonce), epoch }
}

/// Two nodes, on the second of which a client went on with its claim.
async fn inherited() -> (Arc<World>, Node, Node, Epoch) {
    let world = World::new();
    let (one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    let epoch = two.granted().await;
    two.release("c", epoch, 1);
    two.claim("c", 2);
    assert_eq!(two.granted().await, epoch);
    (world, one, two, epoch)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_at_once_goes_on_with_its_claim() {
    let (world, mut one, two, epoch) = inherited().await;
    assert_eq!((proposed(&world), two.sessions.counts()), (vec![1], (1, 0)));
    assert_eq!(two.sessions.stats().inherited.load(Ordering::Relaxed), 1);
    // Long after its first connection ended, it is still served.
    tokio::time::sleep(REST * 4).await;
    two.release("c", epoch, 2);
    assert_eq!(proposed(&world), [1]);
    // And when it is not any more, it is free soon.
    tokio::time::sleep(REST * 2 + LINGER * 2).await;
    assert_eq!((proposed(&world), two.sessions.counts()), (vec![1, 1], (0, 0)));
    one.claim("c", 1);
    assert!(one.granted().await > epoch);
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_what_was_gone_on_with_asks_once_more() {
    let (world, mut one, mut two, epoch) = inherited().await;
    let began = world.clock.now();
    one.claim("c", 1);
    let ClaimEvent::Revoked { nonce: Nonce(2), epoch: renewed, .. } = two.next().await else { panic!("no revocation") };
    assert!(renewed > epoch);
    two.release("c", epoch, 2);
    assert!(one.granted().await > renewed);
    assert!(world.clock.now().since(began) < CLAIM_RESEND, "no timer was waited for");
    assert_eq!(two.sessions.counts(), (0, 0));
}

/// Both may happen in any order; in none is the new connection told of a rival that had gone before it came.
#[tokio::test(start_paused = true)]
async fn a_rival_that_had_gone_before_ends_no_connection() {
    for micros in (0..6000).step_by(250) {
        let world = World::new();
        let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
        two.claim("c", 1);
        let epoch = two.granted().await;
        two.release("c", epoch, 1);
        one.claim("c", 1);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        one.sessions.abandon(BROKER, "c".into(), Nonce(1));
        two.claim("c", 2);
        two.granted().await;
        tokio::time::sleep(CLAIM_RESEND * 4).await;
        assert_eq!(two.events.try_recv().ok(), None, "after {micros} us");
        assert_eq!((one.sessions.counts(), two.sessions.counts()), ((0, 0), (1, 0)));
        // It can still be taken over.
        one.claim("c", 2);
        let ClaimEvent::Revoked { nonce: Nonce(2), epoch, .. } = two.next().await else { panic!("no revocation") };
        two.release("c", epoch, 2);
        one.granted().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_released_while_it_is_renewed_is_free() {
    for micros in (0..8000).step_by(250) {
        let (world, mut one, two, epoch) = inherited().await;
        let began = world.clock.now();
        one.claim("c", 1);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        two.release("c", epoch, 2);
        one.granted().await;
        assert!(world.clock.now().since(began) < CLAIM_RESEND, "after {micros} us");
        assert_eq!((one.sessions.counts(), two.sessions.counts()), ((1, 0), (0, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_to_leave_something_claims_anew() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    two.claim("c", 1);
    let first = two.granted().await;
    two.release("c", first, 1);
    let began = world.clock.now();
    two.claim_session("c", 2, 60);
    let second = two.granted().await;
    assert!(second > first && world.clock.now().since(began) < LINGER, "the release went before the claim");
    // What has a session does not rest, though it left nothing.
    two.release("c", second, 2);
    two.claim("c", 3);
    let third = two.granted().await;
    assert!(third > second);
    // Nor what was lost.
    let lost = Leave { fire_will: true, ..Leave::default() };
    two.sessions.release(BROKER, "c".into(), third, Nonce(3), lost);
    two.claim("c", 4);
    let fourth = two.granted().await;
    assert!(fourth > third);
    // Nor what somebody waits for.
    one.claim("c", 1);
    assert_eq!(two.next().await, revoked(4, fourth));
    two.release("c", fourth, 4);
    two.claim("c", 5);
    one.granted().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_connection_goes_before_the_answer_leaves_nothing_behind() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, 1).await, Node::start(&world, 2).await);
    // It has not left, is under way, or was answered, when the connection goes.
    for micros in (0..6000).step_by(250) {
        two.claim("c", micros + 1);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        two.sessions.abandon(BROKER, "c".into(), Nonce(micros + 1));
        let began = world.clock.now();
        one.claim("c", micros + 1);
        let epoch = one.granted().await;
        assert!(world.clock.now().since(began) < CLAIM_RESEND, "after {micros} us");
        assert_eq!(two.sessions.counts(), (0, 0));
        while let Ok(event) = two.events.try_recv() {
            assert!(matches!(event, ClaimEvent::Granted { .. }), "{event:?}");
        }
        one.release("c", epoch, micros + 1);
    }
    // Nor where nobody answers.
    (1..=SHARDS).for_each(|g| world.set_leader(GroupId(g), None));
    two.claim("c", 10_000);
    tokio::time::sleep(CLAIM_RESEND).await;
    two.sessions.abandon(BROKER, "c".into(), Nonce(10_000));
    assert_eq!(two.sessions.counts(), (0, 0));
}
