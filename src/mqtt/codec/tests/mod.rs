//! Tests of the whole room: tables of bytes, round trips, the same bytes read by another codec.

mod differential;
mod exact;
mod round_trip;
mod strategies;
mod table;

use bytes::BytesMut;

use super::*;

/// The one packet that `bytes` hold.
fn read(version: Option<Version>, sender: Sender, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let frame = split(bytes, MAX_PACKET)?.expect("a complete packet");
    assert_eq!(frame.total, bytes.len(), "one packet only");
    decode(version, sender, frame.first_byte, frame.body(bytes))
}

fn write(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::from(&b"before"[..]);
    let size = encode(packet, version, &mut out).expect("a valid packet");
    let bytes = out.split_off(6);
    assert_eq!(out, b"before"[..]);
    assert_eq!(bytes.len(), size);
    bytes
}

/// Who sends this packet.
fn sender_of(packet: &Packet) -> Sender {
    match packet {
        Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => Sender::Server,
        Packet::Publish(p) if !p.subscription_ids.is_empty() => Sender::Server,
        Packet::Auth(p) if p.reason == ReasonCode::SUCCESS => Sender::Server,
        _ => Sender::Client,
    }
}

/// The version that a reader knows before this packet arrives.
fn known(packet: &Packet, version: Version) -> Option<Version> {
    (!matches!(packet, Packet::Connect(_))).then_some(version)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks_exact(2);
    assert!(pairs.remainder().is_empty(), "whole bytes: {text}");
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
