//! Sessions that outlive their connections: parked, gone on with here, moved to another worker or node, ended.

use rookery_cluster::handle::{Home, SessionAsked, SessionGrant};
use rookery_cluster::ids::WillName;

use super::*;

const ID: SessionId = SessionId(40);
const ELSEWHERE: Home = Home { life: NodeLife { node: NodeId(2), incarnation: Incarnation(1) }, worker: WorkerId(1) };

fn here(w: &World) -> Home {
    w.core.here()
}

fn granted(nonce: Nonce, epoch: u64, present: bool, home: Option<Home>) -> Input<'static> {
    let session = Some(SessionGrant { id: ID, present, home });
    Input::Claim(ClaimEvent::Granted { broker: B, client: "s".into(), nonce, epoch: Epoch(epoch), session })
}

fn durable(clean_start: bool) -> Connect {
    let mut connect = Connect::new(Version::V5, "s");
    connect.clean_start = clean_start;
    connect.properties.session_expiry = Some(100);
    connect
}

fn connack(w: &mut World, conn: ConnKey) -> bool {
    match &w.sent(conn, Version::V5)[..] {
        [Packet::Connack(connack)] => connack.session_present,
        other => panic!("{other:?}"),
    }
}

fn asked(take: bool, epoch: u64) -> SessionAsked {
    SessionAsked { broker: B, client: "s".into(), session: ID, take, epoch: Epoch(epoch) }
}

/// What a worker answers at once.
fn ask(w: &mut World, asked: &SessionAsked) -> Fetched {
    match w.step(Input::Asked { ticket: 3, asked }).pop() {
        Some(Effect::Answer { ticket: 3, reply }) => reply,
        other => panic!("{other:?}"),
    }
}

/// A connection of the session, new.
fn first(w: &mut World) -> (ConnKey, Nonce) {
    let (conn, nonce) = w.claiming_by(durable(false));
    assert_eq!(w.step(granted(nonce, 1, false, None)), []);
    assert!(!connack(w, conn));
    (conn, nonce)
}

/// Subscribes and answers for the others and for the shard.
fn subscribe(w: &mut World, conn: ConnKey, nonce: Nonce, filter: &str) {
    let effects = w.subscribe(conn, filter, QoS::ExactlyOnce);
    let [Effect::Subscribe { token: barrier, .. }, Effect::Persist { token, changes, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(changes[..], [(filter.into(), Some(2))]);
    w.step(Input::Barrier { token: *barrier, seen: true });
    assert_eq!(w.sent(conn, Version::V5), [], "not before the shard has it");
    w.step(Input::Claim(ClaimEvent::Persisted { nonce, token: *token, stored: true }));
    assert!(matches!(&w.sent(conn, Version::V5)[..], [Packet::Suback(_)]));
}

#[test]
fn what_the_shard_does_not_store_is_not_held() {
    let refused = |why, (nonce, token)| match why {
        ReasonCode::QUOTA_EXCEEDED => ClaimEvent::NoRoom { nonce, token },
        _ => ClaimEvent::Persisted { nonce, token, stored: false },
    };
    for why in [ReasonCode::QUOTA_EXCEEDED, ReasonCode::IMPLEMENTATION_SPECIFIC] {
        let mut w = World::new();
        let (conn, nonce) = first(&mut w);
        let effects = w.subscribe(conn, "t", QoS::ExactlyOnce);
        let [Effect::Subscribe { token: barrier, .. }, Effect::Persist { token, .. }] = effects[..] else {
            panic!("{effects:?}")
        };
        w.step(Input::Barrier { token: barrier, seen: true });
        let effects = w.step(Input::Claim(refused(why, (nonce, token))));
        let [Effect::Unsubscribe { .. }, Effect::Persist { changes, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(changes[..], [("t".into(), None)]);
        let sent = w.sent(conn, Version::V5);
        assert!(matches!(&sent[..], [Packet::Suback(suback)] if suback.reasons == [why]), "{sent:?}");
    }
}

fn kept(expiry: Option<u32>, home: Option<Home>) -> Leave {
    Leave { keep: Some(Keep { expiry, home }), fire_will: true }
}

fn payloads(w: &mut World, conn: ConnKey) -> Vec<(String, bool)> {
    let text = |p: &Publish| (String::from_utf8(p.payload.to_vec()).expect("text"), p.dup);
    let sent = w.sent(conn, Version::V5);
    sent.iter().filter_map(|packet| if let Packet::Publish(p) = packet { Some(text(p)) } else { None }).collect()
}

fn publish(w: &mut World, conn: ConnKey, payload: &'static str, packet_id: u16) {
    let publish = Publish {
        topic: "t".into(),
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(packet_id)),
        payload: payload.into(),
        ..Publish::default()
    };
    w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
}

#[test]
fn a_session_queues_without_a_connection_and_goes_on_at_the_next_one() {
    let mut w = World::new();
    let (conn, nonce) = first(&mut w);
    subscribe(&mut w, conn, nonce, "t");
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, "a", 1);
    assert_eq!(payloads(&mut w, conn), [("a".into(), false)]);
    let left = w.step(Input::Closed { conn });
    let home = Some(here(&w));
    let release = Effect::Release {
        broker: B,
        client: "s".into(),
        epoch: Epoch(1),
        nonce,
        leave: kept(Some(100), home),
        after: None,
    };
    assert_eq!(left, [release], "its subscriptions stay");
    assert_eq!((w.core.connections(), w.core.parked()), (1, 1));
    publish(&mut w, from, "b", 2);
    let (conn, nonce) = w.claiming_by(durable(false));
    assert_eq!(w.step(granted(nonce, 2, true, home)), []);
    let sent = w.sent(conn, Version::V5);
    assert!(
        matches!(&sent[..], [Packet::Connack(c), Packet::Publish(a), Packet::Publish(b)]
        if c.session_present && a.dup && &a.payload[..] == b"a" && !b.dup && &b.payload[..] == b"b"),
        "{sent:?}"
    );
    publish(&mut w, from, "c", 3);
    assert_eq!(payloads(&mut w, conn), [("c".into(), false)]);
    assert_eq!(w.core.parked(), 0);
}

#[test]
fn a_clean_start_and_the_shards_word_end_what_is_kept() {
    for by_shard in [false, true] {
        let mut w = World::new();
        let (conn, nonce) = first(&mut w);
        subscribe(&mut w, conn, nonce, "t");
        w.step(Input::Closed { conn });
        let gone = [Effect::Unsubscribe { broker: B, filter: "t".into() }];
        if by_shard {
            let other = ClaimEvent::Discard { broker: B, client: "s".into(), session: SessionId(7) };
            assert_eq!(w.step(Input::Claim(other)), [], "another session is meant");
            let this = ClaimEvent::Discard { broker: B, client: "s".into(), session: ID };
            assert_eq!(w.step(Input::Claim(this)), gone);
        } else {
            let (conn, nonce) = w.claiming_by(durable(true));
            assert_eq!(w.step(granted(nonce, 2, false, None)), gone);
            assert!(!connack(&mut w, conn));
        }
        assert_eq!(w.core.parked(), 0);
    }
}

#[test]
fn a_session_moves_to_another_worker_with_what_it_queued_and_nothing_comes_twice() {
    let (mut old, mut new) = (World::new(), World::new());
    new.core.worker = WorkerId(1);
    let (conn, nonce) = first(&mut old);
    subscribe(&mut old, conn, nonce, "t");
    let (from, _) = old.connect(Version::V5, "p");
    publish(&mut old, from, "a", 1);
    old.step(Input::Closed { conn });
    let home = here(&old);

    let (conn, nonce) = new.claiming_by(durable(false));
    let asks = new.step(granted(nonce, 2, true, Some(home)));
    let fetch = |take| Effect::Fetch { conn, home, asked: asked(take, 2) };
    assert_eq!(asks, [fetch(false)]);
    let described = ask(&mut old, &asked(false, 2));
    assert_eq!(described, Fetched::Described(vec![("t".into(), 2)]));
    let effects = new.step(Input::Fetched { conn, reply: described });
    let [Effect::Subscribe { token, .. }] = effects[..] else { panic!("{effects:?}") };
    // The old worker tells the new one from here on, and both have it.
    let sibling = Holder::Worker(WorkerId(1));
    let changes = [InterestChange::Add { holder: sibling, broker: B, filter: "t".into() }];
    old.step(Input::Interest { token: 1, changes: &changes });
    publish(&mut old, from, "b", 2);
    let sent = old.flush();
    let [Effect::Send { to, batch }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*to, sibling);
    new.step(Input::Forwarded { origin: origin(old.core.life, WorkerId(0)), via: Via::Worker, runs: &batch.runs });
    assert_eq!(new.step(Input::Barrier { token, seen: true }), [fetch(true)]);
    let mut state = old.step(Input::Asked { ticket: 4, asked: &asked(true, 2) });
    let Some(Effect::Answer { reply, .. }) = state.pop() else { panic!("{state:?}") };
    assert_eq!(state, [Effect::Unsubscribe { broker: B, filter: "t".into() }]);
    assert_eq!(new.step(Input::Fetched { conn, reply }), []);
    let sent = new.sent(conn, Version::V5);
    assert!(
        matches!(&sent[..], [Packet::Connack(c), Packet::Publish(a), Packet::Publish(b)]
        if c.session_present && a.dup && &a.payload[..] == b"a" && !b.dup && &b.payload[..] == b"b"),
        "{sent:?}"
    );
    assert_eq!(ask(&mut old, &asked(false, 3)), Fetched::Gone);
}

#[test]
fn a_session_whose_home_is_gone_goes_on_with_its_subscriptions() {
    let mut w = World::new();
    let (conn, nonce) = w.claiming_by(durable(false));
    let client: ClientId = "s".into();
    w.step(granted(nonce, 2, true, Some(ELSEWHERE)));
    let asks = w.step(Input::Fetched { conn, reply: Fetched::Gone });
    assert_eq!(asks, [Effect::Recall { broker: B, client, nonce }]);
    let subscriptions = Some(vec![("t".into(), 1u64)]);
    let effects = w.step(Input::Claim(ClaimEvent::Recalled { nonce, subscriptions }));
    let [Effect::Subscribe { token, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(w.step(Input::Barrier { token, seen: true }), []);
    assert!(connack(&mut w, conn));
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, "a", 1);
    assert_eq!(payloads(&mut w, conn), [("a".into(), false)]);
}

#[test]
fn a_move_that_fails_leaves_the_session_where_it_is() {
    let mut w = World::new();
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, Some(ELSEWHERE)));
    let effects = w.step(Input::Fetched { conn, reply: Fetched::Unreachable });
    let leave = Leave { keep: Some(Keep { expiry: None, home: Some(ELSEWHERE) }), fire_will: false };
    let release = Effect::Release { broker: B, client: "s".into(), epoch: Epoch(2), nonce, leave, after: Some(conn) };
    assert_eq!(effects, [release, Effect::Close { conn }]);
    let sent = w.sent(conn, Version::V5);
    assert!(matches!(&sent[..], [Packet::Connack(c)] if c.reason == ReasonCode::SERVER_UNAVAILABLE), "{sent:?}");
}

#[test]
fn p6_a_publish_that_was_not_released_is_known_at_the_next_connection() {
    let mut w = World::new();
    w.peer_wants("t");
    let (conn, _) = first(&mut w);
    let publish_2 = |w: &mut World, conn, dup| {
        let publish =
            Publish { dup, topic: "t".into(), qos: QoS::ExactlyOnce, packet_id: Some(id(5)), ..Publish::default() };
        w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
        w.flush().len()
    };
    assert_eq!(publish_2(&mut w, conn, false), 1);
    w.step(Input::Closed { conn });
    let home = here(&w);
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, Some(home)));
    assert!(connack(&mut w, conn));
    assert_eq!(publish_2(&mut w, conn, true), 0, "it is on its way already");
    assert_eq!(w.sent(conn, Version::V5), [], "and not accepted yet");
    w.step(Input::Accepted { from: PEER, through: 1 });
    assert_eq!(w.sent(conn, Version::V5), [Packet::Pubrec(Ack::new(id(5), ReasonCode::SUCCESS))]);
}

#[test]
fn disconnect_may_change_the_expiry_and_says_whether_the_will_is_due() {
    for (reason, expiry, leave) in [
        (0x00, None, Leave { fire_will: false, ..kept(Some(100), None) }),
        (0x04, Some(7), kept(Some(7), None)),
        (0x00, Some(0), Leave { keep: None, fire_will: false }),
    ] {
        let mut w = World::new();
        let (conn, _) = first(&mut w);
        let mut goodbye = Disconnect::new(ReasonCode::from_u8(reason).expect("known"));
        goodbye.properties.session_expiry = expiry;
        let effects = w.packet(conn, Version::V5, &Packet::Disconnect(goodbye));
        let home = here(&w);
        let expected = Leave { keep: leave.keep.map(|keep| Keep { home: Some(home), ..keep }), ..leave };
        let [Effect::Release { leave, .. }, Effect::Close { .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(leave, expected);
        assert_eq!(w.core.parked(), usize::from(expected.keep.is_some()));
    }
    let mut w = World::new();
    let (conn, _) = w.connect(Version::V5, "s");
    let mut goodbye = Disconnect::new(ReasonCode::SUCCESS);
    goodbye.properties.session_expiry = Some(5);
    w.packet(conn, Version::V5, &Packet::Disconnect(goodbye));
    assert_eq!(w.sent(conn, Version::V5), [disconnect(ReasonCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_session_is_not_kept_for_ever_nor_without_a_lease() {
    let mut w = World::new();
    let (conn, _) = first(&mut w);
    w.step(Input::Closed { conn });
    w.now = w.now + Duration::from_secs(99);
    w.step(Input::Tick);
    assert_eq!(w.core.parked(), 1);
    w.now = w.now + Duration::from_secs(60);
    w.step(Input::Tick);
    assert_eq!(w.core.parked(), 0);
}

#[test]
fn without_a_lease_a_session_is_kept_and_not_given() {
    let mut w = World::new();
    let (conn, _) = first(&mut w);
    w.step(Input::Closed { conn });
    w.serving_until = w.now;
    let asked = asked(true, 2);
    let ask = |ticket| Input::Asked { ticket, asked: &asked };
    assert_eq!(w.step(ask(1)), [Effect::Answer { ticket: 1, reply: Fetched::Unreachable }]);
    assert_eq!(w.core.parked(), 1);
    w.serving_until = w.now + LEASE;
    assert!(matches!(&w.step(ask(2))[..], [Effect::Answer { ticket: 2, reply: Fetched::State(_) }]));
    let will = FiringWill { name: WillName::default(), time: None, message: bytes::Bytes::new() };
    w.serving_until = w.now;
    assert_eq!(w.step(Input::Will { token: 3, broker: B, will: &will }), [Effect::WillRefused { token: 3 }]);
}

/// A session at `from` whose state is asked for by a connection here, which is then gone.
fn left_while_taken_from(w: &mut World, from: Home) -> ConnKey {
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, Some(from)));
    let described = Fetched::Described(vec![("t".into(), 1)]);
    let effects = w.step(Input::Fetched { conn, reply: described });
    let [Effect::Subscribe { token, .. }] = effects[..] else { panic!("{effects:?}") };
    assert!(matches!(&w.step(Input::Barrier { token, seen: true })[..], [Effect::Fetch { asked, .. }] if asked.take));
    let left = w.step(Input::Closed { conn });
    let home = Some(here(w));
    let [Effect::Release { leave, .. }] = &left[..] else { panic!("{left:?}") };
    assert_eq!(*leave, Leave { keep: Some(Keep { expiry: None, home }), fire_will: false });
    conn
}

#[test]
fn a_session_whose_client_is_gone_while_it_moves_is_kept_where_it_arrives() {
    let mut old = World::new();
    let (conn, nonce) = first(&mut old);
    subscribe(&mut old, conn, nonce, "t");
    let (from, _) = old.connect(Version::V5, "p");
    publish(&mut old, from, "a", 1);
    old.step(Input::Closed { conn });
    let mut state = old.step(Input::Asked { ticket: 4, asked: &asked(true, 2) });
    let Some(Effect::Answer { reply, .. }) = state.pop() else { panic!("{state:?}") };

    let mut w = World::new();
    w.core.worker = WorkerId(1);
    let asked_by = left_while_taken_from(&mut w, ELSEWHERE);
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, "b", 1);
    // Until it is all here, nobody goes on with it, here or elsewhere.
    assert_eq!(ask(&mut w, &asked(true, 3)), Fetched::Awaits(ELSEWHERE));
    let (early, nonce) = w.claiming_by(durable(false));
    let home = Some(here(&w));
    let refused = w.step(granted(nonce, 3, true, home));
    assert!(matches!(&refused[..], [.., Effect::Release { .. }]), "{refused:?}");
    let sent = w.sent(early, Version::V5);
    assert!(matches!(&sent[..], [Packet::Connack(c)] if c.reason == ReasonCode::SERVER_UNAVAILABLE), "{sent:?}");
    w.step(Input::Fetched { conn: asked_by, reply });
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 4, true, home));
    let sent = w.sent(conn, Version::V5);
    assert!(
        matches!(&sent[..], [Packet::Connack(c), Packet::Publish(a), Packet::Publish(b)]
        if c.session_present && &a.payload[..] == b"a" && &b.payload[..] == b"b"),
        "{sent:?}"
    );
}

/// Whether the state was given is not known: it is asked for until that is, and then somebody goes on with it.
#[test]
fn r14_a_state_that_does_not_come_is_asked_for_again() {
    for is_there in [true, false] {
        let mut w = World::new();
        let (conn, nonce) = w.claiming_by(durable(false));
        w.step(granted(nonce, 2, true, Some(ELSEWHERE)));
        let effects = w.step(Input::Fetched { conn, reply: Fetched::Described(vec![("t".into(), 1)]) });
        let [Effect::Subscribe { token, .. }] = effects[..] else { panic!("{effects:?}") };
        let take = w.step(Input::Barrier { token, seen: true });
        if !is_there {
            w.step(Input::Closed { conn });
        }
        let effects = w.step(Input::Fetched { conn, reply: Fetched::Unreachable });
        let home = Some(here(&w));
        if is_there {
            let Effect::Release { leave, .. } = &effects[0] else { panic!("{effects:?}") };
            assert_eq!(*leave, Leave { keep: Some(Keep { expiry: None, home }), fire_will: false });
            let sent = w.sent(conn, Version::V5);
            assert!(
                matches!(&sent[..], [Packet::Connack(c)] if c.reason == ReasonCode::SERVER_UNAVAILABLE),
                "{sent:?}"
            );
            w.step(Input::Closed { conn });
        }
        assert_eq!(w.step(Input::Tick), take, "once more");
        assert_eq!(w.step(Input::Tick), [], "as long as there is no answer");
        w.step(Input::Fetched { conn, reply: Fetched::Unreachable });
        assert_eq!(w.step(Input::Tick), take);
        w.step(Input::Fetched { conn, reply: Fetched::Gone });
        let (conn, nonce) = w.claiming_by(durable(false));
        w.step(granted(nonce, 3, true, home));
        assert!(connack(&mut w, conn), "all that there is is here");
    }
}

/// Its client would else have a PUBREC elsewhere for what nobody accepted, and overtake it with what it publishes next.
#[test]
fn r14_a_session_waits_for_what_its_client_published() {
    let mut w = World::new();
    w.peer_wants("t");
    for accepted in [true, false] {
        let (conn, _) = first(&mut w);
        let publish =
            Publish { topic: "t".into(), qos: QoS::ExactlyOnce, packet_id: Some(id(5)), ..Publish::default() };
        w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)));
        w.flush();
        w.step(Input::Closed { conn });
        assert_eq!(w.step(Input::Asked { ticket: 1, asked: &asked(true, 2) }), []);
        if accepted {
            let given = w.step(Input::Accepted { from: PEER, through: 1 });
            assert!(matches!(&given[..], [Effect::Answer { ticket: 1, reply: Fetched::State(_) }]), "{given:?}");
        } else {
            assert_eq!(w.step(Input::Tick), []);
            w.now = w.now + PUBLISH_TIMEOUT;
            let late = Effect::Answer { ticket: 1, reply: Fetched::Unreachable };
            assert_eq!(w.step(Input::Tick), [late]);
            assert_eq!(w.core.parked(), 1);
        }
    }
}

#[test]
fn r14_a_state_whose_answer_was_lost_is_given_again() {
    let mut w = World::new();
    let (conn, nonce) = first(&mut w);
    subscribe(&mut w, conn, nonce, "t");
    let (from, _) = w.connect(Version::V5, "p");
    w.step(Input::Closed { conn });
    publish(&mut w, from, "a", 1);
    let state = ask(&mut w, &asked(true, 2));
    assert!(matches!(state, Fetched::State(_)));
    assert_eq!(ask(&mut w, &asked(true, 2)), state);
    assert_eq!(ask(&mut w, &asked(true, 3)), state, "whoever asked first may have gone");
    assert_eq!(ask(&mut w, &asked(true, 2)), state);
    assert_eq!(ask(&mut w, &asked(false, 3)), Fetched::Gone, "to whoever comes later it is not here");
    assert_eq!(ask(&mut w, &SessionAsked { session: SessionId(41), ..asked(true, 3) }), Fetched::Gone);
    w.now = w.now + Duration::from_secs(60);
    w.step(Input::Tick);
    assert_eq!(ask(&mut w, &asked(true, 2)), Fetched::Gone);
}

/// The client was gone before the other worker had any of its session, and is back where all of it is.
#[test]
fn r14_a_session_goes_on_where_all_of_it_is_and_not_where_a_part_was_left_behind() {
    let (mut all, mut part) = (World::new(), World::new());
    part.core.worker = WorkerId(1);
    let (conn, nonce) = first(&mut all);
    subscribe(&mut all, conn, nonce, "t");
    let (from, _) = all.connect(Version::V5, "p");
    all.step(Input::Closed { conn });
    publish(&mut all, from, "a", 1);
    let home = here(&all);
    let taken_by = left_while_taken_from(&mut part, home);

    let (conn, nonce) = all.claiming_by(durable(false));
    let asks = all.step(granted(nonce, 3, true, Some(here(&part))));
    assert_eq!(asks, [Effect::Fetch { conn, home: here(&part), asked: asked(false, 3) }]);
    let reply = ask(&mut part, &asked(false, 3));
    assert_eq!(reply, Fetched::Awaits(home));
    assert_eq!(all.step(Input::Fetched { conn, reply }), []);
    let sent = all.sent(conn, Version::V5);
    assert!(
        matches!(&sent[..], [Packet::Connack(c), Packet::Publish(a)] if c.session_present && &a.payload[..] == b"a"),
        "{sent:?}"
    );
    // Served or kept, nobody gets it for an earlier claim; and the part is of no use to anybody.
    assert_eq!(ask(&mut all, &asked(true, 2)), Fetched::Superseded);
    all.step(Input::Closed { conn });
    assert_eq!(ask(&mut all, &asked(true, 2)), Fetched::Superseded);
    let gone = part.step(Input::Fetched { conn: taken_by, reply: Fetched::Superseded });
    assert_eq!(gone, [Effect::Unsubscribe { broker: B, filter: "t".into() }]);
    assert_eq!(part.core.parked(), 0);
    // Nor what was given for a later one.
    assert!(matches!(ask(&mut all, &asked(true, 5)), Fetched::State(_)));
    assert_eq!(ask(&mut all, &asked(true, 4)), Fetched::Superseded);
}

/// A worker that has a session, and is told by the shard that another one has it.
#[test]
fn r14_what_was_left_behind_of_a_session_is_dropped_where_it_moves_to() {
    for reply in [Fetched::Described(vec![("t".into(), 2)]), Fetched::Gone, Fetched::Unreachable] {
        let mut w = World::new();
        let (conn, nonce) = first(&mut w);
        subscribe(&mut w, conn, nonce, "t");
        let (from, _) = w.connect(Version::V5, "p");
        w.step(Input::Closed { conn });
        publish(&mut w, from, "a", 1);
        let (conn, nonce) = w.claiming_by(durable(false));
        w.step(granted(nonce, 2, true, Some(ELSEWHERE)));
        let effects = w.step(Input::Fetched { conn, reply: reply.clone() });
        match reply {
            Fetched::Described(_) => {
                assert_eq!(w.core.parked(), 0);
                let [Effect::Unsubscribe { .. }, Effect::Subscribe { token, .. }] = effects[..] else {
                    panic!("{effects:?}")
                };
                w.step(Input::Barrier { token, seen: true });
                w.step(Input::Fetched { conn, reply: Fetched::Gone });
                assert!(connack(&mut w, conn));
            }
            // There is nothing better than what is here.
            Fetched::Gone => {
                let sent = w.sent(conn, Version::V5);
                assert!(matches!(&sent[..], [Packet::Connack(_), Packet::Publish(_)]), "{sent:?}");
            }
            _ => assert_eq!(w.core.parked(), 1),
        }
    }
}

#[test]
fn p2_a_token_that_is_revoked_while_its_session_moves_admits_nobody() {
    let mut w = World::new();
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, Some(ELSEWHERE)));
    w.revoked.insert("jti-s".into());
    w.step(Input::Recheck { broker: None });
    let sent = w.sent(conn, Version::V5);
    assert!(matches!(&sent[..], [Packet::Connack(c)] if c.reason.is_error()), "{sent:?}");
}

#[test]
fn p3_a_grant_that_comes_after_its_revocation_serves_nobody() {
    let mut w = World::new();
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(Input::Claim(ClaimEvent::Revoked { broker: B, client: "s".into(), nonce, epoch: Epoch(1) }));
    w.step(granted(nonce, 1, false, None));
    let sent = w.sent(conn, Version::V5);
    assert!(matches!(&sent[..], [Packet::Connack(c)] if c.reason.is_error()), "{sent:?}");
}

#[test]
fn what_an_earlier_connection_is_owed_does_not_end_the_next_one() {
    let mut w = World::new();
    w.peer_wants("t");
    let (conn, _) = first(&mut w);
    publish(&mut w, conn, "a", 1);
    w.flush();
    w.step(Input::Closed { conn });
    w.now = w.now + PUBLISH_TIMEOUT;
    let home = Some(here(&w));
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, home));
    assert!(connack(&mut w, conn));
    w.step(Input::Tick);
    assert_eq!(w.sent(conn, Version::V5), []);
    // A goodbye for good leaves nothing behind.
    let mut goodbye = Disconnect::new(ReasonCode::SUCCESS);
    goodbye.properties.session_expiry = Some(0);
    w.packet(conn, Version::V5, &Packet::Disconnect(goodbye));
    assert!(w.core.moved.is_empty());
}

#[test]
fn a_member_of_a_group_without_a_connection_is_left_out_and_leaves_what_it_had_to_others() {
    let mut w = World::new();
    let share = "$share/g/t";
    let (conn, nonce) = first(&mut w);
    subscribe(&mut w, conn, nonce, share);
    let (from, _) = w.connect(Version::V5, "p");
    publish(&mut w, from, "a", 1);
    w.step(Input::Closed { conn });
    publish(&mut w, from, "b", 2);
    let other = w.subscribed("o", share, QoS::AtLeastOnce);
    publish(&mut w, from, "c", 3);
    assert_eq!(payloads(&mut w, other), [("c".into(), false)], "who is there gets what is new");
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 2, true, Some(here(&w))));
    let got = payloads(&mut w, conn);
    assert_eq!(got, [("a".into(), true), ("b".into(), false)], "nobody else was there when it left");
    w.step(Input::Closed { conn });
    assert_eq!(payloads(&mut w, other), [("a".into(), false), ("b".into(), false)]);
    let (conn, nonce) = w.claiming_by(durable(false));
    w.step(granted(nonce, 3, true, Some(here(&w))));
    assert_eq!(payloads(&mut w, conn), []);
    publish(&mut w, from, "d", 4);
    publish(&mut w, from, "e", 5);
    let both = [payloads(&mut w, conn), payloads(&mut w, other)].concat();
    assert_eq!(both, [("d".into(), false), ("e".into(), false)]);
    w.step(Input::Closed { conn: other });
    let mut rest = payloads(&mut w, conn);
    rest.sort_unstable();
    let had: Vec<String> = rest.into_iter().map(|(payload, _)| payload).collect();
    assert!(had.starts_with(&["a".into(), "b".into(), "c".into()]) && had.len() >= 4, "{had:?}");
    assert_eq!(w.core.stats.dropped, BTreeMap::new());
}
