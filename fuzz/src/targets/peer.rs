//! What other nodes and workers send: batches of publishes, wills, sessions that move here, retained messages.

use bytes::Bytes;
use rookery::broker::core::{Fetched, Input, Via};
use rookery::mqtt::codec::{Packet, Publish, QoS, Version};
use rookery_cluster::handle::{FiringWill, Home, Run, SessionGrant};
use rookery_cluster::ids::{Incarnation, NodeId, NodeLife, SessionId, WillName, WorkerId};
use rookery_cluster::retained::Time;

use super::head;
use super::world::{BROKER, World, bytes_of, connect_bytes};
use crate::corpus;

/// CONNECT of "other", with a session that lasts.
const LASTING: &[u8] = b"\x10\x17\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\x00\x00\x0e\x10\x00\x05other";

/// A byte for what it is, then the bytes.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    let mut world = World::new()?;
    let bytes = Bytes::copy_from_slice(bytes);
    match how % 5 {
        0 => forwarded(&mut world, Via::Worker, bytes)?,
        1 => forwarded(&mut world, Via::Node { workers: &[WorkerId(0), WorkerId(1)], seq: u64::from(how) }, bytes)?,
        2 => world.step(Input::Will { token: 3, broker: BROKER, will: &will(bytes) })?,
        3 => moved(&mut world, bytes)?,
        _ => kept(&mut world, bytes)?,
    }
    world.sings()?;
    world.wait(10_000)?;
    world.sings()
}

fn will(message: Bytes) -> FiringWill {
    FiringWill { name: WillName::default(), time: Some(Time(7)), message }
}

fn forwarded(world: &mut World, via: Via<'_>, body: Bytes) -> Result<(), String> {
    let conn = world.open();
    world.read(conn, &connect_bytes(Version::V5, "other"))?;
    // SUBSCRIBE to "#" with QoS 2 and to "$share/g/#" with QoS 1.
    world.read(conn, b"\x82\x07\x00\x01\x00\x00\x01#\x02")?;
    world.read(conn, b"\x82\x10\x00\x02\x00\x00\x0a$share/g/#\x01")?;
    let runs = [Run { broker: BROKER, count: 1, body, retained: Vec::new() }];
    world.step(Input::Forwarded { origin: 77, via, runs: &runs })?;
    world.sings()?;
    world.close(conn)
}

fn moved(world: &mut World, state: Bytes) -> Result<(), String> {
    let life = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };
    let home = Some(Home { life, worker: WorkerId(0) });
    world.grant_next(SessionGrant { id: SessionId(5), present: true, home }, Fetched::State(state));
    let conn = world.open();
    world.read(conn, LASTING)?;
    world.sings()?;
    world.close(conn)
}

fn kept(world: &mut World, message: Bytes) -> Result<(), String> {
    world.keeps(message)?;
    let conn = world.open();
    world.read(conn, &connect_bytes(Version::V5, "other"))?;
    // SUBSCRIBE to "t/#" with QoS 2.
    world.read(conn, b"\x82\x09\x00\x01\x00\x00\x03t/#\x02")?;
    world.sings()?;
    world.close(conn)
}

/// A publish of each QoS, a group of them, and the packets of `tests/wire`.
pub fn seeds() -> Vec<Vec<u8>> {
    let publish = |topic: &str, retain| Publish {
        topic: topic.into(),
        payload: "x".into(),
        qos: QoS::AtMostOnce,
        retain,
        ..Publish::default()
    };
    let mut bodies: Vec<Vec<u8>> = [("canary/sings", false), ("t/1", true), ("$x", false)]
        .map(|(topic, retain)| bytes_of(&Packet::Publish(Box::new(publish(topic, retain))), Version::V5))
        .into();
    bodies.push(b"\x01\x00\x00\x00\x09\x00\x03t/1\x00\x02xy".to_vec());
    bodies.push(b"\x02\x00\x00\x00\x0b\x00\x03t/1\x00\x02\x00\x05xy".to_vec());
    bodies.push(bodies.concat());
    bodies.extend(corpus::wire());
    let mut all = vec![[&[3], &state()[..]].concat()];
    // As it is kept, with who published it.
    all.push([&b"\x04\x09\x09\x01\x01\x02\x03\x04\x05\x06\x07\x08"[..], &bodies[1]].concat());
    all.extend((0..5).flat_map(|how| bodies.iter().map(move |body| [&[how], &body[..]].concat())));
    all
}

/// A session with a subscription and messages that wait.
fn state() -> Bytes {
    let mut world = World::new().expect("a canary that sings");
    let conn = world.open();
    world.read(conn, LASTING).expect("a connection");
    // SUBSCRIBE to "canary/#" with QoS 2.
    world.read(conn, b"\x82\x0e\x00\x01\x00\x00\x08canary/#\x02").expect("a subscription");
    world.close(conn).expect("a session");
    // A QoS 1 publish, which waits for it.
    let body = Bytes::from_static(b"\x32\x12\x00\x0ccanary/sings\x00\x05\x00x");
    let runs = [Run { broker: BROKER, count: 1, body, retained: Vec::new() }];
    world.step(Input::Forwarded { origin: 77, via: Via::Worker, runs: &runs }).expect("a batch");
    match world.ask(2) {
        Ok(Some(Fetched::State(state))) => state,
        other => panic!("no session: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_send_arrives() {
        let song = Publish { topic: "canary/sings".into(), ..Publish::default() };
        let body = Bytes::from(bytes_of(&Packet::Publish(Box::new(song)), Version::V5));
        let runs = [Run { broker: BROKER, count: 1, body: body.clone(), retained: Vec::new() }];
        let mut world = World::new().expect("a canary");
        world.step(Input::Forwarded { origin: 77, via: Via::Worker, runs: &runs }).expect("a batch");
        assert_eq!(world.overheard(), Ok(1));
        world.step(Input::Will { token: 3, broker: BROKER, will: &will(body) }).expect("a will");
        assert_eq!(world.overheard(), Ok(1));
        let got = world.others_got();
        moved(&mut world, state()).expect("a session");
        assert_eq!(world.others_got(), got + 1, "the message that waited");
        let mut world = World::new().expect("a canary");
        let by = &seeds()[1][1..];
        kept(&mut world, Bytes::copy_from_slice(by)).expect("a message that is kept");
        assert_eq!(world.others_got(), 1, "what is retained");
    }
}
