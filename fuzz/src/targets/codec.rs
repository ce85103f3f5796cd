//! Packets: what decodes must encode, to what decodes to the same.

use bytes::BytesMut;
use rookery::mqtt::codec::{Packet, Sender, Version, decode, encode, split};

use super::{ensure, head};
use crate::{MAX_INPUT, corpus};

/// A byte for version and sender, then packets back to back. The first may be a CONNECT, if the byte says so.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, mut rest) = head(input);
    let version = if how & 1 == 0 { Version::V5 } else { Version::V311 };
    let sender = if how & 2 == 0 { Sender::Client } else { Sender::Server };
    let mut known = (how & 4 == 0).then_some(version);
    while let Ok(Some(frame)) = split(rest, MAX_INPUT) {
        ensure((2..=rest.len()).contains(&frame.total), || format!("{frame:?} of {} bytes", rest.len()))?;
        if let Ok(packet) = decode(known, sender, frame.first_byte, frame.body(rest)) {
            if let Packet::Connect(connect) = &packet {
                known = Some(connect.version);
            }
            let version = known.unwrap_or(version);
            again(&packet, version, sender)?;
        }
        rest = &rest[frame.total..];
    }
    Ok(())
}

fn again(packet: &Packet, version: Version, sender: Sender) -> Result<(), String> {
    let mut bytes = BytesMut::new();
    let size = encode(packet, version, &mut bytes).map_err(|why| format!("{packet:?} does not encode: {why}"))?;
    ensure(size == bytes.len(), || format!("{packet:?}: {size} bytes said, {} written", bytes.len()))?;
    let frame = split(&bytes, usize::MAX).map_err(|why| format!("{packet:?} does not split: {why}"))?;
    let frame = frame.ok_or_else(|| format!("{packet:?} is cut"))?;
    ensure(frame.total == size, || format!("{packet:?} has {size} bytes, {} split off", frame.total))?;
    let connected = (!matches!(packet, Packet::Connect(_))).then_some(version);
    let second = decode(connected, sender, frame.first_byte, frame.body(&bytes))
        .map_err(|why| format!("{packet:?} does not decode again: {why}"))?;
    ensure(second == *packet, || format!("{packet:?} became {second:?}"))
}

/// The packets of `tests/wire`, in each version and direction.
pub fn seeds() -> Vec<Vec<u8>> {
    let packets = corpus::wire();
    (0..8).flat_map(|how| packets.iter().map(move |packet| [&[how], &packet[..]].concat())).collect()
}
