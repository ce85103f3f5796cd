//! One node's view of interest.

use std::collections::{BTreeMap, BTreeSet};

use super::barrier::Barriers;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::workers::Workers;
use super::{Input, Interest, Interests, Output, Stats};
use crate::clock::Moment;
use crate::handle::Holder;
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};

/// Who wants what, as one node knows it.
///
/// Call [`Hub::step`] for each input and perform the outputs in order before the next step; when
/// [`Hub::next_wakeup`] has passed, give it [`Input::Tick`].
pub struct Hub {
    workers: Workers,
    /// Which workers of this node hold each filter.
    held: BTreeMap<Interest, BTreeSet<WorkerId>>,
    /// The same filters, for snapshots.
    own: Interests,
    /// How many filters of a broker each worker holds.
    serving: BTreeMap<BrokerId, BTreeMap<WorkerId, usize>>,
    peers: BTreeMap<NodeId, Peer>,
    barriers: Barriers,
    /// Whether the live set is known at all.
    informed: bool,
    complete: bool,
    stats: Stats,
}

struct Peer {
    incarnation: Incarnation,
    to: Outbound,
    from: Inbound,
}

impl Hub {
    /// The hub of a node with workers 0 up to `workers` (exclusive), which knows of no peer yet.
    pub fn new(workers: u16) -> Self {
        Self {
            workers: Workers::new(workers),
            held: BTreeMap::new(),
            own: Interests::new(),
            serving: BTreeMap::new(),
            peers: BTreeMap::new(),
            barriers: Barriers::default(),
            informed: false,
            complete: false,
            stats: Stats::default(),
        }
    }

    /// Takes one input; appends what is to be done.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        self.take(now, input, out);
        self.workers.flush(out);
        let seen_through = self.workers.seen_through();
        for (node, peer) in &mut self.peers {
            let life = NodeLife { node: *node, incarnation: peer.incarnation };
            if let Some((link, message)) = peer.to.pump() {
                out.push(Output::Send { peer: life, link, message });
            }
            if let Some((link, through)) = peer.from.acknowledge(seen_through) {
                out.push(Output::Acknowledge { peer: life, link, through });
            }
        }
        self.settle(now, seen_through, out);
    }

    /// When [`Input::Tick`] is due.
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.barriers.next_deadline()
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What `peer` wants, as last told; `None` if it is not live.
    pub fn wanted_by(&self, peer: NodeId) -> Option<&Interests> {
        self.peers.get(&peer).map(|peer| peer.from.wanted())
    }

    /// Whether all workers of `peer` have seen something of this life of this node.
    pub fn heard_by(&self, peer: NodeLife) -> bool {
        let known = self.peers.get(&peer.node).filter(|known| known.incarnation == peer.incarnation);
        known.is_some_and(|known| known.to.acknowledged() > 0)
    }

    /// What this node wants of others.
    pub fn own(&self) -> &Interests {
        &self.own
    }

    fn take(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Live(live) => self.on_live(&live, out),
            Input::Subscribe { worker, interest, token } => self.on_subscribe(now, worker, interest, token, out),
            Input::Unsubscribe { worker, interest } => self.on_unsubscribe(worker, interest, out),
            Input::Seen { worker, token } => self.workers.seen(worker, token),
            Input::Connected { peer: life, link } => {
                let own = &self.own;
                if let Some(peer) = live(&mut self.peers, life) {
                    let message = peer.to.on_connected(link, own);
                    out.push(Output::Send { peer: life, link, message });
                }
            }
            Input::Disconnected { peer: life, link } => {
                if let Some(peer) = live(&mut self.peers, life) {
                    peer.to.on_disconnected(link);
                }
            }
            Input::Acknowledged { peer: life, link, through } => {
                if let Some(peer) = live(&mut self.peers, life) {
                    peer.to.on_acknowledged(link, through);
                }
            }
            Input::Opened { peer: life, link } => match live(&mut self.peers, life) {
                Some(peer) => peer.from.on_opened(link),
                None => out.push(Output::Close { peer: life, link }),
            },
            Input::Received { peer: life, link, message } => {
                if let Some(peer) = live(&mut self.peers, life)
                    && peer.from.on_received(life.node, link, message, &mut self.workers).is_err()
                {
                    self.stats.links_broken += 1;
                    out.push(Output::Close { peer: life, link });
                }
            }
            Input::Tick => {}
        }
    }

    fn on_live(&mut self, live: &BTreeMap<NodeId, Incarnation>, out: &mut Vec<Output>) {
        self.informed = true;
        let gone: Vec<NodeLife> = self
            .peers
            .iter()
            .map(|(node, peer)| NodeLife { node: *node, incarnation: peer.incarnation })
            .filter(|life| live.get(&life.node) != Some(&life.incarnation))
            .collect();
        for peer in gone {
            self.peers.remove(&peer.node);
            self.barriers.forget(peer.node);
            self.workers.clear(Holder::Peer(peer.node));
            out.push(Output::Expired { peer, token: self.workers.due() });
        }
        for (node, incarnation) in live {
            let new = || Peer { incarnation: *incarnation, to: Outbound::default(), from: Inbound::default() };
            self.peers.entry(*node).or_insert_with(new);
        }
    }

    fn on_subscribe(&mut self, now: Moment, worker: WorkerId, interest: Interest, token: u64, out: &mut Vec<Output>) {
        let holders = self.held.entry(interest.clone()).or_default();
        let first = holders.is_empty();
        if holders.insert(worker) {
            self.serve(&interest, worker, true, out);
            self.workers.change(Holder::Worker(worker), interest.clone(), true);
        }
        if first {
            self.tell_peers(&interest, true);
            self.own.insert(interest);
        }
        // Also where others of this node hold the filter already: they may still be waiting for it to be seen.
        let peers = self.peers.iter().map(|(node, peer)| (*node, peer.to.due())).collect();
        self.barriers.begin(now, worker, token, self.workers.due(), peers);
    }

    fn on_unsubscribe(&mut self, worker: WorkerId, interest: Interest, out: &mut Vec<Output>) {
        let Some(holders) = self.held.get_mut(&interest) else { return };
        if !holders.remove(&worker) {
            return;
        }
        if holders.is_empty() {
            self.held.remove(&interest);
            self.own.remove(&interest);
            self.tell_peers(&interest, false);
        }
        self.serve(&interest, worker, false, out);
        self.workers.change(Holder::Worker(worker), interest, false);
    }

    fn tell_peers(&mut self, interest: &Interest, wanted: bool) {
        self.peers.values_mut().for_each(|peer| peer.to.change(interest, wanted));
    }

    /// Counts the worker's filters of the broker; the first and the last of them change where publishes go.
    fn serve(&mut self, interest: &Interest, worker: WorkerId, wanted: bool, out: &mut Vec<Output>) {
        let workers = self.serving.entry(interest.broker).or_default();
        let count = workers.entry(worker).or_default();
        *count = if wanted { *count + 1 } else { *count - 1 };
        let changed = *count == usize::from(wanted);
        if *count == 0 {
            workers.remove(&worker);
        }
        if changed {
            out.push(Output::Serving { broker: interest.broker, workers: workers.keys().copied().collect() });
        }
        if workers.is_empty() {
            self.serving.remove(&interest.broker);
        }
    }

    fn settle(&mut self, now: Moment, seen_through: u64, out: &mut Vec<Output>) {
        let peers = &self.peers;
        // A peer that is gone was taken out of every barrier.
        let acknowledged = |node| peers.get(&node).map_or(u64::MAX, |peer| peer.to.acknowledged());
        let (passed, timed_out) = self.barriers.settle(now, seen_through, acknowledged, out);
        self.stats.barriers_passed += passed;
        self.stats.barriers_timed_out += timed_out;
        if !self.complete && self.informed && peers.values().all(|peer| peer.from.complete(seen_through)) {
            self.complete = true;
            out.push(Output::Complete);
        }
    }
}

fn live(peers: &mut BTreeMap<NodeId, Peer>, life: NodeLife) -> Option<&mut Peer> {
    peers.get_mut(&life.node).filter(|peer| peer.incarnation == life.incarnation)
}
