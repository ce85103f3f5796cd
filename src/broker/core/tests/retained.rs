//! Retained messages: who is sent what is to be kept, and what subscribers get of what is kept.

use std::sync::atomic::{AtomicU64, Ordering};

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::Replicas;
use rookery_cluster::retained::{Came, Full, Record, Stamp, Table, Time};

use super::*;
use crate::mqtt::codec::RetainHandling;

const OTHER: Holder = Holder::Peer(NodeId(3));

#[derive(Debug, Default)]
pub(super) struct Keeper {
    peers: Vec<NodeId>,
    needed: u16,
    full: bool,
    time: AtomicU64,
}

impl Keeper {
    /// So many other nodes must confirm.
    pub(super) fn needing(self, needed: u16) -> Self {
        Self { needed, ..self }
    }
}

impl Retaining for Keeper {
    fn replicas(&self) -> Arc<Replicas> {
        Arc::new(Replicas { peers: self.peers.clone(), needed: self.needed })
    }

    fn time(&self) -> Time {
        Time(self.time.fetch_add(1, Ordering::AcqRel))
    }

    fn admit(&self, _: BrokerId, _: &str, bytes: Option<usize>) -> Result<(Time, UnixMillis), Full> {
        if self.full && bytes.is_some() {
            return Err(Full);
        }
        Ok((Time(self.time.fetch_add(1, Ordering::AcqRel)), UnixMillis(1_000_000)))
    }
}

pub(super) fn world(keeper: Keeper) -> World {
    let mut w = World::new();
    w.core.retain(Arc::new(keeper));
    w.step(Input::RetainedComplete);
    w
}

pub(super) fn three() -> Keeper {
    Keeper { peers: vec![NodeId(2), NodeId(3)], needed: 1, ..Keeper::default() }
}

impl World {
    fn retain(&mut self, conn: ConnKey, topic: &str, packet_id: Option<u16>, payload: &'static str) -> Vec<Effect> {
        let qos = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let publish = Publish {
            topic: topic.into(),
            qos,
            retain: true,
            packet_id: packet_id.map(id),
            payload: payload.into(),
            ..Publish::default()
        };
        self.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)))
    }

    fn accept(&mut self, from: Holder) -> Vec<Effect> {
        self.step(Input::Accepted { from, through: 1 })
    }
}

fn sends(effects: &[Effect]) -> Vec<(Holder, Vec<Run>)> {
    let send = |effect: &Effect| match effect {
        Effect::Send { to, batch } => Some((*to, batch.runs.clone())),
        _ => None,
    };
    effects.iter().filter_map(send).collect()
}

fn acks(packets: Vec<Packet>) -> Vec<(u16, ReasonCode)> {
    let ack = |packet| match packet {
        Packet::Puback(ack) => (ack.packet_id.get(), ack.reason),
        other => panic!("{other:?}"),
    };
    packets.into_iter().map(ack).collect()
}

#[test]
fn every_live_peer_and_the_store_get_it_and_all_must_accept() {
    let mut w = world(three());
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    let sent = sends(&w.flush());
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [PEER, OTHER, Holder::Store], "the store is last");
    for (_, runs) in &sent {
        let [run] = &runs[..] else { panic!("{runs:?}") };
        let [kept] = &run.retained[..] else { panic!("{run:?}") };
        assert_eq!((&*kept.topic, kept.message.is_some(), kept.durable), ("t", true, true));
        assert_eq!(run.count, 0, "nobody there wants it");
    }
    w.accept(PEER);
    w.accept(Holder::Store);
    assert_eq!(w.sent(p, Version::V5), []);
    w.accept(OTHER);
    assert_eq!(acks(w.sent(p, Version::V5)), [(7, ReasonCode::NO_MATCHING_SUBSCRIBERS)]);
}

#[test]
fn a_peer_that_is_gone_is_not_waited_for_but_does_not_count() {
    let mut w = world(three());
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    w.flush();
    w.accept(Holder::Store);
    w.step(Input::Expired { holder: OTHER });
    w.accept(PEER);
    assert_eq!(acks(w.sent(p, Version::V5)).len(), 1, "two of three have it");
    w.retain(p, "t", Some(8), "y");
    w.flush();
    w.step(Input::Accepted { from: Holder::Store, through: 2 });
    w.step(Input::Expired { holder: OTHER });
    w.step(Input::Expired { holder: PEER });
    assert_eq!(w.sent(p, Version::V5), [], "nobody but this node has it");
    w.now = w.now + PUBLISH_TIMEOUT;
    assert!(matches!(w.step(Input::Tick)[..], [Effect::Release { .. }, Effect::Close { .. }]));
    assert_eq!(w.sent(p, Version::V5), [disconnect(ReasonCode::SERVER_BUSY)]);
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_is_done() {
    for (keeper, reason) in [
        (Keeper { full: true, ..three() }, ReasonCode::QUOTA_EXCEEDED),
        (Keeper { needed: 3, ..three() }, ReasonCode::IMPLEMENTATION_SPECIFIC),
    ] {
        let mut w = world(keeper);
        let s = w.subscribed("s", "t", QoS::AtLeastOnce);
        w.flush();
        let (p, _) = w.connect(Version::V5, "p");
        w.retain(p, "t", Some(7), "x");
        assert_eq!(acks(w.sent(p, Version::V5)), [(7, reason)]);
        assert_eq!(w.sent(s, Version::V5), []);
        assert_eq!(sends(&w.flush()), []);
        let (old, _) = w.connect(Version::V311, "old");
        let publish = Publish { topic: "t".into(), retain: true, payload: "x".into(), ..Publish::default() };
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id(1)), ..publish };
        w.packet(old, Version::V311, &Packet::Publish(Box::new(publish)));
        assert!(w.core.closing(old), "a client of 3.1.1 has no other word for it");
    }
}

#[test]
fn qos_0_beyond_the_bound_is_delivered_and_counted() {
    let mut w = world(Keeper { full: true, ..three() });
    let s = w.subscribed("s", "t", QoS::AtLeastOnce);
    let (p, _) = w.connect(Version::V5, "p");
    w.flush();
    w.retain(p, "t", None, "x");
    assert_eq!(w.sent(s, Version::V5).len(), 1);
    assert_eq!(w.core.stats.dropped[&DropReason::RetainedFull], 1);
    assert_eq!(sends(&w.flush()), []);
    w.retain(p, "t", None, "");
    let runs = sends(&w.flush());
    assert_eq!(runs.len(), 3);
    assert!(runs[0].1[0].retained.iter().all(|r| r.message.is_none() && !r.durable), "a deletion takes no room");
}

#[test]
fn a_broker_without_retained_messages_refuses_them() {
    let mut w = world(three());
    let (p, nonce) = w.claiming(Version::V5, "p");
    let settings = Arc::new(Settings { retain_available: false, ..Settings::default() });
    w.step(Input::Reconfigured { broker: B, settings });
    w.grant("p", nonce, 1);
    let sent = w.sent(p, Version::V5);
    let [Packet::Connack(connack)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(connack.properties.retain_available, Some(false));
    w.retain(p, "t", None, "x");
    assert_eq!(w.sent(p, Version::V5), [disconnect(ReasonCode::RETAIN_NOT_SUPPORTED)]);
}

/// What the store would have after these publishes.
fn table(topics: &[(&str, Option<u64>)]) -> Table {
    let mut table = Table::default();
    for (n, (topic, expires)) in topics.iter().enumerate() {
        let publish = Publish {
            topic: (*topic).into(),
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(9)),
            retain: true,
            payload: "kept".into(),
            ..Publish::default()
        };
        let mut bytes = BytesMut::new();
        encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut bytes).expect("encodes");
        let stamp = Stamp { time: Time(n as u64), node: NodeId(1) };
        let record = Record { stamp, expires: expires.map(UnixMillis), message: Some(bytes.freeze()) };
        table.merge(Moment::default(), B, topic, record, Came::Published);
    }
    table
}

impl World {
    /// Answers reads out of `table` until there are none; how many there were.
    fn serve_reads(&mut self, table: &Table) -> usize {
        let mut reads = 0;
        loop {
            let effects = self.flush();
            let wanted = effects.into_iter().filter_map(|effect| match effect {
                Effect::ReadRetained { conn, broker, filter, after, most } => Some((conn, broker, filter, after, most)),
                _ => None,
            });
            let wanted: Vec<_> = wanted.collect();
            if wanted.is_empty() {
                return reads;
            }
            for (conn, broker, filter, after, most) in wanted {
                reads += 1;
                let page = table.page(broker, &filter, after, self.wall, most);
                self.step(Input::Retained { conn, filter: &filter, page });
            }
        }
    }

    fn subscribe_with(&mut self, conn: ConnKey, filter: SubscribeFilter) {
        let filters = vec![filter];
        let subscribe = Subscribe { packet_id: id(3), filters, subscription_id: Some(5), user_properties: Vec::new() };
        let effects = self.packet(conn, Version::V5, &Packet::Subscribe(subscribe));
        if let Some(Effect::Subscribe { token, .. }) = effects.first() {
            let token = *token;
            assert!(!self.flush().iter().any(|e| matches!(e, Effect::ReadRetained { .. })), "not before the barrier");
            self.step(Input::Barrier { token, seen: true });
        }
        assert!(matches!(self.sent(conn, Version::V5)[..], [Packet::Suback(_)]), "SUBACK comes first");
    }
}

fn published(packets: Vec<Packet>) -> Vec<Publish> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => *publish,
        other => panic!("{other:?}"),
    };
    packets.into_iter().map(publish).collect()
}

#[test]
fn a_subscriber_gets_what_is_kept_after_its_suback() {
    let mut w = world(three());
    let table = table(&[("a/1", None), ("a/2", Some(1_002_500)), ("a/3", Some(1_000_000)), ("b", None)]);
    let (s, _) = w.connect(Version::V5, "s");
    w.subscribe_with(s, SubscribeFilter::new("a/+", QoS::AtLeastOnce));
    assert_eq!(w.serve_reads(&table), 1);
    let got = published(w.sent(s, Version::V5));
    let seen: Vec<_> = got.iter().map(|p| (&*p.topic, p.retain, p.qos, p.properties.message_expiry)).collect();
    let qos = QoS::AtLeastOnce;
    assert_eq!(seen, [("a/1", true, qos, None), ("a/2", true, qos, Some(3))], "expired ones do not come");
    assert_eq!(got[0].subscription_ids, [5]);
}

#[test]
fn what_is_published_while_it_is_read_comes_once() {
    let mut w = world(three());
    let (s, _) = w.connect(Version::V5, "s");
    w.subscribe_with(s, SubscribeFilter::new("#", QoS::AtMostOnce));
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", None, "x");
    assert_eq!(published(w.sent(s, Version::V5)).len(), 1, "as it is published");
    let mut table = table(&[("other", None)]);
    let sent = sends(&w.flush());
    let kept = sent[0].1[0].retained[0].clone();
    let stamp = Stamp { time: kept.time, node: NodeId(1) };
    let record = Record { stamp, expires: None, message: kept.message.clone() };
    table.merge(w.now, B, "t", record, Came::Copied);
    w.serve_reads(&table);
    let page =
        table.page(B, "#", None, w.wall, rookery_cluster::retained::Pages { messages: 9, bytes: 9999, steps: 99 });
    w.step(Input::Retained { conn: s, filter: "#", page });
    let got: Vec<String> = published(w.sent(s, Version::V5)).into_iter().map(|p| p.topic).collect();
    assert_eq!(got, ["other"]);
    w.core.retention.complete = false;
    w.subscribe_with(s, SubscribeFilter::new("+", QoS::AtMostOnce));
    w.retain(p, "t", None, "x");
    w.sent(s, Version::V5);
    w.subscribe_with(s, SubscribeFilter::new("t", QoS::AtMostOnce));
    w.step(Input::RetainedComplete);
    w.serve_reads(&table);
    let got: Vec<String> = published(w.sent(s, Version::V5)).into_iter().map(|p| p.topic).collect();
    assert_eq!(got, ["other", "t"], "to who asked for it after it was told");
    w.subscribe_with(s, SubscribeFilter::new("t", QoS::AtMostOnce));
    w.serve_reads(&table);
    assert_eq!(published(w.sent(s, Version::V5)).len(), 1, "what is asked for later comes whatever came before");
}

/// MQTT-3.8.3-3, whichever node keeps it and however long ago it was published.
#[test]
fn no_local_holds_for_what_is_kept_too() {
    let mut w = world(three());
    let (a, _) = w.connect(Version::V5, "a");
    w.retain(a, "t", None, "x");
    let sent = sends(&w.flush());
    let kept = sent[0].1[0].retained[0].clone();
    let mut table = Table::default();
    let stamp = Stamp { time: kept.time, node: NodeId(1) };
    let record = Record { stamp, expires: None, message: kept.message.clone() };
    table.merge(w.now, B, "t", record, Came::Copied);
    let (b, _) = w.connect(Version::V5, "b");
    for (conn, no_local, expected) in [(a, true, 0), (a, false, 1), (b, true, 1)] {
        w.subscribe_with(conn, SubscribeFilter { no_local, ..SubscribeFilter::new("t", QoS::AtMostOnce) });
        w.serve_reads(&table);
        assert_eq!(published(w.sent(conn, Version::V5)).len(), expected);
    }
}

#[test]
fn retain_handling_says_when() {
    use RetainHandling::{Always, IfNew, Never};
    let table = table(&[("t", None)]);
    for (handling, first, again) in [(Always, 1, 1), (IfNew, 1, 0), (Never, 0, 0)] {
        let mut w = world(three());
        let (s, _) = w.connect(Version::V5, "s");
        for expected in [first, again] {
            let filter = SubscribeFilter { retain_handling: handling, ..SubscribeFilter::new("t", QoS::AtMostOnce) };
            w.subscribe_with(s, filter);
            w.serve_reads(&table);
            assert_eq!(published(w.sent(s, Version::V5)).len(), expected, "{handling:?}");
        }
    }
}

#[test]
fn what_is_kept_comes_in_pages_as_the_client_takes_it() {
    let mut w = world(three());
    let topics: Vec<String> = (0..5000).map(|n| format!("t/{n:05}")).collect();
    let table = table(&topics.iter().map(|t| (&**t, None)).collect::<Vec<_>>());
    let (s, _) = w.connect(Version::V5, "s");
    w.subscribe_with(s, SubscribeFilter::new("#", QoS::AtMostOnce));
    let (mut got, mut most) = (Vec::new(), 0);
    while got.len() < topics.len() {
        w.serve_reads(&table);
        most = most.max(w.core.outbound(s).expect("open").len());
        let before = got.len();
        got.extend(published(w.sent(s, Version::V5)).into_iter().map(|p| p.topic));
        assert!(got.len() > before, "it goes on");
        w.core.drained(w.now, s);
    }
    assert_eq!(got, topics);
    assert!(most < 1 << 20, "{most} bytes waited at once");
}

#[test]
fn nothing_is_lost_to_a_small_window() {
    let mut w = world(three());
    let topics: Vec<String> = (0..3000).map(|n| format!("t/{n:05}")).collect();
    let table = table(&topics.iter().map(|t| (&**t, None)).collect::<Vec<_>>());
    let mut connect = Connect::new(Version::V5, "s");
    connect.properties.receive_maximum = std::num::NonZeroU16::new(3);
    let (s, nonce) = w.claiming_by(connect);
    w.grant("s", nonce, 1);
    w.sent(s, Version::V5);
    w.subscribe_with(s, SubscribeFilter::new("#", QoS::AtLeastOnce));
    let mut got = Vec::new();
    while got.len() < topics.len() {
        w.serve_reads(&table);
        for publish in published(w.sent(s, Version::V5)) {
            got.push(publish.topic);
            let ack = Ack::new(publish.packet_id.expect("qos 1"), ReasonCode::SUCCESS);
            w.packet(s, Version::V5, &Packet::Puback(ack));
        }
    }
    assert_eq!(got, topics);
    assert_eq!(w.core.stats.dropped, Default::default());
}

#[test]
fn reads_wait_for_the_node_to_have_everything_and_for_the_own_writes() {
    let mut w = World::new();
    w.core.retain(Arc::new(three()));
    let table = table(&[("t", None)]);
    let (s, _) = w.connect(Version::V5, "s");
    w.subscribe_with(s, SubscribeFilter::new("t", QoS::AtMostOnce));
    assert_eq!(w.serve_reads(&table), 0);
    w.step(Input::RetainedComplete);
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", None, "x");
    let effects = w.flush();
    let last = effects.iter().rev().take(2).collect::<Vec<_>>();
    assert!(
        matches!(last[..], [Effect::ReadRetained { .. }, Effect::Send { to: Holder::Store, .. }]),
        "the write goes first: {effects:?}"
    );
}

#[test]
fn who_wants_it_gets_publish_and_record_in_one_batch_and_confirms_once() {
    let mut w = world(Keeper { needed: 2, ..three() });
    w.peer_wants("t");
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    let sent = sends(&w.flush());
    let of =
        |holder| sent.iter().find(|(to, _)| *to == holder).map(|(_, runs)| (runs[0].count, runs[0].retained.len()));
    assert_eq!((of(PEER), of(OTHER), of(Holder::Store)), (Some((1, 1)), Some((0, 1)), Some((0, 1))));
    w.accept(Holder::Store);
    w.accept(PEER);
    w.step(Input::Expired { holder: OTHER });
    assert_eq!(w.sent(p, Version::V5), [], "one of the two that are needed");
}

#[test]
fn retained_publishes_wait_until_they_are_later_than_what_was_acknowledged() {
    let mut w = World::new();
    w.core.retain(Arc::new(three()));
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    assert_eq!(sends(&w.flush()), []);
    assert!(!w.core.wants_read(p));
    w.step(Input::RetainedInStep);
    assert_eq!(sends(&w.flush()).len(), 3);
    assert!(w.core.wants_read(p));
}

#[test]
fn who_begins_to_want_something_is_heard_of_once_the_store_has_what_was_gathered() {
    let mut w = world(three());
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    let begins = [InterestChange::Clear { holder: PEER }];
    assert_eq!(w.step(Input::Interest { token: 5, changes: &begins }), []);
    assert_eq!(w.step(Input::Interest { token: 6, changes: &[] }), [], "tokens are seen in order");
    let effects = w.flush();
    assert!(matches!(effects[..], [.., Effect::Send { to: Holder::Store, .. }, Effect::InterestSeen { token: 6 }]));
    assert_eq!(w.step(Input::Interest { token: 7, changes: &begins }), [Effect::InterestSeen { token: 7 }]);
}

#[test]
fn what_is_never_acknowledged_holds_no_interest_back() {
    let mut w = world(three());
    let (p, _) = w.connect(Version::V5, "p");
    w.retain(p, "t", Some(7), "x");
    let begins = [InterestChange::Clear { holder: PEER }];
    assert_eq!(w.step(Input::Interest { token: 5, changes: &begins }), []);
    w.now = w.now + PUBLISH_TIMEOUT;
    let effects = w.step(Input::Tick);
    assert!(effects.contains(&Effect::InterestSeen { token: 5 }), "{effects:?}");
    assert_eq!(w.sent(p, Version::V5), [disconnect(ReasonCode::SERVER_BUSY)]);
}
