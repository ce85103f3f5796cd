//! Effect-list tests: a worker alone, fed by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use rookery_cluster::clock::UnixMillis;
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, FiringWill, InterestChange, Keep, Leave, Run};
use rookery_cluster::ids::{Epoch, Incarnation, NodeId, SessionId};
use rookery_cluster::limits::{CONNECT_DEADLINE, LEASE, PUBLISH_TIMEOUT};
use rookery_cluster::topics::Acl;

use super::*;
use crate::mqtt::codec::{
    Ack, Connect, Disconnect, MessageProperties, Packet, PacketId, Publish, QoS, Sender, Subscribe, SubscribeFilter,
    Version, decode, encode, split,
};

mod again;
mod drain;
mod ends;
mod farewell;
mod qos2;
mod retained;
mod sessions;
mod share;
mod system;
mod wills;

const B: BrokerId = BrokerId(9);
const PEER: Holder = Holder::Peer(NodeId(2));
/// What a connection leaves that ends without a goodbye and has no session to keep.
const LOST: Leave = Leave { keep: None, fire_will: true };
/// What is said of one that the worker does not know.
const UNKNOWN: Leave = Leave { keep: Some(Keep { expiry: None, home: None }), fire_will: true };

struct World {
    core: Core,
    /// Whether there are other nodes.
    elsewhere: bool,
    now: Moment,
    wall: UnixMillis,
    serving_until: Moment,
    revoked: BTreeSet<String>,
}

struct Sight {
    elsewhere: bool,
    serving_until: Moment,
    wall: UnixMillis,
    revoked: BTreeSet<String>,
}

impl View for Sight {
    fn serving_until(&self) -> Moment {
        self.serving_until
    }
    fn elsewhere(&self, transport: Transport) -> Option<String> {
        self.elsewhere.then(|| format!("two:{transport:?} three:{transport:?}"))
    }

    fn wall(&self) -> UnixMillis {
        self.wall
    }
    fn admits(&self, admitted: &Admitted) -> Result<(), ReasonCode> {
        if self.revoked.contains(&*admitted.jti) { Err(ReasonCode::NOT_AUTHORIZED) } else { Ok(()) }
    }
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

impl World {
    fn new() -> Self {
        Self::at(1, 0)
    }

    fn at(node: u64, worker: u16) -> Self {
        let life = NodeLife { node: NodeId(node), incarnation: Incarnation(1) };
        let mut core = Core::new(WorkerId(worker), life, 7);
        core.interest_complete = true;
        let far = Moment(Duration::from_secs(3600));
        Self {
            core,
            elsewhere: false,
            now: Moment(Duration::from_secs(1)),
            wall: UnixMillis(1_000_000),
            serving_until: far,
            revoked: BTreeSet::new(),
        }
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Effect> {
        let (serving_until, wall, revoked) = (self.serving_until, self.wall, self.revoked.clone());
        let sight = Sight { elsewhere: self.elsewhere, serving_until, wall, revoked };
        let mut out = Vec::new();
        self.core.step(self.now, input, &sight, &mut out);
        out
    }

    fn flush(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        self.core.flush(self.now, &mut out);
        out
    }

    fn open(&mut self) -> ConnKey {
        self.core.open(self.now, ([127, 0, 0, 1], 9).into(), None, Transport::Tcp)
    }

    fn packet(&mut self, conn: ConnKey, version: Version, packet: &Packet) -> Vec<Effect> {
        let mut bytes = BytesMut::new();
        encode(packet, version, &mut bytes).expect("encodes");
        self.step(Input::Read { conn, bytes: &bytes })
    }

    /// What the server sent since the last call, without reason strings.
    fn sent(&mut self, conn: ConnKey, version: Version) -> Vec<Packet> {
        self.sent_in_full(conn, version).into_iter().map(Packet::unexplained).collect()
    }

    fn sent_in_full(&mut self, conn: ConnKey, version: Version) -> Vec<Packet> {
        let bytes = self.core.outbound(conn).expect("open").take();
        let mut rest = &bytes[..];
        let mut all = Vec::new();
        while let Some(frame) = split(rest, usize::MAX).expect("well formed") {
            let packet = decode(Some(version), Sender::Server, frame.first_byte, frame.body(rest)).expect("decodes");
            all.push(packet);
            rest = &rest[frame.total..];
        }
        all
    }

    fn admitted(client: &str) -> Admitted {
        Admitted {
            broker: B,
            client: client.into(),
            jti: format!("jti-{client}").into(),
            kid: "k".into(),
            expires: None,
            acl: Arc::new(Acl::new(&["#".into()], &["#".into(), "$SYS/#".into()], client).expect("an acl")),
            settings: Arc::new(Settings::default()),
        }
    }

    fn claiming(&mut self, version: Version, client: &str) -> (ConnKey, Nonce) {
        self.claiming_by(Connect::new(version, client))
    }

    fn claiming_by(&mut self, connect: Connect) -> (ConnKey, Nonce) {
        self.claiming_at(B, connect)
    }

    fn claiming_at(&mut self, broker: BrokerId, connect: Connect) -> (ConnKey, Nonce) {
        let conn = self.open();
        let (version, client) = (connect.version, &connect.client_id.clone());
        let effects = self.packet(conn, version, &Packet::Connect(Box::new(connect)));
        assert!(matches!(&effects[..], [Effect::Authenticate { conn: c, .. }] if *c == conn), "{effects:?}");
        let admitted = Admitted { broker, ..Self::admitted(client) };
        let effects = self.step(Input::Authenticated { conn, result: Ok(admitted) });
        let [Effect::Claim(claim)] = &effects[..] else { panic!("{effects:?}") };
        (conn, claim.nonce)
    }

    fn grant(&mut self, client: &str, nonce: Nonce, epoch: u64) -> Vec<Effect> {
        let client = client.into();
        self.step(Input::Claim(ClaimEvent::Granted { broker: B, client, nonce, epoch: Epoch(epoch), session: None }))
    }

    fn connect(&mut self, version: Version, client: &str) -> (ConnKey, Nonce) {
        self.connect_to(B, version, client)
    }

    fn connect_to(&mut self, broker: BrokerId, version: Version, client: &str) -> (ConnKey, Nonce) {
        let (conn, nonce) = self.claiming_at(broker, Connect::new(version, client));
        assert_eq!(self.grant(client, nonce, 1), []);
        let sent = self.sent(conn, version);
        assert!(matches!(&sent[..], [Packet::Connack(c)] if c.reason == ReasonCode::SUCCESS), "{sent:?}");
        (conn, nonce)
    }

    fn subscribe(&mut self, conn: ConnKey, filter: &str, qos: QoS) -> Vec<Effect> {
        let subscribe = Subscribe {
            packet_id: id(1),
            filters: vec![SubscribeFilter::new(filter, qos)],
            subscription_id: None,
            user_properties: Vec::new(),
        };
        self.packet(conn, Version::V5, &Packet::Subscribe(subscribe))
    }

    fn subscribed(&mut self, client: &str, filter: &str, qos: QoS) -> ConnKey {
        let (conn, _) = self.connect(Version::V5, client);
        let effects = self.subscribe(conn, filter, qos);
        if let [Effect::Subscribe { token, .. }] = effects[..] {
            self.step(Input::Barrier { token, seen: true });
        }
        assert!(matches!(&self.sent(conn, Version::V5)[..], [Packet::Suback(_)]));
        conn
    }

    fn publish(&mut self, conn: ConnKey, topic: &str, packet_id: Option<u16>) -> Vec<Effect> {
        let qos = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let publish = Publish {
            topic: topic.into(),
            qos,
            packet_id: packet_id.map(id),
            payload: "x".into(),
            ..Publish::default()
        };
        self.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)))
    }

    /// Publishes 100 KiB at a time until the connection is not read from any more; returns how many were taken.
    fn fill(&mut self, conn: ConnKey, topic: &str) -> u64 {
        let before = self.core.stats.publishes_received;
        while self.core.wants_read(conn) {
            let publish = Publish { topic: topic.into(), payload: vec![0; 100 << 10].into(), ..Publish::default() };
            self.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
        }
        self.core.stats.publishes_received - before
    }

    fn peer_wants(&mut self, filter: &str) {
        let changes = [InterestChange::Add { holder: PEER, broker: B, filter: filter.into() }];
        assert_eq!(self.step(Input::Interest { token: 5, changes: &changes }), [Effect::InterestSeen { token: 5 }]);
    }
}

fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Disconnect::new(reason))
}

#[test]
fn qos_0_and_1_reach_local_subscribers_and_are_acknowledged() {
    let mut w = World::new();
    let a = w.subscribed("a", "t/+", QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    assert_eq!(w.publish(p, "t/1", None), []);
    assert_eq!(w.publish(p, "t/2", Some(7)), []);
    let got: Vec<_> = w
        .sent(a, Version::V5)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(p) => (p.topic, p.packet_id),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, [("t/1".into(), None), ("t/2".into(), Some(id(1)))]);
    assert_eq!(w.sent(p, Version::V5), [Packet::Puback(Ack::new(id(7), ReasonCode::SUCCESS))]);
    w.publish(p, "nobody", Some(8));
    assert_eq!(w.sent(p, Version::V5), [Packet::Puback(Ack::new(id(8), ReasonCode::NO_MATCHING_SUBSCRIBERS))]);
}

#[test]
fn p4_puback_waits_for_every_destination_and_keeps_order() {
    let mut w = World::new();
    w.peer_wants("r/#");
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "r/1", Some(1));
    w.publish(p, "elsewhere", Some(2));
    let effects = w.flush();
    let [Effect::Send { to: PEER, batch }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((batch.seq, batch.runs[0].count), (1, 1));
    assert_eq!(w.sent(p, Version::V5), []);
    w.step(Input::Accepted { from: PEER, through: 1 });
    let acks = w.sent(p, Version::V5);
    assert_eq!(acks.len(), 2);
    assert_eq!(acks[0], Packet::Puback(Ack::new(id(1), ReasonCode::SUCCESS)));
}

#[test]
fn a_publish_that_is_never_accepted_closes_its_publisher() {
    let mut w = World::new();
    w.peer_wants("r");
    let (p, nonce) = w.connect(Version::V5, "p");
    w.publish(p, "r", Some(1));
    w.flush();
    w.now = w.now + PUBLISH_TIMEOUT;
    let effects = w.step(Input::Tick);
    assert_eq!(w.sent(p, Version::V5), [disconnect(ReasonCode::SERVER_BUSY)]);
    assert!(effects.contains(&Effect::Close { conn: p }));
    assert!(effects.iter().any(|e| matches!(e, Effect::Release { nonce: n, .. } if *n == nonce)));
}

#[test]
fn an_expired_peer_is_owed_nothing() {
    let mut w = World::new();
    w.peer_wants("r");
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "r", Some(1));
    w.flush();
    w.step(Input::Expired { holder: PEER });
    assert_eq!(w.sent(p, Version::V5), [Packet::Puback(Ack::new(id(1), ReasonCode::SUCCESS))]);
}

/// The batches that were sent: number and publishes.
fn batches(effects: &[Effect]) -> Vec<(u64, u32)> {
    let of = |e: &Effect| match e {
        Effect::Send { batch, .. } => Some((batch.seq, batch.runs.iter().map(|run| run.count).sum())),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn r10_a_full_destination_pauses_only_who_fills_it() {
    let mut w = World::new();
    w.peer_wants("r");
    let (p, _) = w.connect(Version::V5, "p");
    let (q, _) = w.connect(Version::V5, "q");
    w.publish(p, "r", None);
    let Some(Effect::Send { to, batch }) = w.flush().pop() else { panic!("a batch") };
    w.step(Input::NoCredit { to, batch });
    let taken = w.fill(p, "r");
    w.publish(q, "other", None);
    assert!(!w.core.wants_read(p));
    assert!(w.core.wants_read(q));
    let mut sent = batches(&w.step(Input::Room { to }));
    assert!(w.core.wants_read(p));
    assert_eq!(sent[0], (1, 1));
    while w.core.has_batches() {
        sent.extend(batches(&w.flush()));
    }
    assert!(sent.iter().map(|(seq, _)| *seq).eq(1..=sent.len() as u64), "{sent:?}");
    // The one that found no room comes after those that were taken.
    assert_eq!(sent.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), 1 + taken + 1);
}

#[test]
fn r19_a_flooding_broker_pauses_its_own_publishers_and_delays_nobody_else() {
    let mut w = World::new();
    w.peer_wants("r");
    let other = BrokerId(8);
    let changes = [InterestChange::Add { holder: PEER, broker: other, filter: "r".into() }];
    w.step(Input::Interest { token: 6, changes: &changes });
    let (p, _) = w.connect(Version::V5, "p");
    let (q, _) = w.connect_to(other, Version::V5, "q");
    w.publish(p, "r", None);
    let Some(Effect::Send { to, batch }) = w.flush().pop() else { panic!("a batch") };
    w.step(Input::NoCredit { to, batch });
    w.fill(p, "r");
    w.publish(q, "r", Some(1));
    assert!(w.core.wants_read(q), "its broker has used nothing of its share");
    let effects = w.step(Input::Room { to });
    let carries = |e: &Effect| matches!(e, Effect::Send { batch, .. } if batch.runs.iter().any(|r| r.broker == other));
    assert!(carries(&effects[1]), "the first batch that is made has something of both");
    assert_eq!(w.sent(q, Version::V5), []);
    w.step(Input::Accepted { from: to, through: 2 });
    assert_eq!(w.sent(q, Version::V5), [Packet::Puback(Ack::new(id(1), ReasonCode::SUCCESS))]);
}

#[test]
fn r19_a_broker_whose_bytes_are_used_up_drops_its_own_and_no_other() {
    let mut w = World::new();
    let other = BrokerId(8);
    let slow = w.subscribed("slow", "t", QoS::AtMostOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let (q, _) = w.connect_to(other, Version::V5, "q");
    w.subscribe(q, "t", QoS::AtMostOnce);
    w.sent(q, Version::V5);
    let mut usage = Vec::new();
    while usage.is_empty() {
        let publish = Publish { topic: "t".into(), payload: vec![0; 100 << 10].into(), ..Publish::default() };
        w.packet(p, Version::V5, &Packet::Publish(Box::new(publish)));
        w.core.take_dirty(&mut Vec::new());
        w.core.take_usage(&mut usage);
    }
    let [Usage { broker: B, bytes, budget: _ }] = usage[..] else { panic!("{usage:?}") };
    assert_eq!(bytes, w.core.outbound(slow).expect("open").len());
    assert!((1 << 20..1200 << 10).contains(&bytes), "told as soon as it is a step: {bytes}");

    for (full, reason) in [(Full::Broker, DropReason::BrokerMemory), (Full::Node, DropReason::NodeMemory)] {
        w.core.account_stands(B, Some(full));
        w.publish(p, "t", None);
        w.publish(q, "t", None);
        assert_eq!(w.core.stats.dropped.get(&reason), Some(&1));
        assert_eq!(w.sent(q, Version::V5).len(), 1, "the other broker's is delivered");
    }

    w.core.outbound(slow).expect("open").take();
    w.core.drained(w.now, slow);
    usage.clear();
    w.core.take_usage(&mut usage);
    assert_eq!(usage.iter().map(|usage| usage.bytes).sum::<usize>(), 0, "told as soon as it is free again");
    w.core.account_stands(B, None);
    w.publish(p, "t", None);
    assert_eq!(w.sent(slow, Version::V5).len(), 1);
}

#[test]
fn r19_what_a_connection_kept_is_free_when_it_is_gone() {
    let mut w = World::new();
    let slow = w.subscribed("slow", "t", QoS::AtMostOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let publish = Publish { topic: "t".into(), payload: vec![0; 100 << 10].into(), ..Publish::default() };
    w.packet(p, Version::V5, &Packet::Publish(Box::new(publish)));
    let mut told = Vec::new();
    for step in [Input::Tick, Input::Closed { conn: slow }, Input::Tick, Input::Closed { conn: p }] {
        w.step(step);
        w.core.take_dirty(&mut Vec::new());
        w.core.take_usage(&mut told);
    }
    let bytes: Vec<usize> = told.iter().map(|usage| usage.bytes).collect();
    assert!(bytes[0] > 100 << 10, "{told:?}");
    assert_eq!(bytes.last(), Some(&0), "{told:?}");
}

#[test]
fn what_came_while_paused_is_performed_in_order_afterwards() {
    let mut w = World::new();
    let a = w.subscribed("a", "late/#", QoS::AtMostOnce);
    w.peer_wants("r");
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "r", None);
    let Some(Effect::Send { to, batch }) = w.flush().pop() else { panic!("a batch") };
    w.step(Input::NoCredit { to, batch });
    w.fill(p, "r");
    w.publish(p, "late/1", None);
    w.publish(p, "late/2", None);
    assert_eq!(w.sent(a, Version::V5).len(), 0);
    w.step(Input::Room { to });
    let topics: Vec<_> = w
        .sent(a, Version::V5)
        .into_iter()
        .map(|packet| if let Packet::Publish(p) = packet { p.topic } else { String::new() })
        .collect();
    assert_eq!(topics, ["late/1", "late/2"]);
}

#[test]
fn p3_takeover_says_0x8e_before_the_claim_is_given_back() {
    for version in [Version::V5, Version::V311] {
        let mut w = World::new();
        let (a, nonce) = w.connect(version, "a");
        let event = ClaimEvent::Revoked { broker: B, client: "a".into(), nonce, epoch: Epoch(1) };
        let effects = w.step(Input::Claim(event.clone()));
        let release =
            Effect::Release { broker: B, client: "a".into(), epoch: Epoch(1), nonce, leave: LOST, after: Some(a) };
        assert_eq!(effects, [release, Effect::Close { conn: a }]);
        let told = if version == Version::V5 { vec![disconnect(ReasonCode::SESSION_TAKEN_OVER)] } else { vec![] };
        assert_eq!(w.sent(a, version), told);
        assert!(w.core.closing(a));
        // It comes again until the shard knows (R4). While 0x8E waits for the socket, so does the claim.
        assert_eq!(w.step(Input::Claim(event.clone())), []);
        w.step(Input::Closed { conn: a });
        let again = w.step(Input::Claim(event));
        assert_eq!(
            again,
            [Effect::Release { broker: B, client: "a".into(), epoch: Epoch(1), nonce, leave: UNKNOWN, after: None }]
        );
    }
}

#[test]
fn r5_a_grant_whose_connection_is_gone_is_released() {
    let mut w = World::new();
    let (a, nonce) = w.claiming(Version::V5, "a");
    let effects = w.step(Input::Closed { conn: a });
    assert_eq!(effects, [Effect::Abandon { broker: B, client: "a".into(), nonce }]);
    let effects = w.grant("a", nonce, 4);
    assert_eq!(
        effects,
        [Effect::Release {
            broker: B,
            client: "a".into(),
            epoch: Epoch(4),
            nonce,
            leave: Leave::default(),
            after: None
        }]
    );
}

#[test]
fn refused_claims_say_why() {
    let cases = [
        (ClaimRefusal::Superseded, ReasonCode::SERVER_UNAVAILABLE),
        (ClaimRefusal::Unavailable, ReasonCode::SERVER_UNAVAILABLE),
        (ClaimRefusal::TooFast, ReasonCode::CONNECTION_RATE_EXCEEDED),
        (ClaimRefusal::Full, ReasonCode::QUOTA_EXCEEDED),
    ];
    for (why, reason) in cases {
        let mut w = World::new();
        let (a, nonce) = w.claiming(Version::V5, "a");
        let effects = w.step(Input::Claim(ClaimEvent::Refused { broker: B, client: "a".into(), nonce, why }));
        assert_eq!(effects, [Effect::Close { conn: a }]);
        assert!(matches!(&w.sent(a, Version::V5)[..], [Packet::Connack(c)] if c.reason == reason));
    }
}

#[test]
fn p8_suback_waits_for_its_barrier_and_says_when_it_failed() {
    for (seen, reason) in [(true, ReasonCode::GRANTED_QOS_1), (false, ReasonCode::IMPLEMENTATION_SPECIFIC)] {
        let mut w = World::new();
        let (a, _) = w.connect(Version::V5, "a");
        let effects = w.subscribe(a, "x/#", QoS::AtLeastOnce);
        let [Effect::Subscribe { token, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(w.sent(a, Version::V5), []);
        let effects = w.step(Input::Barrier { token, seen });
        assert_eq!(effects.is_empty(), seen, "a filter that failed is withdrawn: {effects:?}");
        assert!(matches!(&w.sent(a, Version::V5)[..], [Packet::Suback(s)] if s.reasons == [reason]));
    }
}

#[test]
fn the_end_of_the_lease_ends_every_connection_before_anything_is_read() {
    let mut w = World::new();
    let a = w.subscribed("a", "t", QoS::AtMostOnce);
    let (p, _) = w.connect(Version::V5, "p");
    w.serving_until = w.now + LEASE;
    w.now = w.now + LEASE;
    w.publish(p, "t", Some(1));
    assert_eq!(w.sent(a, Version::V5), [disconnect(ReasonCode::USE_ANOTHER_SERVER)]);
    assert_eq!(w.sent(p, Version::V5), [disconnect(ReasonCode::USE_ANOTHER_SERVER)]);
}

#[test]
fn p13_without_a_lease_a_connect_is_refused_with_a_reason() {
    let mut w = World::new();
    let (waiting, nonce) = w.claiming(Version::V5, "w");
    w.serving_until = w.now;
    let effects = w.step(Input::Tick);
    assert!(effects.contains(&Effect::Abandon { broker: B, client: "w".into(), nonce }), "{effects:?}");
    let refused = |w: &mut World, conn| match &w.sent(conn, Version::V5)[..] {
        [Packet::Connack(c)] => c.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut w, waiting), ReasonCode::USE_ANOTHER_SERVER);
    let late = w.open();
    let effects = w.packet(late, Version::V5, &Packet::Connect(Box::new(Connect::new(Version::V5, "l"))));
    assert_eq!(effects, [Effect::Close { conn: late }]);
    assert_eq!(refused(&mut w, late), ReasonCode::SERVER_UNAVAILABLE);
}

#[test]
fn a_3_1_1_client_with_many_unacknowledged_publishes_waits() {
    let mut w = World::new();
    w.peer_wants("r");
    let (p, _) = w.connect(Version::V311, "p");
    let publish =
        |n| Publish { topic: "r".into(), qos: QoS::AtLeastOnce, packet_id: Some(id(n)), ..Publish::default() };
    let most = Settings::default().receive_maximum;
    for n in 1..=most + 3 {
        w.packet(p, Version::V311, &Packet::Publish(Box::new(publish(n))));
    }
    assert!(!w.core.wants_read(p) && !w.core.closing(p));
    let sent = w.flush().len() as u64;
    w.step(Input::Accepted { from: PEER, through: sent });
    assert_eq!(w.sent(p, Version::V311).len(), usize::from(most));
    assert!(w.core.wants_read(p));
    assert_eq!(w.flush().len(), 1, "the rest goes on");
}

#[test]
fn p12_who_does_not_read_its_answers_is_read_no_further() {
    let mut w = World::new();
    let (a, _) = w.connect(Version::V5, "a");
    let pings = [0xc0, 0].repeat(64 << 10);
    let turns = (0..1000).take_while(|_| {
        w.step(Input::Read { conn: a, bytes: &pings });
        w.core.wants_read(a)
    });
    assert!(turns.count() < 100);
    w.sent(a, Version::V5);
    assert!(w.core.wants_read(a));
}

#[test]
fn p12_subscribes_that_wait_for_their_barriers_are_bounded() {
    let mut w = World::new();
    let (a, _) = w.connect(Version::V5, "a");
    let mut tokens = Vec::new();
    for n in 1..100 {
        let filters = vec![SubscribeFilter::new(format!("f/{n}"), QoS::AtMostOnce)];
        let subscribe = Subscribe { packet_id: id(n), filters, subscription_id: None, user_properties: Vec::new() };
        tokens.extend(w.packet(a, Version::V5, &Packet::Subscribe(subscribe)));
    }
    assert!(tokens.len() < 20 && !w.core.wants_read(a));
    let mut answered = 0;
    while let Some(Effect::Subscribe { token, .. }) = tokens.pop() {
        tokens.extend(w.step(Input::Barrier { token, seen: true }));
        answered += w.sent(a, Version::V5).len();
    }
    assert_eq!(answered, 99);
}

#[test]
fn a_client_at_its_limit_may_change_a_subscription() {
    let mut w = World::new();
    let (a, nonce) = w.claiming(Version::V5, "a");
    let settings = Settings { max_subscriptions: 1, ..Settings::default() };
    w.step(Input::Reconfigured { broker: B, settings: Arc::new(settings) });
    w.grant("a", nonce, 1);
    w.sent(a, Version::V5);
    let answer = |w: &mut World, filter: &str, qos| {
        if let [Effect::Subscribe { token, .. }] = w.subscribe(a, filter, qos)[..] {
            w.step(Input::Barrier { token, seen: true });
        }
        match &w.sent(a, Version::V5)[..] {
            [Packet::Suback(suback)] => suback.reasons.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(answer(&mut w, "x", QoS::AtMostOnce), [ReasonCode::SUCCESS]);
    assert_eq!(answer(&mut w, "x", QoS::AtLeastOnce), [ReasonCode::GRANTED_QOS_1]);
    assert_eq!(answer(&mut w, "y", QoS::AtMostOnce), [ReasonCode::QUOTA_EXCEEDED]);
}

#[test]
fn a_paused_publisher_is_not_taken_for_silent() {
    let mut w = World::new();
    w.peer_wants("r");
    let conn = w.open();
    let connect = Connect { keep_alive: 1, ..Connect::new(Version::V5, "p") };
    w.packet(conn, Version::V5, &Packet::Connect(Box::new(connect)));
    let effects = w.step(Input::Authenticated { conn, result: Ok(World::admitted("p")) });
    let [Effect::Claim(claim)] = &effects[..] else { panic!("{effects:?}") };
    w.grant("p", claim.nonce, 1);
    w.publish(conn, "r", None);
    let Some(Effect::Send { to, batch }) = w.flush().pop() else { panic!("a batch") };
    w.step(Input::NoCredit { to, batch });
    w.fill(conn, "r");
    w.now = w.now + Duration::from_secs(3);
    w.step(Input::Tick);
    assert!(!w.core.closing(conn));
    w.step(Input::Room { to });
    w.step(Input::Tick);
    assert!(!w.core.closing(conn));
}

#[test]
fn p2_a_revoked_token_ends_its_connection_and_no_other() {
    let mut w = World::new();
    let (a, _) = w.connect(Version::V5, "a");
    let (b, _) = w.connect(Version::V5, "b");
    w.revoked.insert("jti-a".into());
    w.step(Input::Recheck { broker: Some(B) });
    assert_eq!(w.sent(a, Version::V5), [disconnect(ReasonCode::NOT_AUTHORIZED)]);
    assert_eq!(w.sent(b, Version::V5), []);
}

#[test]
fn p2_a_token_revoked_between_check_and_grant_admits_nobody() {
    let mut w = World::new();
    let (a, nonce) = w.claiming(Version::V5, "a");
    w.revoked.insert("jti-a".into());
    let effects = w.grant("a", nonce, 1);
    assert!(effects.iter().any(|e| matches!(e, Effect::Release { .. })), "{effects:?}");
    assert!(matches!(&w.sent(a, Version::V5)[..], [Packet::Connack(c)] if c.reason == ReasonCode::NOT_AUTHORIZED));
}

#[test]
fn an_expired_token_and_a_silent_client_are_told() {
    let mut w = World::new();
    let (conn, _) = w.claiming_with_expiry();
    w.wall = UnixMillis(2_000_000);
    w.step(Input::Tick);
    assert_eq!(w.sent(conn, Version::V5), [disconnect(ReasonCode::NOT_AUTHORIZED)]);
    let quiet = w.open();
    w.now = w.now + CONNECT_DEADLINE;
    assert_eq!(w.step(Input::Tick), [Effect::Close { conn: quiet }]);
    assert_eq!(w.sent(quiet, Version::V5), []);
}

impl World {
    fn claiming_with_expiry(&mut self) -> (ConnKey, Nonce) {
        let conn = self.open();
        self.packet(conn, Version::V5, &Packet::Connect(Box::new(Connect::new(Version::V5, "e"))));
        let admitted = Admitted { expires: Some(UnixMillis(2_000_000)), ..Self::admitted("e") };
        let effects = self.step(Input::Authenticated { conn, result: Ok(admitted) });
        let [Effect::Claim(claim)] = &effects[..] else { panic!("{effects:?}") };
        let nonce = claim.nonce;
        self.grant("e", nonce, 1);
        self.sent(conn, Version::V5);
        (conn, nonce)
    }
}

#[test]
fn malformed_bytes_end_one_connection_with_its_reason() {
    let mut w = World::new();
    let (a, _) = w.connect(Version::V5, "a");
    let (b, _) = w.connect(Version::V311, "b");
    w.step(Input::Read { conn: a, bytes: &[0xc5, 0x00] });
    w.step(Input::Read { conn: b, bytes: &[0x00, 0x00] });
    assert_eq!(w.sent(a, Version::V5), [disconnect(ReasonCode::MALFORMED_PACKET)]);
    assert_eq!(w.sent(b, Version::V311), []);
    assert!(w.core.closing(a) && w.core.closing(b));
    assert_eq!(w.core.stats.protocol_errors, 2);
}

#[test]
fn forwarded_publishes_are_delivered_here_and_go_no_further() {
    let mut w = World::new();
    w.peer_wants("f");
    let a = w.subscribed("a", "f", QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    w.publish(p, "f", Some(3));
    let Some(Effect::Send { batch, .. }) = w.flush().pop() else { panic!("a batch") };
    assert_eq!(w.sent(a, Version::V5).len(), 1);
    w.step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &batch.runs });
    assert!(matches!(&w.sent(a, Version::V5)[..], [Packet::Publish(p)] if p.qos == QoS::AtLeastOnce));
    assert_eq!(w.flush(), []);
}

#[test]
fn forwarded_publishes_arrive_as_they_were_published_with_and_without_properties() {
    let mut w = World::new();
    w.peer_wants("f/#");
    let a = w.subscribed("a", "f/#", QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    let properties = MessageProperties {
        content_type: Some("text/plain".into()),
        user_properties: vec![("k".into(), "v".into())],
        ..MessageProperties::default()
    };
    let mut sent = Vec::new();
    for (n, topic) in ["f/1", "f/1", "f/2", "f/1"].into_iter().enumerate() {
        let publish = Publish {
            topic: topic.into(),
            payload: format!("{n}").into(),
            properties: if n % 2 == 1 { properties.clone() } else { MessageProperties::default() },
            ..Publish::default()
        };
        w.packet(p, Version::V5, &Packet::Publish(Box::new(publish.clone())));
        sent.push(Packet::Publish(Box::new(publish)));
    }
    let Some(Effect::Send { batch, .. }) = w.flush().pop() else { panic!("a batch") };
    assert_eq!(w.sent(a, Version::V5), sent);
    w.step(Input::Forwarded { origin: 5, via: Via::Worker, runs: &batch.runs });
    assert_eq!(w.sent(a, Version::V5), sent);
}

#[test]
fn packets_split_anywhere_make_the_same_session() {
    let mut bytes = BytesMut::new();
    let publish = Publish { topic: "t".into(), payload: "payload".into(), ..Publish::default() };
    for _ in 0..3 {
        encode(&Packet::Publish(Box::new(publish.clone())), Version::V5, &mut bytes).expect("encodes");
    }
    for cut in 0..bytes.len() {
        let mut w = World::new();
        let a = w.subscribed("a", "t", QoS::AtMostOnce);
        let (p, _) = w.connect(Version::V5, "p");
        w.step(Input::Read { conn: p, bytes: &bytes[..cut] });
        w.step(Input::Read { conn: p, bytes: &bytes[cut..] });
        assert_eq!(w.sent(a, Version::V5).len(), 3, "cut at {cut}");
    }
}

#[test]
fn an_idle_broker_leaves_nothing_behind() {
    let mut w = World::new();
    let a = w.subscribed("a", "t", QoS::AtMostOnce);
    assert_eq!(w.core.rooms.len(), 1);
    let effects = w.step(Input::Closed { conn: a });
    assert!(effects.iter().any(|e| matches!(e, Effect::Unsubscribe { .. })));
    assert_eq!((w.core.rooms.len(), w.core.conns.len(), w.core.claims.len()), (0, 0, 0));
}
