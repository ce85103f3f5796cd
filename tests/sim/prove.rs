//! The simulator is proven by bugs put back into its glue: each must be found within so many seeds. A simulator
//! that is silent about these would be silent about anything.

use crate::converge;
use crate::faults::Mood;
use crate::world::Sabotage;

/// Runs seeds until one finds the bug, in a mood that suits it.
fn hunt(sabotage: Sabotage, mood: Mood, seeds: u64, promise: &str) {
    hunt_with(sabotage, mood, seeds, 0, promise);
}

/// The same among clients that keep their sessions.
fn hunt_kept(sabotage: Sabotage, mood: Mood, seeds: u64, promise: &str) {
    hunt_with(sabotage, mood, seeds, 3, promise);
}

fn hunt_with(sabotage: Sabotage, mood: Mood, seeds: u64, keepers: u64, promise: &str) {
    let found = (0..seeds).find_map(|seed| {
        let world = converge::run_with(seed, mood, sabotage, keepers);
        world.oracle.broken.into_iter().find(|what| what.contains(promise)).map(|what| (seed, what))
    });
    match found {
        Some((seed, what)) => println!("{sabotage:?}: found by seed {seed}: {what}"),
        None => panic!("{sabotage:?} was not found in {seeds} seeds"),
    }
}

#[test]
fn finds_a_claim_released_before_0x8e_was_sent() {
    hunt(Sabotage::ReleaseBeforeFlush, Mood::Claims, 30, "P3: ");
}

#[test]
fn finds_interest_acknowledged_before_the_workers_saw_it() {
    hunt(Sabotage::SeenBeforeWorkers, Mood::Streams, 500, "P4: ");
}

#[test]
fn finds_a_puback_that_does_not_wait_for_peers() {
    hunt(Sabotage::AcceptedWhenSent, Mood::Streams, 30, "P4: ");
}

#[test]
fn finds_a_lease_without_margin() {
    hunt(Sabotage::LeaseWithoutMargin, Mood::Leases, 500, "P3: ");
}

#[test]
fn finds_a_deposed_leader_that_renews() {
    hunt(Sabotage::RenewUnconfirmed, Mood::Leases, 100, "P3: ");
}

#[test]
fn finds_a_stream_that_forgets_what_it_has() {
    hunt(Sabotage::ForgetInbox, Mood::Streams, 500, "P7: ");
}

#[test]
fn finds_workers_that_hear_of_no_revocation() {
    hunt(Sabotage::NoRecheck, Mood::Claims, 100, "P2: ");
}

#[test]
fn finds_proposals_without_numbers() {
    hunt(Sabotage::NoNumbers, Mood::Claims, 100, "P3: ");
}

#[test]
fn finds_a_claim_that_takes_from_anybody() {
    hunt(Sabotage::TakeFromAnybody, Mood::Claims, 2000, "P3: ");
}

#[test]
fn finds_a_claim_that_is_gone_on_with_though_given_back() {
    hunt(Sabotage::GoOnAnyhow, Mood::Claims, 30, "P3: ");
}

#[test]
fn finds_a_claim_that_is_not_renewed() {
    hunt(Sabotage::NoRenewal, Mood::Claims, 2000, "P3: ");
}

#[test]
fn finds_two_workers_that_serve_a_shared_subscription() {
    hunt(Sabotage::AllServeShares, Mood::Shared, 30, "shared: ");
}

#[test]
fn finds_shared_messages_that_nobody_serves() {
    hunt(Sabotage::NobodyServesShares, Mood::Shared, 30, "shared: nobody");
}

#[test]
fn finds_a_retained_message_told_before_it_is_on_disk() {
    hunt(Sabotage::StoredWhenTaken, Mood::Retained, 30, "P9: ");
}

#[test]
fn finds_a_clock_that_is_trusted() {
    hunt(Sabotage::TrustClocks, Mood::Retained, 30, "R15: ");
}

#[test]
fn finds_a_node_that_answers_before_it_has_copied() {
    hunt(Sabotage::AnswerAtOnce, Mood::Retained, 100, "P9: ");
}

#[test]
fn finds_pages_that_are_not_renewed() {
    hunt(Sabotage::StalePages, Mood::Retained, 400, "P9: ");
}

#[test]
fn finds_a_session_that_moves_without_a_fence() {
    hunt_kept(Sabotage::NoFence, Mood::Streams, 300, "P5: ");
}

#[test]
fn finds_a_queue_that_does_not_move() {
    hunt_kept(Sabotage::ForgetQueue, Mood::Claims, 100, "P5: ");
}

#[test]
fn finds_a_suback_that_does_not_wait_for_the_shard() {
    hunt_kept(Sabotage::PersistNothing, Mood::Claims, 100, "P5: ");
}

#[test]
fn finds_messages_that_are_not_known_again() {
    hunt_kept(Sabotage::NoMarks, Mood::Claims, 300, "P6: ");
}

#[test]
fn finds_a_will_that_is_not_confirmed() {
    hunt_kept(Sabotage::NoConfirmation, Mood::Claims, 100, "P10: ");
}

#[test]
fn finds_a_will_after_a_goodbye() {
    hunt_kept(Sabotage::WillAnyhow, Mood::Claims, 100, "P10: ");
}

#[test]
fn finds_a_session_that_ends_with_its_connection() {
    hunt_kept(Sabotage::EndSession, Mood::Claims, 100, "session: ");
}
