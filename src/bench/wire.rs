//! The packets of the hot loop, made from a template and scanned in place, without allocation. (Everything before
//! it goes through the codec.)

use crate::client::message;
use crate::mqtt::codec::{DecodeError, Packet, PacketId, Publish, QoS, Version, encode};

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

/// First bytes of the acknowledgements (2.1.2, 2.1.3).
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    first: u8,
    id: u16,
}

/// A PUBLISH to be sent again and again.
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the packet identifier stands, with QoS 1 and 2.
    id_at: Option<usize>,
    stamp_at: usize,
    topic_end: usize,
}

impl Template {
    pub(super) fn new(version: Version, topic: &str, qos: QoS, payload: usize) -> Self {
        let mut out = bytes::BytesMut::new();
        let has_id = qos > QoS::AtMostOnce;
        let publish = Publish { packet_id: has_id.then_some(PacketId::MIN), ..message(topic, vec![0; payload], qos) };
        encode(&Packet::Publish(Box::new(publish)), version, &mut out).expect("a checked topic and size");
        let stamp_at = out.len() - payload;
        let properties_at = stamp_at - usize::from(version == Version::V5);
        let id_at = has_id.then(|| properties_at - 2);
        Self { bytes: out.to_vec(), id_at, stamp_at, topic_end: id_at.unwrap_or(properties_at) }
    }

    /// Appends the packet to `out`. `levels` are the last four of the topic, one byte each; without them it is the
    /// template's.
    pub(super) fn write(&self, out: &mut Vec<u8>, packet_id: u16, levels: Option<[u8; 4]>, stamp: Stamp) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[at..];
        if let Some(id_at) = self.id_at {
            packet[id_at..id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        for (level, at) in levels.into_iter().flatten().zip((self.topic_end - 7..).step_by(2)) {
            packet[at] = level;
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
    /// A message, and what is to be answered with QoS 1 and 2.
    Message(Stamp, Option<Answer>),
    /// PUBACK, PUBCOMP, or a PUBREC that ends the handshake: the message is done with; whether well.
    Done(bool),
    /// A PUBREC after which PUBREL is due.
    Received(Answer),
    /// A PUBREL after which PUBCOMP is due.
    Released(Answer),
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
        4..=7 => acknowledgement(buf[0] >> 4, body).ok_or(DecodeError::malformed("acknowledgement"))?,
        14 => Seen::Disconnect(body.first().copied().unwrap_or(0)),
        _ => Seen::Other,
    };
    Ok(Some((seen, total)))
}

#[inline]
fn acknowledgement(kind: u8, body: &[u8]) -> Option<Seen> {
    let id = u16::from_be_bytes(*body.first_chunk()?);
    let good = body.get(2).is_none_or(|&code| code < 0x80);
    Some(match kind {
        5 if good => Seen::Received(Answer { first: PUBREL, id }),
        6 => Seen::Released(Answer { first: PUBCOMP, id }),
        _ => Seen::Done(good),
    })
}

#[inline]
fn publish(first: u8, body: &[u8], version: Version) -> Option<Seen> {
    let topic = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let mut at = 2 + topic;
    let mut answer = None;
    if first & 0b0110 != 0 {
        let id = u16::from_be_bytes(*body.get(at..)?.first_chunk()?);
        answer = Some(Answer { first: if first & 0b0100 == 0 { PUBACK } else { PUBREC }, id });
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
    Some(Seen::Message(stamp, answer))
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

impl Answer {
    /// Appends it to `out`, without a reason code: success.
    #[inline]
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let [high, low] = self.id.to_be_bytes();
        out.extend_from_slice(&[self.first, 2, high, low]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: Answer) -> Vec<u8> {
        let mut out = Vec::new();
        answer.write(&mut out);
        out
    }

    #[test]
    fn what_is_written_is_scanned_back() {
        for version in [Version::V311, Version::V5] {
            for (qos, payload) in [(0, 20), (1, 64), (0, 300), (1, 70_000), (2, 64)] {
                let template = Template::new(version, "bench/0", QoS::from_u8(qos).unwrap(), payload);
                let stamp = Stamp { publisher: 3, number: 1 << 40, sent: 12_345_678_901 };
                let mut out = Vec::new();
                template.write(&mut out, 0xabcd, None, stamp);
                let first = [None, Some(PUBACK), Some(PUBREC)][usize::from(qos)];
                let answer = first.map(|first| Answer { first, id: 0xabcd });
                assert_eq!(scan(&out, version).unwrap(), Some((Seen::Message(stamp, answer), out.len())));
                assert_eq!(scan(&out[..out.len() - 1], version).unwrap(), None);
                assert_eq!(scan(&out[..1], version).unwrap(), None);
            }
        }
        assert_eq!(scan(&[0xe0, 1, 0x8e], Version::V5).unwrap(), Some((Seen::Disconnect(0x8e), 3)));
        assert!(scan(&[0x30, 0x80, 0x80, 0x80, 0x80, 1], Version::V5).is_err());
    }

    #[test]
    fn a_handshake_goes_both_ways_to_its_end() {
        let scan = |packet: &[u8]| scan(packet, Version::V5).unwrap().unwrap().0;
        let Seen::Received(release) = scan(&written(Answer { first: PUBREC, id: 513 })) else { panic!() };
        assert_eq!(written(release), [0x62, 2, 2, 1]);
        let Seen::Released(complete) = scan(&written(release)) else { panic!() };
        assert_eq!(written(complete), [0x70, 2, 2, 1]);
        assert_eq!(scan(&written(complete)), Seen::Done(true));
        assert_eq!(scan(&written(Answer { first: PUBACK, id: 1 })), Seen::Done(true));
        assert_eq!(scan(&[0x40, 3, 0, 1, 0x97]), Seen::Done(false));
        assert_eq!(scan(&[0x50, 3, 0, 1, 0x97]), Seen::Done(false));
        assert_eq!(scan(&[0x50, 3, 0, 1, 0x10]), Seen::Received(Answer { first: PUBREL, id: 1 }));
        assert!(super::scan(&[0x50, 1, 0], Version::V5).is_err());
    }

    #[test]
    fn levels_are_set_and_nothing_else() {
        for (version, qos) in [(Version::V311, QoS::AtMostOnce), (Version::V5, QoS::ExactlyOnce)] {
            let stamp = Stamp { publisher: 1, number: 2, sent: 3 };
            let (mut changed, mut whole) = (Vec::new(), Vec::new());
            Template::new(version, "bench/7/0/0/0/0", qos, 64).write(&mut changed, 1, Some(*b"4321"), stamp);
            Template::new(version, "bench/7/4/3/2/1", qos, 64).write(&mut whole, 1, None, stamp);
            assert_eq!(changed, whole);
        }
    }
}
