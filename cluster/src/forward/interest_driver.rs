//! Performs what the interest hub says.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::driver::Inner;
use super::interest_in::FromPeer;
use super::interest_out::ToPeer;
use crate::handle::{ClusterEvent, Run};
use crate::ids::{BrokerId, NodeId, NodeLife, WorkerId};
use crate::interest::{Hub, Input, Link, Output, Stats};

/// The hub and the links that its outputs name.
pub(super) struct InterestState {
    hub: Hub,
    outputs: Vec<Output>,
    to: BTreeMap<NodeId, (Link, Arc<ToPeer>)>,
    from: BTreeMap<NodeId, (Link, Arc<FromPeer>)>,
}

/// Which workers hold filters of which brokers.
#[derive(Default)]
pub(super) struct Serving(BTreeMap<BrokerId, Vec<WorkerId>>);

impl Serving {
    /// The workers that hold filters of any of the runs' brokers.
    pub(super) fn of(&self, runs: &[Run]) -> Vec<WorkerId> {
        if let [run] = runs {
            return self.0.get(&run.broker).cloned().unwrap_or_default();
        }
        let mut workers: Vec<WorkerId> =
            runs.iter().filter_map(|run| self.0.get(&run.broker)).flatten().copied().collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }
}

impl InterestState {
    pub(super) fn new(workers: u16) -> Self {
        Self { hub: Hub::new(workers), outputs: Vec::new(), to: BTreeMap::new(), from: BTreeMap::new() }
    }

    pub(super) fn stats(&self) -> Stats {
        self.hub.stats()
    }

    /// See [`Hub::heard_by`].
    pub(super) fn heard_by(&self, peer: NodeLife) -> bool {
        self.hub.heard_by(peer)
    }

    pub(super) fn close_all(&mut self) {
        self.to.clear();
        self.from.values().for_each(|(_, link)| link.close());
    }
}

impl Inner {
    /// One step of the hub, with all that follows from it.
    pub(super) fn input(&self, input: Input) {
        let mut state = self.interest.lock();
        self.step(&mut state, input);
    }

    pub(super) fn interest_connected(&self, peer: NodeLife, link: Link, to: Arc<ToPeer>) {
        let mut state = self.interest.lock();
        state.to.insert(peer.node, (link, to));
        self.step(&mut state, Input::Connected { peer, link });
    }

    pub(super) fn interest_opened(&self, peer: NodeLife, link: Link, from: Arc<FromPeer>) {
        let mut state = self.interest.lock();
        if let Some((_, old)) = state.from.insert(peer.node, (link, from)) {
            old.close();
        }
        self.step(&mut state, Input::Opened { peer, link });
    }

    fn step(&self, state: &mut InterestState, input: Input) {
        let idle = state.hub.next_wakeup().is_none();
        let acknowledged = matches!(input, Input::Acknowledged { .. });
        let mut outputs = std::mem::take(&mut state.outputs);
        state.hub.step(self.clock.now(), input, &mut outputs);
        for output in outputs.drain(..) {
            self.perform(state, output);
        }
        state.outputs = outputs;
        if acknowledged {
            self.acknowledged.notify_waiters();
        }
        if idle && state.hub.next_wakeup().is_some() {
            self.barrier_began.notify_one();
        }
    }

    fn perform(&self, state: &mut InterestState, output: Output) {
        match output {
            Output::Interest { worker, token, changes } => {
                self.post(worker, ClusterEvent::Interest { token, changes });
            }
            Output::Barrier { worker, token, seen } => {
                if !seen {
                    tracing::warn!(%worker, token, "a subscription was not seen by every live node in time");
                }
                self.post(worker, ClusterEvent::Barrier { token, seen });
            }
            Output::Complete => {
                self.ports.iter().for_each(|port| port.post(ClusterEvent::InterestComplete(true)));
            }
            Output::Expired { peer, token } => {
                state.to.remove(&peer.node);
                if let Some((_, link)) = state.from.remove(&peer.node) {
                    link.close();
                }
                self.expire(peer, token);
            }
            Output::Send { peer, link, message } => {
                if let Some((_, to)) = state.to.get(&peer.node).filter(|(current, _)| *current == link) {
                    to.push(message);
                }
            }
            Output::Acknowledge { peer, link, through } => {
                if let Some((_, from)) = state.from.get(&peer.node).filter(|(current, _)| *current == link) {
                    from.acknowledge(through);
                }
            }
            Output::Close { peer, link } => {
                if let Some((_, from)) = state.from.get(&peer.node).filter(|(current, _)| *current == link) {
                    from.close();
                }
            }
            Output::Serving { broker, workers } => {
                let mut serving = self.serving.write();
                if workers.is_empty() {
                    serving.0.remove(&broker);
                } else {
                    serving.0.insert(broker, workers);
                }
            }
        }
    }

    fn post(&self, worker: WorkerId, event: ClusterEvent) {
        if let Some(port) = self.ports.get(usize::from(worker.0)) {
            port.post(event);
        }
    }
}

/// Wakes the hub when a barrier's time is over.
pub(super) async fn tick(inner: Arc<Inner>) {
    loop {
        let next = inner.interest.lock().hub.next_wakeup();
        match next {
            // Barriers all wait equally long, so a later one never has the earlier deadline.
            Some(at) => {
                tokio::time::sleep(at.since(inner.clock.now())).await;
                inner.input(Input::Tick);
            }
            None => inner.barrier_began.notified().await,
        }
    }
}

/// A mailbox of one: what was said last, or that the link is closed.
#[derive(Default)]
pub(super) struct Latest {
    state: Mutex<(u64, bool)>,
    wake: Notify,
}

impl Latest {
    pub(super) fn raise(&self, to: u64) {
        let mut state = self.state.lock();
        state.0 = state.0.max(to);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().1 = true;
        self.wake.notify_one();
    }

    /// The value, if it is above `known`; `Err` once closed.
    pub(super) fn above(&self, known: u64) -> Result<Option<u64>, ()> {
        let (value, closed) = *self.state.lock();
        if closed { Err(()) } else { Ok((value > known).then_some(value)) }
    }

    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }
}
