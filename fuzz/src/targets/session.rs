//! A client that sends anything, beside one that must not notice.

use rookery::mqtt::codec::{Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, Version};

use super::head;
use super::world::{World, bytes_of, connect_bytes};
use crate::corpus;

/// Bytes between two passages of time: what one read of a socket brings.
const READ: usize = 4096;

/// A byte, then what the client sends. The byte: whether a CONNECT is sent first, its version, whether another client
/// listens to everything, and in how small pieces the bytes come.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    let mut world = World::new()?;
    let conn = world.open();
    if how & 1 == 0 {
        world.read(conn, &connect_bytes(if how & 2 == 0 { Version::V5 } else { Version::V311 }, "other"))?;
    }
    let piece = if how & 8 == 0 { READ } else { 1 + usize::from(how >> 4) };
    for bytes in bytes.chunks(piece).take(READ) {
        world.read(conn, bytes)?;
    }
    world.sings()?;
    if how & 4 != 0 {
        world.wait(u64::from(how) * 1000)?;
        world.sings()?;
    }
    world.close(conn)?;
    world.sings()
}

/// The packets of `tests/wire`, each alone, and a few conversations.
pub fn seeds() -> Vec<Vec<u8>> {
    let alone = corpus::wire();
    let mut all: Vec<Vec<u8>> = (0..4).flat_map(|how| alone.iter().map(move |p| [&[how], &p[..]].concat())).collect();
    let id = PacketId::new(7).expect("not 0");
    for (how, version) in [(0, Version::V5), (2, Version::V311)] {
        let mut talk = vec![how];
        for filter in ["canary/#", "+/sings", "$share/g/canary/sings", "t/#"] {
            let filters = vec![SubscribeFilter::new(filter, QoS::ExactlyOnce)];
            let subscribe = Subscribe { packet_id: id, filters, subscription_id: None, user_properties: Vec::new() };
            talk.extend(bytes_of(&Packet::Subscribe(subscribe), version));
        }
        for (qos, packet_id) in [(QoS::AtMostOnce, None), (QoS::AtLeastOnce, Some(id)), (QoS::ExactlyOnce, Some(id))] {
            for topic in ["canary/sings", "t/1"] {
                let (topic, payload) = (topic.into(), "x".into());
                let publish = Publish { topic, payload, qos, packet_id, ..Publish::default() };
                talk.extend(bytes_of(&Packet::Publish(Box::new(publish)), version));
            }
        }
        all.push(talk);
    }
    all
}
