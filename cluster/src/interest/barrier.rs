//! What SUBACKs wait for.

use std::collections::VecDeque;

use super::Output;
use crate::clock::Moment;
use crate::ids::{NodeId, WorkerId};
use crate::limits;

/// Barriers in the order in which they began, which is the order in which they end (see the module's page).
#[derive(Default)]
pub(super) struct Barriers(VecDeque<Barrier>);

struct Barrier {
    worker: WorkerId,
    /// The worker's name for it.
    token: u64,
    /// The list that tells this node's other workers.
    list: u64,
    /// The message that tells each peer that was live then.
    peers: Vec<(NodeId, u64)>,
    deadline: Moment,
}

impl Barriers {
    pub(super) fn begin(&mut self, now: Moment, worker: WorkerId, token: u64, list: u64, peers: Vec<(NodeId, u64)>) {
        self.0.push_back(Barrier { worker, token, list, peers, deadline: now + limits::SUBACK_BARRIER });
    }

    /// Nothing is expected of `node` any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        for barrier in &mut self.0 {
            barrier.peers.retain(|(peer, _)| *peer != node);
        }
    }

    /// Ends those that have what they wait for, then those whose time is over; returns how many of each.
    pub(super) fn settle(
        &mut self,
        now: Moment,
        seen_through: u64,
        acknowledged: impl Fn(NodeId) -> u64,
        out: &mut Vec<Output>,
    ) -> (u64, u64) {
        let passed = self.end(true, out, |barrier| {
            barrier.list <= seen_through && barrier.peers.iter().all(|(peer, seq)| *seq <= acknowledged(*peer))
        });
        (passed, self.end(false, out, |barrier| barrier.deadline <= now))
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.0.front().map(|barrier| barrier.deadline)
    }

    fn end(&mut self, seen: bool, out: &mut Vec<Output>, ready: impl Fn(&Barrier) -> bool) -> u64 {
        let mut ended = 0;
        while let Some(barrier) = self.0.front().filter(|barrier| ready(barrier)) {
            out.push(Output::Barrier { worker: barrier.worker, token: barrier.token, seen });
            self.0.pop_front();
            ended += 1;
        }
        ended
    }
}
