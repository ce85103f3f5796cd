//! The packets of the hot loop, made from a template and scanned in place, without allocation. (Everything before
//! it goes through the codec.)

use crate::client::message;
use crate::mqtt::codec::{DecodeError, Packet, Publish, QoS, Version, encode};

use super::options::STAMP_BYTES;

/// What a message carries in front of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which publisher.
    pub publisher: u32,
    /// Its messages' number, from 0.
    pub number: u64,
    /// When it was sent, nanoseconds since the run began.
    pub sent: u64,
}

/// A PUBLISH to be sent again and again.
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the packet identifier stands, with QoS 1.
    id_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    pub(super) fn new(version: Version, topic: &str, qos: u8, payload: usize) -> Self {
        let mut out = bytes::BytesMut::new();
        let publish = Publish {
            packet_id: (qos > 0).then_some(crate::mqtt::codec::PacketId::MIN),
            ..message(topic, vec![0; payload], if qos > 0 { QoS::AtLeastOnce } else { QoS::AtMostOnce })
        };
        encode(&Packet::Publish(Box::new(publish)), version, &mut out).expect("a checked topic and size");
        let stamp_at = out.len() - payload;
        let properties = usize::from(version == Version::V5);
        Self { bytes: out.to_vec(), id_at: (qos > 0).then(|| stamp_at - properties - 2), stamp_at }
    }

    /// Appends the packet to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, packet_id: u16, stamp: Stamp) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[at..];
        if let Some(id_at) = self.id_at {
            packet[id_at..id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        let field = &mut packet[self.stamp_at..self.stamp_at + STAMP_BYTES];
        field[..4].copy_from_slice(&stamp.publisher.to_le_bytes());
        field[4..12].copy_from_slice(&stamp.number.to_le_bytes());
        field[12..].copy_from_slice(&stamp.sent.to_le_bytes());
    }
}

/// A packet as far as the hot loop looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A message, with its packet identifier if it wants a PUBACK.
    Message(Stamp, Option<u16>),
    /// PUBACK, and whether it is a success.
    Puback(bool),
    /// DISCONNECT with this code.
    Disconnect(u8),
    /// Anything else: PINGRESP, or a message of somebody else's.
    Other,
}

/// The packet at the front of `buf` and its size; `None` until it is complete.
#[inline]
pub(super) fn scan(buf: &[u8], version: Version) -> Result<Option<(Seen, usize)>, DecodeError> {
    let Some((remaining, header)) = remaining_length(buf)? else { return Ok(None) };
    let total = header + remaining;
    if buf.len() < total {
        return Ok(None);
    }
    let body = &buf[header..total];
    let seen = match buf[0] >> 4 {
        3 => publish(buf[0], body, version).ok_or(DecodeError::malformed("publish"))?,
        4 => Seen::Puback(body.get(2).is_none_or(|&code| code < 0x80)),
        14 => Seen::Disconnect(body.first().copied().unwrap_or(0)),
        _ => Seen::Other,
    };
    Ok(Some((seen, total)))
}

#[inline]
fn publish(first: u8, body: &[u8], version: Version) -> Option<Seen> {
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let mut at = 2 + topic;
    let mut id = None;
    if first & 0b0110 != 0 {
        id = Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
        at += 2;
    }
    if version == Version::V5 {
        let (properties, len) = varint(body.get(at..)?)?;
        at += len + properties;
    }
    let payload = body.get(at..)?;
    let Some(stamp) = payload.get(..STAMP_BYTES) else { return Some(Seen::Other) };
    let stamp = Stamp {
        publisher: u32::from_le_bytes(*stamp.first_chunk()?),
        number: u64::from_le_bytes(*stamp[4..].first_chunk()?),
        sent: u64::from_le_bytes(*stamp[12..].first_chunk()?),
    };
    Some(Seen::Message(stamp, id))
}

/// The remaining length, and the size of the fixed header.
#[inline]
fn remaining_length(buf: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    match buf {
        // Nearly every packet of a run: up to 127 bytes.
        [_, length, ..] if *length < 0x80 => Ok(Some((usize::from(*length), 2))),
        [_, rest @ ..] => match varint(rest) {
            Some((value, len)) => Ok(Some((value, 1 + len))),
            None if rest.len() >= 4 => Err(DecodeError::malformed("remaining length")),
            None => Ok(None),
        },
        [] => Ok(None),
    }
}

fn varint(buf: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in buf.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// A PUBACK of success.
pub(super) fn write_puback(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_scanned_back() {
        for version in [Version::V311, Version::V5] {
            for (qos, payload) in [(0, 20), (1, 64), (0, 300), (1, 70_000)] {
                let template = Template::new(version, "bench/0", qos, payload);
                let stamp = Stamp { publisher: 3, number: 1 << 40, sent: 12_345_678_901 };
                let mut out = Vec::new();
                template.write(&mut out, 0xabcd, stamp);
                let id = (qos == 1).then_some(0xabcd);
                assert_eq!(scan(&out, version).unwrap(), Some((Seen::Message(stamp, id), out.len())));
                assert_eq!(scan(&out[..out.len() - 1], version).unwrap(), None);
                assert_eq!(scan(&out[..1], version).unwrap(), None);
            }
        }
        let mut ack = Vec::new();
        write_puback(&mut ack, 1);
        assert_eq!(scan(&ack, Version::V5).unwrap(), Some((Seen::Puback(true), 4)));
        assert_eq!(scan(&[0x40, 3, 0, 1, 0x97], Version::V5).unwrap(), Some((Seen::Puback(false), 5)));
        assert_eq!(scan(&[0xe0, 1, 0x8e], Version::V5).unwrap(), Some((Seen::Disconnect(0x8e), 3)));
        assert!(scan(&[0x30, 0x80, 0x80, 0x80, 0x80, 1], Version::V5).is_err());
    }
}
