//! Clusters of hubs with links that break, workers that lag, and nodes that restart, on random schedules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const NODES: u64 = 3;
const WORKERS: u16 = 2;
const FILTERS: [&str; 3] = ["a", "b", "c"];

/// One step of a schedule; the numbers choose among what is possible.
#[derive(Clone, Debug)]
enum Step {
    Toggle { node: u64, worker: u16, filter: usize },
    WorkerReads { node: u64, worker: u16 },
    Connect { from: u64, to: u64 },
    Break { from: u64, to: u64 },
    Deliver { from: u64, to: u64, again: bool },
    Reply { from: u64, to: u64 },
    Restart { node: u64 },
    LearnLive { node: u64 },
}

#[derive(Default)]
struct Worker {
    mailbox: VecDeque<(u64, Arc<[InterestChange]>)>,
    view: BTreeSet<(Holder, Interest)>,
    own: BTreeSet<Interest>,
    /// Tokens of the barriers that wait, and what for, unless it is no longer wanted.
    waiting: BTreeMap<u64, Option<Interest>>,
}

struct Node {
    life: NodeLife,
    hub: Hub,
    workers: Vec<Worker>,
    complete: bool,
    /// How much of the membership log this node knows.
    known: usize,
}

/// A link's two directions; messages in flight are lost when it breaks.
struct Wire {
    link: Link,
    from: NodeLife,
    to: NodeLife,
    messages: VecDeque<Message>,
    replies: VecDeque<u64>,
}

struct World {
    nodes: BTreeMap<u64, Node>,
    wires: BTreeMap<(u64, u64), Wire>,
    /// Lives in the order in which they registered; a later one of a node ends the earlier.
    members: Vec<NodeLife>,
    last: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { nodes: BTreeMap::new(), wires: BTreeMap::new(), members: Vec::new(), last: 0 };
        (1..=NODES).for_each(|node| world.start(node, 1));
        world
    }

    fn start(&mut self, node: u64, incarnation: u64) {
        let life = NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) };
        self.members.push(life);
        let workers = (0..WORKERS).map(|_| Worker::default()).collect();
        let started = Node { life, hub: Hub::new(WORKERS), workers, complete: false, known: 0 };
        self.nodes.insert(node, started);
        self.learn_live(node);
    }

    fn learn_live(&mut self, node: u64) {
        let known = self.members.len();
        let mut live: BTreeMap<NodeId, Incarnation> = self.members.iter().map(|l| (l.node, l.incarnation)).collect();
        live.remove(&NodeId(node));
        self.nodes.get_mut(&node).unwrap().known = known;
        self.input(node, Input::Live(live));
    }

    fn input(&mut self, node: u64, input: Input) {
        let mut out = Vec::new();
        self.nodes.get_mut(&node).unwrap().hub.step(Moment::default(), input, &mut out);
        for output in out {
            self.perform(node, output);
        }
    }

    fn perform(&mut self, node: u64, output: Output) {
        let me = self.nodes.get_mut(&node).unwrap();
        match output {
            Output::Interest { worker, token, changes } => {
                me.workers[usize::from(worker.0)].mailbox.push_back((token, changes));
            }
            Output::Barrier { worker, token, seen } => {
                assert!(seen);
                let wanted = me.workers[usize::from(worker.0)].waiting.remove(&token).expect("ends once");
                if let Some(wanted) = wanted {
                    self.check_barrier(node, worker, &wanted);
                }
            }
            Output::Complete => me.complete = true,
            Output::Expired { peer, .. } => {
                self.wires.retain(|(from, to), wire| {
                    !((*from == node && wire.to == peer) || (*to == node && wire.from == peer))
                });
            }
            Output::Send { peer, link, message } => {
                if let Some(wire) = self.wires.get_mut(&(node, peer.node.0))
                    && wire.link == link
                {
                    wire.messages.push_back(message);
                }
            }
            Output::Acknowledge { peer, link, through } => {
                if let Some(wire) = self.wires.get_mut(&(peer.node.0, node))
                    && wire.link == link
                {
                    wire.replies.push_back(through);
                }
            }
            Output::Close { peer, link } => {
                if self.wires.get(&(peer.node.0, node)).is_some_and(|wire| wire.link == link) {
                    self.break_wire(peer.node.0, node);
                }
            }
            Output::Serving { workers, .. } => {
                let holding = |w: &WorkerId| !me.workers[usize::from(w.0)].own.is_empty();
                assert!(workers.iter().all(holding));
            }
        }
    }

    /// P8: whoever accepts publishes anywhere knows the filter.
    fn check_barrier(&self, node: u64, worker: WorkerId, wanted: &Interest) {
        for (other, there) in &self.nodes {
            for (index, view) in there.workers.iter().map(|w| &w.view).enumerate() {
                if *other == node {
                    let own = WorkerId(index as u16) == worker;
                    assert!(own || view.contains(&(Holder::Worker(worker), wanted.clone())));
                } else if there.complete {
                    assert!(view.contains(&(Holder::Peer(NodeId(node)), wanted.clone())));
                }
            }
        }
    }

    fn break_wire(&mut self, from: u64, to: u64) {
        if let Some(wire) = self.wires.remove(&(from, to)) {
            self.input(from, Input::Disconnected { peer: wire.to, link: wire.link });
        }
    }

    fn connect(&mut self, from: u64, to: u64) {
        self.break_wire(from, to);
        let (a, b) = (&self.nodes[&from], &self.nodes[&to]);
        let (from_life, to_life) = (a.life, b.life);
        let knows = |node: &Node, life: NodeLife| {
            self.members[..node.known].iter().rev().find(|l| l.node == life.node) == Some(&life)
        };
        if !knows(a, to_life) || !knows(b, from_life) {
            return;
        }
        self.last += 1;
        let link = self.last;
        let wire = Wire { link, from: from_life, to: to_life, messages: VecDeque::new(), replies: VecDeque::new() };
        self.wires.insert((from, to), wire);
        self.input(to, Input::Opened { peer: from_life, link });
        self.input(from, Input::Connected { peer: to_life, link });
    }

    fn deliver(&mut self, from: u64, to: u64, again: bool) -> bool {
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return false };
        let Some(message) = wire.messages.pop_front() else { return false };
        let (peer, link) = (wire.from, wire.link);
        // A snapshot opens a link; a double of it cannot come.
        if again && matches!(message.content, Content::Changes(_)) {
            self.input(to, Input::Received { peer, link, message: message.clone() });
        }
        self.input(to, Input::Received { peer, link, message });
        true
    }

    fn reply(&mut self, from: u64, to: u64) -> bool {
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return false };
        let Some(through) = wire.replies.pop_front() else { return false };
        let (peer, link) = (wire.to, wire.link);
        self.input(from, Input::Acknowledged { peer, link, through });
        true
    }

    fn worker_reads(&mut self, node: u64, index: u16) -> bool {
        let worker = &mut self.nodes.get_mut(&node).unwrap().workers[usize::from(index)];
        let Some((token, changes)) = worker.mailbox.pop_front() else { return false };
        for change in changes.iter().cloned() {
            match change {
                InterestChange::Add { holder, broker, filter } => {
                    worker.view.insert((holder, Interest { broker, filter }));
                }
                InterestChange::Remove { holder, broker, filter } => {
                    worker.view.remove(&(holder, Interest { broker, filter }));
                }
                InterestChange::Clear { holder } => worker.view.retain(|(of, _)| *of != holder),
            }
        }
        self.input(node, Input::Seen { worker: WorkerId(index), token });
        true
    }

    fn toggle(&mut self, node: u64, index: u16, filter: &str) {
        self.last += 1;
        let token = self.last;
        let worker = &mut self.nodes.get_mut(&node).unwrap().workers[usize::from(index)];
        let interest = interest(filter);
        let input = if worker.own.insert(interest.clone()) {
            worker.waiting.insert(token, Some(interest.clone()));
            Input::Subscribe { worker: WorkerId(index), interest, token }
        } else {
            worker.own.remove(&interest);
            worker.waiting.values_mut().for_each(|waits| drop(waits.take_if(|i| *i == interest)));
            Input::Unsubscribe { worker: WorkerId(index), interest }
        };
        self.input(node, input);
    }

    fn restart(&mut self, node: u64) {
        let incarnation = self.nodes[&node].life.incarnation.0 + 1;
        for other in (1..=NODES).filter(|other| *other != node) {
            self.wires.remove(&(node, other));
            self.break_wire(other, node);
        }
        self.start(node, incarnation);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Toggle { node, worker, filter } => self.toggle(node, worker, FILTERS[filter]),
            Step::WorkerReads { node, worker } => {
                self.worker_reads(node, worker);
            }
            Step::Connect { from, to } if from != to => self.connect(from, to),
            Step::Break { from, to } => self.break_wire(from, to),
            Step::Deliver { from, to, again } => {
                self.deliver(from, to, again);
            }
            Step::Reply { from, to } => {
                self.reply(from, to);
            }
            Step::Restart { node } => self.restart(node),
            Step::LearnLive { node } => self.learn_live(node),
            Step::Connect { .. } => {}
        }
    }

    /// Heals everything, then lets all that is under way arrive.
    fn quiesce(&mut self) {
        (1..=NODES).for_each(|node| self.learn_live(node));
        let pairs = || (1..=NODES).flat_map(|a| (1..=NODES).map(move |b| (a, b))).filter(|(a, b)| a != b);
        pairs()
            .filter(|pair| !self.wires.contains_key(pair))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|(a, b)| self.connect(a, b));
        let mut busy = true;
        while busy {
            busy = false;
            for (from, to) in pairs() {
                busy |= self.deliver(from, to, false) | self.reply(from, to);
            }
            for node in 1..=NODES {
                for worker in 0..WORKERS {
                    busy |= self.worker_reads(node, worker);
                }
            }
        }
    }

    fn check_agreement(&self) {
        for (node, me) in &self.nodes {
            assert!(me.complete);
            let own: Interests = me.workers.iter().flat_map(|w| w.own.iter().cloned()).collect();
            assert_eq!(me.hub.own(), &own);
            assert!(me.workers.iter().all(|w| w.waiting.is_empty()), "every barrier ended");
            for (_, peer) in self.nodes.iter().filter(|(other, _)| *other != node) {
                assert_eq!(peer.hub.wanted_by(me.life.node), Some(&own));
                for worker in &peer.workers {
                    assert_eq!(held(worker, Holder::Peer(me.life.node)), own);
                }
            }
            for (a, holder) in me.workers.iter().enumerate() {
                for (_, other) in me.workers.iter().enumerate().filter(|(b, _)| *b != a) {
                    assert_eq!(held(other, Holder::Worker(WorkerId(a as u16))), holder.own.iter().cloned().collect());
                }
            }
        }
    }
}

fn held(worker: &Worker, holder: Holder) -> Interests {
    worker.view.iter().filter(|(of, _)| *of == holder).map(|(_, interest)| interest.clone()).collect()
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..=NODES;
    prop_oneof![
        6 => (node(), 0..WORKERS, 0..FILTERS.len()).prop_map(|(node, worker, filter)| Step::Toggle { node, worker, filter }),
        12 => (node(), 0..WORKERS).prop_map(|(node, worker)| Step::WorkerReads { node, worker }),
        6 => (node(), node()).prop_map(|(from, to)| Step::Connect { from, to }),
        2 => (node(), node()).prop_map(|(from, to)| Step::Break { from, to }),
        16 => (node(), node(), any::<bool>()).prop_map(|(from, to, again)| Step::Deliver { from, to, again }),
        16 => (node(), node()).prop_map(|(from, to)| Step::Reply { from, to }),
        1 => node().prop_map(|node| Step::Restart { node }),
        4 => node().prop_map(|node| Step::LearnLive { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Once quiet, every peer and worker knows exactly what is wanted, and every barrier has ended; and
    /// whenever a barrier ended, P8 held.
    #[test]
    fn views_agree_once_quiet(steps in proptest::collection::vec(step(), 0..300)) {
        let mut world = World::new();
        world.quiesce();
        for step in steps {
            world.take(step);
        }
        world.quiesce();
        world.check_agreement();
    }
}
