//! QoS 2 through a worker: once, whatever is sent again (MQTT 5 §4.3.3).

use super::*;

fn publish_2(w: &mut World, conn: ConnKey, packet_id: u16, dup: bool) -> Vec<Effect> {
    let publish = Publish {
        dup,
        topic: "t".into(),
        qos: QoS::ExactlyOnce,
        packet_id: Some(id(packet_id)),
        payload: "x".into(),
        ..Publish::default()
    };
    w.packet(conn, Version::V5, &Packet::Publish(Box::new(publish)))
}

fn ack(n: u16) -> Ack {
    Ack::new(id(n), ReasonCode::SUCCESS)
}

#[test]
fn p6_a_publish_that_is_sent_again_before_its_release_is_delivered_once() {
    let mut w = World::new();
    let to = w.subscribed("s", "t", QoS::ExactlyOnce);
    let (from, _) = w.connect(Version::V5, "p");
    publish_2(&mut w, from, 7, false);
    publish_2(&mut w, from, 7, true);
    assert_eq!(w.sent(from, Version::V5), [Packet::Pubrec(ack(7)), Packet::Pubrec(ack(7))]);
    assert_eq!(w.sent(to, Version::V5).len(), 1);
    w.packet(from, Version::V5, &Packet::Pubrel(ack(7)));
    w.packet(from, Version::V5, &Packet::Pubrel(ack(7)));
    let unknown = Ack::new(id(7), ReasonCode::PACKET_ID_NOT_FOUND);
    assert_eq!(w.sent(from, Version::V5), [Packet::Pubcomp(ack(7)), Packet::Pubcomp(unknown)]);
    publish_2(&mut w, from, 7, false);
    assert_eq!(w.sent(to, Version::V5).len(), 1, "the identifier was free again");
}

#[test]
fn p4_pubrec_waits_for_every_destination_and_is_not_given_early() {
    let mut w = World::new();
    w.peer_wants("t");
    let (from, _) = w.connect(Version::V5, "p");
    publish_2(&mut w, from, 1, false);
    let sent = w.flush();
    assert!(matches!(&sent[..], [Effect::Send { to: PEER, batch }] if batch.seq == 1 && batch.runs[0].count == 1));
    publish_2(&mut w, from, 1, true);
    assert_eq!(w.sent(from, Version::V5), []);
    assert_eq!(w.flush(), [], "nor is it forwarded again");
    w.step(Input::Accepted { from: PEER, through: 1 });
    assert_eq!(w.sent(from, Version::V5), [Packet::Pubrec(ack(1))]);
}

#[test]
fn the_receive_maximum_counts_until_pubcomp() {
    let mut w = World::new();
    let (from, _) = w.connect(Version::V5, "p");
    let most = Settings::default().receive_maximum;
    for n in 1..=most {
        publish_2(&mut w, from, n, false);
    }
    assert_eq!(w.sent(from, Version::V5).len(), usize::from(most));
    publish_2(&mut w, from, 1, true);
    w.packet(from, Version::V5, &Packet::Pubrel(ack(1)));
    publish_2(&mut w, from, most + 1, false);
    assert_eq!(w.sent(from, Version::V5).len(), 3, "a duplicate takes no room, and a release gives it back");
    publish_2(&mut w, from, most + 2, false);
    assert_eq!(w.sent(from, Version::V5), [disconnect(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED)]);
}

#[test]
fn a_refusal_comes_before_anything_is_delivered() {
    let mut w = World::new();
    let to = w.subscribed("s", "t", QoS::ExactlyOnce);
    w.peer_wants("t");
    let (from, _) = w.connect(Version::V5, "p");
    publish_2(&mut w, from, 1, false);
    let Some(Effect::Send { batch, .. }) = w.flush().pop() else { panic!("a batch") };
    w.step(Input::NoCredit { to: PEER, batch });
    w.now = w.now + PUBLISH_TIMEOUT;
    let (other, _) = w.connect(Version::V5, "q");
    publish_2(&mut w, other, 1, false);
    assert_eq!(w.sent(other, Version::V5), [disconnect(ReasonCode::SERVER_BUSY)]);
    assert_eq!(w.sent(to, Version::V5).len(), 1, "the first one only");
}
