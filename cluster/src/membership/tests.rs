use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::RngExt;

use super::*;
use crate::ids::Incarnation;

fn life(node: u64, incarnation: u64) -> NodeLife {
    NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn address(node: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 7000))
}

fn card(zone: &str) -> NodeCard {
    NodeCard { zone: zone.to_owned(), ..NodeCard::default() }
}

/// Nodes 1.., a network with loss and delay, and time: all from one seed.
struct World {
    now: Duration,
    rng: StdRng,
    loss: f64,
    nodes: BTreeMap<u64, Membership>,
    /// Nodes that neither send nor receive.
    cut: BTreeSet<u64>,
    queue: BTreeMap<(Duration, Option<Timer>, u64), (u64, Input)>,
    count: u64,
    seen: BTreeMap<u64, Vec<Output>>,
}

impl World {
    fn new(seed: u64, loss: f64, nodes: u64) -> Self {
        let mut world = World {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            loss,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            count: 0,
            seen: BTreeMap::new(),
        };
        for node in 1..=nodes {
            world.start(node, 1);
        }
        world
    }

    fn start(&mut self, node: u64, incarnation: u64) {
        let seed = self.rng.random();
        let zone = format!("zone-{node}");
        let made = Membership::new(life(node, incarnation), address(node), card(&zone), seed).unwrap();
        self.queue.retain(|_, (of, _)| *of != node);
        self.nodes.insert(node, made);
        self.input(node, Input::Tick, Duration::ZERO);
        if node != 1 {
            self.input(node, Input::Announce(address(1)), Duration::ZERO);
        }
    }

    fn input(&mut self, node: u64, input: Input, after: Duration) {
        let timer = if let Input::Timer(timer) = &input { Some(timer.clone()) } else { None };
        self.count += 1;
        self.queue.insert((self.now + after, timer, self.count), (node, input));
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= end) {
            let ((at, ..), (node, input)) = entry.remove_entry();
            self.now = at;
            self.step(node, input);
        }
        self.now = end;
    }

    fn step(&mut self, node: u64, input: Input) {
        if matches!(input, Input::Datagram(_)) && self.cut.contains(&node) {
            return;
        }
        if matches!(input, Input::Tick) {
            self.input(node, Input::Tick, TICK);
        }
        let mut out = Vec::new();
        let Some(member) = self.nodes.get_mut(&node) else { return };
        member.step(input, &mut out);
        for output in out {
            self.perform(node, output);
        }
    }

    fn perform(&mut self, node: u64, output: Output) {
        match output {
            Output::Send { to, datagram } => {
                assert!(datagram.len() <= MAX_DATAGRAM_BYTES);
                if self.cut.contains(&node) || self.rng.random_bool(self.loss) {
                    return;
                }
                let SocketAddr::V4(to) = to else { unreachable!() };
                let delay = Duration::from_millis(self.rng.random_range(1..40));
                self.input(u64::from(to.ip().octets()[3]), Input::Datagram(datagram), delay);
            }
            Output::Schedule { after, timer } => self.input(node, Input::Timer(timer), after),
            other => self.seen.entry(node).or_default().push(other),
        }
    }

    /// The nodes that `node` holds for up, without itself.
    fn up(&self, node: u64) -> Vec<u64> {
        let members = self.nodes[&node].members();
        let up = members.iter().filter(|m| m.state != MemberState::Down).map(|m| m.life.node.0);
        up.filter(|n| *n != node).collect()
    }

    fn all_see_each_other(&self) -> bool {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        all.iter().all(|n| self.up(*n) == all.iter().copied().filter(|o| o != n).collect::<Vec<_>>())
    }

    fn cards_complete(&self) -> bool {
        let complete = |m: &Member| m.card.as_ref().is_some_and(|c| c.zone == format!("zone-{}", m.life.node));
        self.nodes.values().all(|n| n.members().iter().all(complete))
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn five_nodes_find_each_other_and_their_cards_despite_loss() {
    let mut world = World::new(1, 0.2, 5);
    world.run(MINUTE);
    assert!(world.all_see_each_other());
    assert!(world.cards_complete());
}

#[test]
fn a_node_that_dies_is_noticed_in_seconds_and_by_all() {
    let mut world = World::new(2, 0.0, 5);
    world.run(MINUTE);
    world.cut.insert(3);
    world.run(Duration::from_secs(15));
    for node in [1, 2, 4, 5] {
        assert!(!world.up(node).contains(&3), "node {node}");
        assert!(world.seen[&node].contains(&Output::Down(life(3, 1))));
    }
}

#[test]
fn a_restarted_node_is_up_at_once_in_its_new_life() {
    let mut world = World::new(3, 0.0, 3);
    world.run(MINUTE);
    world.start(2, 2);
    world.run(Duration::from_secs(3));
    assert!(world.all_see_each_other());
    assert!(world.seen[&3].contains(&Output::Up(life(2, 2), address(2))));
    assert_eq!(world.nodes[&1].members()[1].life, life(2, 2));
}

#[test]
fn a_node_that_was_down_is_said_to_be_up_once() {
    let mut world = World::new(3, 0.0, 3);
    world.run(MINUTE);
    world.cut.insert(2);
    world.run(Duration::from_secs(15));
    world.cut.clear();
    world.start(2, 2);
    world.run(Duration::from_secs(15));
    for node in [1, 3] {
        let ups = world.seen[&node].iter().filter(|it| **it == Output::Up(life(2, 2), address(2)));
        assert_eq!(ups.count(), 1, "node {node}");
    }
}

#[test]
fn a_node_that_was_cut_off_comes_back_by_itself() {
    let mut world = World::new(4, 0.0, 3);
    world.run(MINUTE);
    world.cut.insert(2);
    world.run(MINUTE);
    assert!(!world.up(1).contains(&2) && world.up(2).is_empty());
    world.cut.clear();
    world.run(MINUTE);
    assert!(world.all_see_each_other());
}

#[test]
fn a_leaving_node_is_down_without_suspicion() {
    let mut world = World::new(5, 0.0, 4);
    world.run(MINUTE);
    world.input(4, Input::Leave, Duration::ZERO);
    world.run(Duration::from_secs(2));
    for node in [1, 2, 3] {
        assert!(!world.up(node).contains(&4));
    }
    assert_eq!(world.nodes[&4].members()[3].state, MemberState::Down);
}

#[test]
fn a_changed_card_reaches_the_others_and_a_card_too_big_is_kept_out() {
    let mut world = World::new(6, 0.0, 3);
    world.run(MINUTE);
    world.input(1, Input::Card(card(&"x".repeat(600))), Duration::ZERO);
    world.input(1, Input::Card(card("moved")), Duration::ZERO);
    world.run(MINUTE);
    assert_eq!(world.nodes[&3].members()[0].card.as_ref().unwrap().zone, "moved");
    assert_eq!(world.nodes[&1].stats().malformed, 1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(7, 0.3, 5);
        world.run(MINUTE);
        (world.count, world.seen)
    };
    assert_eq!(run(), run());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_bytes_are_taken_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..1500), good_head in any::<bool>()) {
        let mut node = Membership::new(life(1, 1), address(1), card("z"), 1).unwrap();
        let mut bytes = bytes;
        if good_head && bytes.len() > 3 {
            let length = (bytes.len() - 3) as u16;
            bytes[0] = 1;
            bytes[1..3].copy_from_slice(&length.to_be_bytes());
        }
        node.step(Input::Datagram(bytes.into()), &mut Vec::new());
        node.step(Input::Tick, &mut Vec::new());
    }
}

/// A node that hears of itself at another address is still one, and up.
#[test]
fn nobody_else_is_this_node() {
    let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
    let mut node = Membership::new(life, ([127, 0, 0, 1], 7001).into(), NodeCard::default(), 1).unwrap();
    // SWIM gossip of node 2, in which node 1's life is down, and at 127.0.0.23.
    let datagram = b"\x01\x00\x30\x02\x01\x00\x00\x7f\x00\x00\x01\xda\x36\x00\x01\x01\x00\x00\x7f\x00\x00\x01\xd9\x36\x08\x00\x02\x01\
        \x01\x00\x00\x7f\x00\x00\x17\xd9\x36\x15\x00\x02\x01\x00\x00\x7f\x00\x00\x01\xda\x36\x00\x02\x01\x01\x00\x00\x00\x00";
    let mut out = Vec::new();
    node.step(Input::Datagram(Bytes::from_static(datagram)), &mut out);
    assert!(!out.contains(&Output::Down(life)), "{out:?}");
    let own: Vec<Member> = node.members().into_iter().filter(|member| member.life == life).collect();
    assert_eq!(own.iter().map(|member| member.state).collect::<Vec<_>>(), [MemberState::Up]);
}
