//! Shared subscriptions: one worker, and then several nodes with several workers each.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use rookery_cluster::topics::{Choice, ShareStrategy};

use super::super::direct::Directions;
use super::super::share::SHARE_HOPS;
use super::*;

const SHARED: &str = "$share/g/t/#";
const SIBLING: Holder = Holder::Worker(WorkerId(1));

impl World {
    fn others_have(&mut self, holder: Holder, filter: &str, wanted: bool) {
        let filter = filter.into();
        let change = match wanted {
            true => InterestChange::Add { holder, broker: B, filter },
            false => InterestChange::Remove { holder, broker: B, filter },
        };
        self.step(Input::Interest { token: 1, changes: &[change] });
    }

    /// The topics that the client got since the last call; all are acknowledged.
    fn got(&mut self, conn: ConnKey) -> Vec<String> {
        let mut topics = Vec::new();
        for packet in self.sent(conn, Version::V5) {
            if let Packet::Publish(publish) = packet {
                topics.push(publish.topic.to_string());
                if let Some(id) = publish.packet_id {
                    self.packet(conn, Version::V5, &Packet::Puback(Ack::new(id, ReasonCode::SUCCESS)));
                }
            }
        }
        topics
    }

    /// What leaves for each destination: per publish whether ordinary subscriptions get it, the hops, and the groups.
    fn left(&mut self) -> Vec<(Holder, Vec<Told>)> {
        let effects = self.flush();
        effects
            .into_iter()
            .filter_map(|effect| if let Effect::Send { to, batch } = effect { Some((to, told(&batch))) } else { None })
            .collect()
    }
}

/// Whether ordinary subscriptions get a publish, its hops, its groups.
type Told = (bool, u8, Vec<String>);

fn told(batch: &Batch) -> Vec<Told> {
    let mut all = Vec::new();
    for run in &batch.runs {
        let mut rest = &run.body[..];
        while !rest.is_empty() {
            let mut told = (true, 0, Vec::new());
            if let Some((read, after)) = Directions::decode(rest) {
                told = (read.ordinary, read.hops, read.filters().map(String::from).collect());
                rest = after;
            }
            let count = match transfer::take(&mut rest).expect("well formed") {
                transfer::Item::Publish(..) => 1,
                transfer::Item::Group(group) => group.payloads().expect("well formed").count(),
            };
            all.extend(std::iter::repeat_n(told, count));
        }
    }
    all
}

fn directed(hops: u8) -> Vec<Run> {
    let mut body = BytesMut::new();
    let choice = Choice { strategy: ShareStrategy::Local, key: 0 };
    Directions::encode(&mut body, false, hops, choice, &[SHARED]);
    let publish = Publish { topic: "t/1".into(), qos: QoS::AtLeastOnce, packet_id: Some(id(1)), ..Publish::default() };
    encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut body).expect("encodes");
    vec![Run { broker: B, count: 1, body: body.freeze(), retained: Vec::new() }]
}

#[test]
fn members_of_a_worker_take_turns_and_ordinary_subscribers_get_all() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
    let b = w.subscribed("b", SHARED, QoS::AtMostOnce);
    let all = w.subscribed("all", "t/+", QoS::AtMostOnce);
    let (p, _) = w.connect(Version::V5, "p");
    for n in 1..=4 {
        w.publish(p, &format!("t/{n}"), Some(n));
    }
    assert_eq!(w.got(a), ["t/1", "t/3"]);
    assert_eq!(w.got(b), ["t/2", "t/4"]);
    assert_eq!(w.got(all), ["t/1", "t/2", "t/3", "t/4"]);
    assert_eq!(w.left(), []);
    let both = w.subscribe(a, "t/#", QoS::AtMostOnce);
    assert!(matches!(&both[..], [Effect::Subscribe { .. }]), "{both:?}");
    w.publish(p, "t/5", None);
    assert_eq!(w.got(a), ["t/5", "t/5"], "one for each of its subscriptions, the shared one is another");
}

#[test]
fn the_full_text_is_held_advertised_and_unsubscribed() {
    let mut w = World::new();
    for version in [Version::V5, Version::V311] {
        let (a, _) = w.connect(version, "a");
        let filters = vec![SubscribeFilter::new(SHARED, QoS::AtLeastOnce)];
        let subscribe = Subscribe { packet_id: id(1), filters, subscription_id: None, user_properties: Vec::new() };
        let effects = w.packet(a, version, &Packet::Subscribe(subscribe));
        let [Effect::Subscribe { filter, token, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(&**filter, SHARED);
        w.step(Input::Barrier { token: *token, seen: true });
        let sent = w.sent(a, version);
        assert!(matches!(&sent[..], [Packet::Suback(s)] if s.reasons == [ReasonCode::GRANTED_QOS_1]), "{sent:?}");
        let unsubscribe = crate::mqtt::codec::Unsubscribe {
            packet_id: id(2),
            filters: vec![SHARED.into()],
            user_properties: Vec::new(),
        };
        let effects = w.packet(a, version, &Packet::Unsubscribe(unsubscribe));
        assert_eq!(effects, [Effect::Unsubscribe { broker: B, filter: SHARED.into() }]);
        w.step(Input::Closed { conn: a });
    }
}

#[test]
fn the_full_queue_of_a_member_is_left_out() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
    let b = w.subscribed("b", SHARED, QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let window = usize::from(Settings::default().send_maximum);
    for n in 0..3 * window {
        w.publish(p, "t/x", Some(1 + n as u16));
        w.got(b);
    }
    let topics = w.sent(a, Version::V5).len();
    assert_eq!(topics, window, "b acknowledges and a does not: what a's window has no room for is b's");
}

#[test]
fn one_transfer_serves_ordinary_and_shared_subscriptions_there() {
    let mut w = World::new();
    w.others_have(PEER, SHARED, true);
    w.others_have(PEER, "t/#", true);
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "t/1", Some(1));
    assert_eq!(w.left(), [(PEER, vec![(true, 0, vec![SHARED.to_owned()])])]);
    assert_eq!(w.sent(p, Version::V5), [], "the acknowledgement waits for the peer");
    w.step(Input::Accepted { from: PEER, through: 1 });
    assert_eq!(w.sent(p, Version::V5), [Packet::Puback(Ack::new(id(1), ReasonCode::SUCCESS))]);
    w.others_have(SIBLING, SHARED, true);
    w.publish(p, "t/1", None);
    assert_eq!(
        w.left(),
        [(PEER, vec![(true, 0, vec![])]), (SIBLING, vec![(false, 0, vec![SHARED.to_owned()])])],
        "a sibling is nearer"
    );
    w.others_have(PEER, SHARED, false);
    w.others_have(PEER, "t/#", false);
    w.others_have(SIBLING, SHARED, false);
    w.publish(p, "t/1", Some(2));
    assert_eq!(w.sent(p, Version::V5), [Packet::Puback(Ack::new(id(2), ReasonCode::NO_MATCHING_SUBSCRIBERS))]);
}

#[test]
fn many_groups_travel_in_several_transfers_and_are_accepted_once() {
    let mut w = World::new();
    for n in 0..100 {
        w.others_have(PEER, &format!("$share/{}{n}/t", "g".repeat(200)), true);
    }
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "t", Some(1));
    let left = w.left();
    let [(PEER, transfers)] = &left[..] else { panic!("{left:?}") };
    assert!(transfers.len() > 1);
    assert_eq!(transfers.iter().map(|(_, _, groups)| groups.len()).sum::<usize>(), 100);
    w.step(Input::Accepted { from: PEER, through: 1 });
    assert_eq!(w.sent(p, Version::V5).len(), 1);
}

#[test]
fn of_the_workers_that_get_a_batch_one_serves_the_group() {
    let workers = [WorkerId(0), WorkerId(1)];
    for seq in 1..=4 {
        let mut served = 0;
        for worker in workers {
            let mut w = World::at(1, worker.0);
            let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
            w.step(Input::Forwarded { origin: 5, via: Via::Node { workers: &workers, seq }, runs: &directed(0) });
            served += w.got(a).len();
            assert_eq!(w.left(), []);
        }
        assert_eq!(served, 1);
    }
}

#[test]
fn what_finds_nobody_is_directed_on_and_in_the_end_counted() {
    let mut w = World::new();
    w.others_have(PEER, SHARED, true);
    w.others_have(SIBLING, SHARED, true);
    let via = Via::Node { workers: &[WorkerId(0)], seq: 1 };
    w.step(Input::Forwarded { origin: 5, via, runs: &directed(0) });
    assert_eq!(w.left(), [(SIBLING, vec![(false, 1, vec![SHARED.to_owned()])])]);
    w.others_have(SIBLING, SHARED, false);
    w.step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &directed(1) });
    assert_eq!(w.left(), [(PEER, vec![(false, 2, vec![SHARED.to_owned()])])]);
    w.step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &directed(SHARE_HOPS) });
    assert_eq!(w.left(), []);
    w.others_have(PEER, SHARED, false);
    w.step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &directed(0) });
    assert_eq!(w.core.stats.dropped, BTreeMap::from([(DropReason::NoShareMember, 2)]));
    assert!(w.core.rooms.is_empty());
}

#[test]
fn what_a_member_left_unacknowledged_goes_to_another_in_order() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let window = Settings::default().send_maximum;
    for n in 1..=window + 3 {
        w.publish(p, &format!("t/{n}"), Some(n));
    }
    let first = w.sent(a, Version::V5);
    let Packet::Publish(acknowledged) = &first[1] else { panic!("{first:?}") };
    let ack = Ack::new(acknowledged.packet_id.expect("qos 1"), ReasonCode::SUCCESS);
    w.packet(a, Version::V5, &Packet::Puback(ack));
    let b = w.subscribed("b", SHARED, QoS::AtLeastOnce);
    w.step(Input::Closed { conn: a });
    let mut got = w.got(b);
    while got.len() < usize::from(window) + 2 {
        let more = w.got(b);
        assert!(!more.is_empty());
        got.extend(more);
    }
    let all: Vec<String> = (1..=window + 3).filter(|n| *n != 2).map(|n| format!("t/{n}")).collect();
    assert_eq!(got, all);
    assert_eq!(w.core.stats.publishes_redelivered, u64::from(window) + 2);
    assert!(w.core.stats.dropped.is_empty());
}

#[test]
fn qos_2_that_was_begun_goes_to_nobody_else_and_what_was_refused_neither() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::ExactlyOnce);
    let (p, _) = w.connect(Version::V5, "p");
    for n in 1..=3 {
        let (topic, qos) = (format!("t/{n}"), if n == 1 { QoS::ExactlyOnce } else { QoS::AtLeastOnce });
        let publish = Publish { topic: topic.as_str().into(), qos, packet_id: Some(id(n)), ..Publish::default() };
        w.packet(p, Version::V5, &Packet::Publish(Box::new(publish)));
    }
    let sent = w.sent(a, Version::V5);
    let Packet::Publish(refused) = &sent[1] else { panic!("{sent:?}") };
    let refusal = Ack::new(refused.packet_id.expect("qos 1"), ReasonCode::IMPLEMENTATION_SPECIFIC);
    w.packet(a, Version::V5, &Packet::Puback(refusal));
    let b = w.subscribed("b", SHARED, QoS::ExactlyOnce);
    w.step(Input::Closed { conn: a });
    assert_eq!(w.got(b), ["t/3"]);
    assert_eq!(w.core.stats.dropped, BTreeMap::from([(DropReason::ShareUnfinished, 1)]));
    w.publish(p, "t/4", Some(4));
    assert_eq!(w.sent(b, Version::V5).len(), 1);
    w.step(Input::Closed { conn: b });
    assert_eq!(w.core.stats.dropped[&DropReason::NoShareMember], 1, "nobody is left");
    assert!(w.core.rooms.iter().all(|(_, room)| room.orphans.is_empty()));
}

#[test]
fn clients_that_end_together_leave_nothing_to_each_other() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
    let b = w.subscribed("b", SHARED, QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    for n in 1..=4 {
        w.publish(p, "t/x", Some(n));
    }
    assert_eq!((w.sent(a, Version::V5).len(), w.sent(b, Version::V5).len()), (2, 2));
    w.others_have(PEER, SHARED, true);
    w.step(Input::CloseAll { reason: ReasonCode::SERVER_SHUTTING_DOWN });
    assert_eq!(w.left(), [(PEER, vec![(false, 1, vec![SHARED.to_owned()]); 4])]);
}

#[test]
fn what_is_left_waits_for_room_on_the_way() {
    let mut w = World::new();
    let a = w.subscribed("a", SHARED, QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let payload = bytes::Bytes::from(vec![0; 500_000]);
    for n in 1..=20 {
        let publish = Publish {
            topic: "t/x".into(),
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(n)),
            payload: payload.clone(),
            ..Publish::default()
        };
        w.packet(p, Version::V5, &Packet::Publish(Box::new(publish)));
    }
    w.others_have(SIBLING, SHARED, true);
    w.step(Input::Closed { conn: a });
    let (mut arrived, mut turns) = (0, 0);
    while arrived < 20 {
        for effect in w.flush() {
            if let Effect::Send { batch, .. } = effect {
                arrived += told(&batch).len();
                w.step(Input::Accepted { from: SIBLING, through: batch.seq });
            }
        }
        turns += 1;
        assert!(turns < 100, "{arrived}");
    }
    assert!(w.core.stats.dropped.is_empty(), "{:?}", w.core.stats.dropped);
    assert!(w.core.orphaned.is_empty());
}

/// Two nodes of two workers, joined by hand: what is sent arrives when the test says so.
struct Cluster {
    worlds: Vec<World>,
    links: BTreeMap<(usize, usize), VecDeque<Batch>>,
    /// Per core, changes that it is still to be told.
    untold: Vec<Vec<InterestChange>>,
    members: Vec<(usize, ConnKey)>,
    publishers: Vec<ConnKey>,
    named: u32,
}

const CORES: usize = 4;
const WORKERS: usize = 2;

fn holder(of: usize, seen_from: usize) -> Holder {
    if of / WORKERS == seen_from / WORKERS {
        Holder::Worker(WorkerId((of % WORKERS) as u16))
    } else {
        Holder::Peer(NodeId((of / WORKERS) as u64))
    }
}

impl Cluster {
    fn new() -> Self {
        let mut worlds: Vec<World> =
            (0..CORES).map(|at| World::at((at / WORKERS) as u64, (at % WORKERS) as u16)).collect();
        let publishers =
            worlds.iter_mut().enumerate().map(|(n, w)| w.connect(Version::V5, &format!("p{n}")).0).collect();
        let untold = (0..CORES).map(|_| Vec::new()).collect();
        Self { worlds, links: BTreeMap::new(), untold, members: Vec::new(), publishers, named: 0 }
    }

    fn holds(&self, node: usize) -> bool {
        self.members.iter().any(|(at, _)| at / WORKERS == node)
    }

    fn tell(&mut self, of: usize, wanted: bool) {
        let others = (0..CORES).filter(|at| *at != of);
        // Of a node, the first and the last interest is told.
        let known = self.members.iter().any(|(at, _)| *at != of && at / WORKERS == of / WORKERS);
        for at in others.filter(|at| at / WORKERS == of / WORKERS || !known) {
            let (holder, filter) = (holder(of, at), SHARED.into());
            self.untold[at].push(match wanted {
                true => InterestChange::Add { holder, broker: B, filter },
                false => InterestChange::Remove { holder, broker: B, filter },
            });
        }
    }

    fn inform(&mut self, at: usize) {
        let changes = std::mem::take(&mut self.untold[at]);
        if !changes.is_empty() {
            self.worlds[at].step(Input::Interest { token: 1, changes: &changes });
        }
    }

    fn join(&mut self, at: usize) {
        self.named += 1;
        let (conn, _) = self.worlds[at].connect(Version::V5, &format!("m{}", self.named));
        let effects = self.worlds[at].subscribe(conn, SHARED, QoS::AtLeastOnce);
        if let [Effect::Subscribe { token, .. }] = effects[..] {
            self.tell(at, true);
            (0..CORES).for_each(|other| self.inform(other));
            self.worlds[at].step(Input::Barrier { token, seen: true });
        }
        assert_eq!(self.worlds[at].sent(conn, Version::V5).len(), 1, "the suback");
        self.members.push((at, conn));
    }

    fn leave(&mut self, member: usize) {
        let (at, conn) = self.members.remove(member);
        let effects = self.worlds[at].step(Input::Closed { conn });
        if effects.iter().any(|effect| matches!(effect, Effect::Unsubscribe { .. })) {
            self.tell(at, false);
        }
        self.collect(at);
    }

    fn publish(&mut self, at: usize, n: usize, qos_1: bool) {
        let (publisher, topic) = (self.publishers[at], format!("t/{n}"));
        self.worlds[at].publish(publisher, &topic, qos_1.then_some(1 + n as u16));
        self.collect(at);
    }

    fn collect(&mut self, at: usize) {
        for effect in self.worlds[at].flush() {
            let Effect::Send { to, batch } = effect else { continue };
            let to = match to {
                Holder::Worker(worker) => at / WORKERS * WORKERS + usize::from(worker.0),
                Holder::Peer(node) => node.0 as usize * WORKERS,
                Holder::Store => panic!("nothing is retained here"),
            };
            self.links.entry((at, to)).or_default().push_back(batch);
        }
    }

    /// The first batch of a link arrives.
    fn arrive(&mut self, from: usize, to: usize) -> bool {
        let Some(batch) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        if from / WORKERS == to / WORKERS {
            self.worlds[to].step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &batch.runs });
            self.collect(to);
        } else {
            let first = to / WORKERS * WORKERS;
            let serving = (0..WORKERS).filter(|w| self.members.iter().any(|(at, _)| *at == first + w));
            let mut workers: Vec<WorkerId> = serving.map(|w| WorkerId(w as u16)).collect();
            if workers.is_empty() {
                workers.push(WorkerId(0));
            }
            for worker in &workers {
                let at = first + usize::from(worker.0);
                let via = Via::Node { workers: &workers, seq: batch.seq };
                self.worlds[at].step(Input::Forwarded { origin: 5, via, runs: &batch.runs });
                self.collect(at);
            }
        }
        self.worlds[from].step(Input::Accepted { from: holder(to, from), through: batch.seq });
        true
    }

    fn settle(&mut self) {
        (0..CORES).for_each(|at| self.inform(at));
        while self.links.keys().copied().collect::<Vec<_>>().into_iter().any(|(from, to)| self.arrive(from, to)) {}
    }

    fn dropped(&self) -> u64 {
        self.worlds.iter().flat_map(|w| w.core.stats.dropped.values()).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Publish(usize),
    Arrive(usize, usize),
    Inform(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..CORES).prop_map(Step::Join),
        2 => (0..8usize).prop_map(Step::Leave),
        6 => (0..CORES).prop_map(Step::Publish),
        4 => (0..CORES, 0..CORES).prop_map(|(from, to)| Step::Arrive(from, to)),
        2 => (0..CORES).prop_map(Step::Inform),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One member stays; the others come and go while messages are on their way.
    #[test]
    fn each_publish_reaches_one_member(anchor in 0..CORES, steps in proptest::collection::vec(step(), 1..60)) {
        let mut c = Cluster::new();
        c.join(anchor);
        let mut got: Vec<String> = Vec::new();
        let mut published = 0;
        for step in steps {
            match step {
                Step::Join(at) => c.join(at),
                Step::Leave(member) if member + 1 < c.members.len() => {
                    let (at, conn) = c.members[member + 1];
                    got.extend(c.worlds[at].got(conn));
                    c.leave(member + 1);
                }
                Step::Leave(_) => {}
                Step::Publish(at) => {
                    c.publish(at, published, false);
                    published += 1;
                }
                Step::Arrive(from, to) => { c.arrive(from, to); }
                Step::Inform(at) => c.inform(at),
            }
        }
        c.settle();
        prop_assert!(c.holds(anchor / WORKERS));
        for (at, conn) in c.members.clone() {
            got.extend(c.worlds[at].got(conn));
        }
        got.sort_unstable();
        let reached = got.len();
        got.dedup();
        prop_assert_eq!(got.len(), reached, "nobody gets what another got");
        prop_assert_eq!(reached as u64 + c.dropped(), published as u64);
    }

    /// As above at QoS 1, and who leaves has acknowledged nothing: whoever stays gets it all.
    #[test]
    fn what_leavers_had_is_had_by_those_who_stay(anchor in 0..CORES, steps in proptest::collection::vec(step(), 1..60)) {
        let mut c = Cluster::new();
        c.join(anchor);
        let mut published = 0;
        for step in steps {
            match step {
                Step::Join(at) => c.join(at),
                Step::Leave(member) if member + 1 < c.members.len() => c.leave(member + 1),
                Step::Leave(_) => {}
                Step::Publish(at) => {
                    c.publish(at, published, true);
                    published += 1;
                }
                Step::Arrive(from, to) => { c.arrive(from, to); }
                Step::Inform(at) => c.inform(at),
            }
        }
        c.settle();
        let mut got: Vec<String> = Vec::new();
        for (at, conn) in c.members.clone() {
            got.extend(c.worlds[at].got(conn));
        }
        got.sort_unstable();
        let reached = got.len();
        got.dedup();
        prop_assert_eq!(got.len(), reached, "nobody gets what another one keeps");
        prop_assert_eq!(reached as u64 + c.dropped(), published as u64);
        for (n, world) in c.worlds.iter_mut().enumerate() {
            let publisher = get(&mut world.core.conns, c.publishers[n]).map(|conn| &conn.phase);
            let unanswered = match publisher {
                Some(Phase::Active(active)) => active.session.acks.len(),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(unanswered, 0, "every publish was acknowledged");
        }
    }
}
