//! The glue of interest: the hub, and the links on which nodes tell each other what they want, as
//! `forward::{driver, interest_*}` have it.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_cluster::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};
use rookery_cluster::interest::{Hub, Input, Link, Output};

use super::data::{Receipt, Receiver, Sender};
use super::worker::Mail;
use crate::net::{StreamId, Way};
use crate::world::{Sabotage, World};

/// A call that is not answered for this long is given up.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Forward {
    pub hub: Hub,
    pub live: BTreeMap<NodeId, Incarnation>,
    informed: bool,
    numbers: u64,
    to: BTreeMap<NodeId, (Link, StreamId)>,
    from: BTreeMap<NodeId, (Link, StreamId)>,
    pub serving: BTreeMap<BrokerId, Vec<WorkerId>>,
    pub workers: Vec<Links>,
    pub receivers: BTreeMap<(NodeLife, u16), Receiver>,
    pub receipts: BTreeMap<u64, Receipt>,
}

#[derive(Default)]
pub struct Links {
    pub seen: u64,
    pub senders: BTreeMap<NodeId, Sender>,
    /// The list that a worker has seen when it knows that the peer's former life ended.
    pub fences: BTreeMap<NodeId, u64>,
}

impl Forward {
    pub fn new(workers: u16) -> Self {
        Self {
            hub: Hub::new(workers),
            live: BTreeMap::new(),
            informed: false,
            numbers: 0,
            to: BTreeMap::new(),
            from: BTreeMap::new(),
            serving: BTreeMap::new(),
            workers: (0..workers).map(|_| Links::default()).collect(),
            receivers: BTreeMap::new(),
            receipts: BTreeMap::new(),
        }
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn knows(&self, peer: NodeLife) -> bool {
        self.live.get(&peer.node) == Some(&peer.incarnation)
    }
}

impl World {
    pub fn forward(&mut self, own: NodeLife) -> Option<&mut Forward> {
        let node = self.node(own.node);
        if !node.serves_as(own) {
            return None;
        }
        node.broker.as_mut().map(|b| &mut b.forward)
    }

    pub fn set_live(&mut self, own: NodeLife, live: BTreeMap<NodeId, Incarnation>) {
        let Some(forward) = self.forward(own) else { return };
        let informed = std::mem::replace(&mut forward.informed, true);
        let old = std::mem::replace(&mut forward.live, live.clone());
        if informed && old == live {
            return;
        }
        // Before anybody else hears of them.
        self.retained_live(own, live.keys().copied().collect());
        self.hub(own, Input::Live(live.clone()));
        for (node, incarnation) in live {
            if old.get(&node) != Some(&incarnation) {
                let peer = NodeLife { node, incarnation };
                self.call_link(own, peer);
                self.open_senders(own, peer);
                self.compare(own, peer);
            }
        }
    }

    /// One step of the hub, with all that follows from it.
    pub fn hub(&mut self, own: NodeLife, input: Input) {
        let now = self.local(own.node);
        let Some(forward) = self.forward(own) else { return };
        let mut outputs = Vec::new();
        forward.hub.step(now, input, &mut outputs);
        for output in outputs {
            self.perform_output(own, output);
        }
        let now = self.local(own.node);
        let Some(at) = self.forward(own).and_then(|f| f.hub.next_wakeup()) else { return };
        let wait = self.node(own.node).clock.truth_of(at.since(now));
        self.after(wait, move |w| {
            let now = w.local(own.node);
            let due = w.forward(own).and_then(|f| f.hub.next_wakeup()).is_some_and(|at| at <= now);
            if due {
                w.hub(own, Input::Tick);
            }
        });
    }

    fn perform_output(&mut self, own: NodeLife, output: Output) {
        match output {
            Output::Interest { worker, token, changes } => {
                self.post(own, worker.0, Mail::Interest { token, changes });
                if self.cfg.sabotage == Sabotage::SeenBeforeWorkers {
                    self.interest_seen(own, worker.0, token);
                }
            }
            Output::Barrier { worker, token, seen } => self.post(own, worker.0, Mail::Barrier { token, seen }),
            Output::Complete => (0..self.cfg.workers).for_each(|w| self.post(own, w, Mail::Complete)),
            Output::Expired { peer, token } => self.peer_expired(own, peer, token),
            Output::Send { peer, link, message } => {
                let Some(forward) = self.forward(own) else { return };
                let Some((_, stream)) = forward.to.get(&peer.node).filter(|(l, _)| *l == link).copied() else { return };
                self.stream_send(stream, Way::Out, move |w| {
                    let from = w.forward(peer).and_then(|f| f.from.get(&own.node).copied());
                    if let Some((far, _)) = from.filter(|(_, s)| *s == stream) {
                        w.hub(peer, Input::Received { peer: own, link: far, message });
                    }
                });
            }
            Output::Acknowledge { peer, link, through } => {
                let Some(forward) = self.forward(own) else { return };
                let Some((_, stream)) = forward.from.get(&peer.node).filter(|(l, _)| *l == link).copied() else {
                    return;
                };
                self.stream_send(stream, Way::Back, move |w| {
                    let to = w.forward(peer).and_then(|f| f.to.get(&own.node).copied());
                    if let Some((far, _)) = to.filter(|(_, s)| *s == stream) {
                        w.hub(peer, Input::Acknowledged { peer: own, link: far, through });
                    }
                });
            }
            Output::Close { peer, link } => {
                let Some(forward) = self.forward(own) else { return };
                if let Some((_, stream)) = forward.from.get(&peer.node).filter(|(l, _)| *l == link).copied() {
                    self.break_stream(stream);
                }
            }
            Output::Serving { broker, workers } => {
                let Some(forward) = self.forward(own) else { return };
                if workers.is_empty() {
                    forward.serving.remove(&broker);
                } else {
                    forward.serving.insert(broker, workers);
                }
            }
        }
    }

    pub fn interest_seen(&mut self, own: NodeLife, worker: u16, token: u64) {
        let Some(forward) = self.forward(own) else { return };
        let seen = &mut forward.workers[usize::from(worker)].seen;
        *seen = token.max(*seen);
        self.hub(own, Input::Seen { worker: WorkerId(worker), token });
    }

    fn peer_expired(&mut self, own: NodeLife, peer: NodeLife, token: u64) {
        let Some(forward) = self.forward(own) else { return };
        let links = forward.to.remove(&peer.node).into_iter().chain(forward.from.remove(&peer.node));
        let mut over: Vec<StreamId> = links.map(|(_, stream)| stream).collect();
        let receivers = std::mem::take(&mut forward.receivers);
        for (key, receiver) in receivers {
            if key.0 == peer {
                over.extend(receiver.stream());
            } else {
                forward.receivers.insert(key, receiver);
            }
        }
        for worker in &mut forward.workers {
            worker.fences.insert(peer.node, token);
            over.extend(worker.senders.remove(&peer.node).and_then(|s| s.stream()));
        }
        over.into_iter().for_each(|stream| self.break_stream(stream));
        (0..self.cfg.workers).for_each(|w| self.post(own, w, Mail::PeerExpired { peer: peer.node }));
    }

    // ---- links ----

    /// Calls `peer` to tell it what this node wants, again and again while both live.
    fn call_link(&mut self, own: NodeLife, peer: NodeLife) {
        let Some(forward) = self.forward(own) else { return };
        if !forward.knows(peer) {
            return;
        }
        let link = forward.number();
        let stream = self.open_stream(own.node, peer.node, move |w| {
            w.hub(own, Input::Disconnected { peer, link });
            let pause = w.rng.millis(50, 1000);
            w.after(pause, move |w| w.call_link(own, peer));
        });
        self.after(ANSWER_TIMEOUT, move |w| {
            let up = w.forward(own).and_then(|f| f.to.get(&peer.node)).is_some_and(|(_, s)| *s == stream);
            if !up {
                w.break_stream(stream);
            }
        });
        self.stream_send(stream, Way::Out, move |w| w.answer_link(peer, own, stream, link));
    }

    /// `own` is called by `origin`.
    fn answer_link(&mut self, own: NodeLife, origin: NodeLife, stream: StreamId, far: Link) {
        let Some(forward) = self.forward(own).filter(|f| f.knows(origin)) else {
            return self.break_stream(stream);
        };
        let link = forward.number();
        let old = forward.from.insert(origin.node, (link, stream));
        if let Some((_, old)) = old {
            self.break_stream(old);
        }
        self.stream_send(stream, Way::Back, move |w| {
            let Some(forward) = w.forward(origin).filter(|f| f.knows(own)) else { return w.break_stream(stream) };
            forward.to.insert(own.node, (far, stream));
            w.hub(origin, Input::Connected { peer: own, link: far });
        });
        self.hub(own, Input::Opened { peer: origin, link });
    }
}
