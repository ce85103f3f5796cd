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
    for (how, version) in [(0, Version::V5), (2, Version::V311)] {
        let mut ids = (1..).filter_map(PacketId::new);
        let mut talk = vec![how];
        for (filter, packet_id) in ["canary/#", "+/sings", "$share/g/canary/sings", "t/#"].into_iter().zip(&mut ids) {
            let filters = vec![SubscribeFilter::new(filter, QoS::ExactlyOnce)];
            let subscribe = Subscribe { packet_id, filters, subscription_id: None, user_properties: Vec::new() };
            talk.extend(bytes_of(&Packet::Subscribe(subscribe), version));
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for topic in ["canary/sings", "t/1"] {
                let packet_id = ids.next().filter(|_| qos != QoS::AtMostOnce);
                let (topic, payload) = (topic.into(), "x".into());
                let publish = Publish { topic, payload, qos, packet_id, ..Publish::default() };
                talk.extend(bytes_of(&Packet::Publish(Box::new(publish)), version));
            }
        }
        all.push(talk);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sends_arrives() {
        for (how, version) in [(0, Version::V5), (2, Version::V311)] {
            let talk = seeds().into_iter().rfind(|seed| seed[0] == how && seed.len() > 100).expect("a conversation");
            let mut world = World::new().expect("a canary");
            let conn = world.open();
            world.read(conn, &connect_bytes(version, "other")).expect("a connection");
            world.read(conn, &talk[1..]).expect("a conversation");
            assert_eq!(world.overheard(), Ok(3), "{version:?}");
        }
    }
}
