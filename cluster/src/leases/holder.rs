//! A node's own lease.

use std::collections::VecDeque;

use crate::clock::Moment;
use crate::ids::{NodeLife, WorkerId};
use crate::limits::{LEASE, LEASE_ASKS, LEASE_DRIFT_MARGIN, LEASE_RENEW_EVERY};

/// What a node knows of its own lease. Ask with [`Holder::ask`] when [`Holder::next_ask`] comes; hand the answer
/// to [`Holder::granted`] with the moment that `ask` was called at. The next request does not wait for the last
/// answer: one that takes a second and a half on a loaded machine is as good as any.
#[derive(Clone, Debug)]
pub struct Holder {
    life: NodeLife,
    until: Moment,
    next: Moment,
    /// What the workers' counters stood at when the newest granted request was sent.
    proven: Vec<u64>,
    /// Requests without an answer: when each was sent, and what the counters stood at.
    asked: VecDeque<(Moment, Vec<u64>)>,
}

/// Whether to send a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Send it; the lease will count from now.
    Send,
    /// Do not: these workers have not moved since the last renewal (R4).
    Stuck(Vec<WorkerId>),
}

impl Holder {
    /// The lease of a life that was just registered: not held yet.
    pub fn new(life: NodeLife) -> Self {
        Self { life, until: Moment::default(), next: Moment::default(), proven: Vec::new(), asked: VecDeque::new() }
    }

    /// Whose lease.
    pub fn life(&self) -> NodeLife {
        self.life
    }

    /// The node may serve strictly before this moment. Never moves back.
    pub fn serving_until(&self) -> Moment {
        self.until
    }

    /// When to ask next.
    pub fn next_ask(&self) -> Moment {
        self.next
    }

    /// Whether to ask now, given each worker's counter of turns (new workers at the end).
    pub fn ask(&mut self, now: Moment, turns: &[u64]) -> Ask {
        self.next = now + LEASE_RENEW_EVERY;
        let stuck: Vec<WorkerId> = (0_u16..)
            .zip(turns.iter().zip(&self.proven))
            .filter(|(_, (turn, proven))| turn == proven)
            .map(|(worker, _)| WorkerId(worker))
            .collect();
        if !stuck.is_empty() {
            return Ask::Stuck(stuck);
        }
        if self.asked.len() >= LEASE_ASKS {
            self.asked.pop_front();
        }
        self.asked.push_back((now, turns.to_vec()));
        Ask::Send
    }

    /// The request sent at `sent` was granted.
    pub fn granted(&mut self, sent: Moment) {
        self.until = self.until.max(sent + (LEASE - LEASE_DRIFT_MARGIN));
        // One that a newer answer has overtaken proves nothing new, and is no longer listed.
        if let Some(at) = self.asked.iter().position(|(of, _)| *of == sent) {
            self.proven = self.asked.drain(..=at).next_back().map(|(_, turns)| turns).unwrap_or_default();
        }
    }

    /// The request failed: ask again at `next`.
    pub fn failed(&mut self, next: Moment) {
        self.next = self.next.min(next);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{Incarnation, NodeId};

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn holder() -> Holder {
        Holder::new(NodeLife { node: NodeId(1), incarnation: Incarnation(1) })
    }

    #[test]
    fn the_lease_counts_from_when_the_request_was_sent() {
        let mut h = holder();
        assert_eq!(h.serving_until(), at(0));
        assert_eq!(h.ask(at(1000), &[]), Ask::Send);
        h.granted(at(1000));
        assert_eq!(h.serving_until(), at(4750));
        assert_eq!(h.next_ask(), at(2000));
        h.granted(at(500));
        assert_eq!(h.serving_until(), at(4750), "an older answer takes nothing back");
    }

    #[test]
    fn a_worker_that_stands_still_stops_renewals() {
        let mut h = holder();
        assert_eq!(h.ask(at(0), &[5, 5]), Ask::Send);
        assert_eq!(h.ask(at(250), &[5, 5]), Ask::Send, "not granted yet, so nothing to compare with");
        h.granted(at(250));
        assert_eq!(h.ask(at(1250), &[6, 5, 0]), Ask::Stuck(vec![WorkerId(1)]));
        assert_eq!(h.ask(at(2250), &[6, 6, 0]), Ask::Send, "a new worker has all the time until the next one");
        h.granted(at(2250));
        assert_eq!(h.ask(at(3250), &[7, 7, 0]), Ask::Stuck(vec![WorkerId(2)]));
    }

    #[test]
    fn answers_may_overtake_each_other() {
        let mut h = holder();
        assert_eq!(h.ask(at(0), &[1]), Ask::Send);
        assert_eq!(h.ask(at(1000), &[2]), Ask::Send);
        h.granted(at(1000));
        h.granted(at(0));
        assert_eq!(h.serving_until(), at(4750));
        assert_eq!(h.ask(at(2000), &[2]), Ask::Stuck(vec![WorkerId(0)]), "the newer answer counts");
        assert_eq!(h.ask(at(3000), &[3]), Ask::Send);
        assert_eq!(h.ask(at(4000), &[3]), Ask::Send, "no newer turn is proven yet");
        h.granted(at(3000));
        assert_eq!(h.ask(at(5000), &[3]), Ask::Stuck(vec![WorkerId(0)]));
    }

    #[test]
    fn a_failed_request_is_repeated_sooner() {
        let mut h = holder();
        h.ask(at(1000), &[]);
        h.failed(at(1200));
        assert_eq!(h.next_ask(), at(1200));
    }
}
