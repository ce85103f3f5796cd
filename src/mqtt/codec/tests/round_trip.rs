//! Property tests: what is written is read back, at any fragmentation; what is read can be written; nothing panics.

use bytes::{BufMut, Bytes};
use proptest::prelude::*;

use super::strategies::{publish, v5, v311};
use super::*;

fn round_trip(packet: &Packet, version: Version) {
    let bytes = write(packet, version);
    assert_eq!(read(known(packet, version), sender_of(packet), &bytes).as_ref(), Ok(packet));
}

/// `split` on every proper beginning of a packet waits for more, and finds the packet in front of others.
fn fragments(bytes: &[u8]) {
    for end in 0..bytes.len() {
        assert_eq!(split(&bytes[..end], bytes.len()), Ok(None));
    }
    let whole = split(bytes, bytes.len()).unwrap().unwrap();
    assert_eq!(whole.total, bytes.len());
    let more = [bytes, &[0xff; 7]].concat();
    assert_eq!(split(&more, bytes.len()), Ok(Some(whole)));
    assert_eq!(split(bytes, bytes.len() - 1).unwrap_err().reason, ReasonCode::PACKET_TOO_LARGE);
}

/// Any bytes: an error, or a packet that survives being written and read again.
fn any_bytes(bytes: &[u8]) {
    for sender in [Sender::Client, Sender::Server] {
        for version in [None, Some(Version::V311), Some(Version::V5)] {
            let Ok(Some(frame)) = split(bytes, 1 << 20) else { continue };
            let Ok(packet) = decode(version, sender, frame.first_byte, frame.body(bytes)) else { continue };
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version.unwrap(),
            };
            let again = write(&packet, version);
            assert_eq!(read(known(&packet, version), sender, &again).as_ref(), Ok(&packet));
        }
    }
}

fn publish_ref(version: Version, sender: Sender, bytes: &[u8]) -> PublishRef<'_> {
    let frame = split(bytes, MAX_PACKET).unwrap().unwrap();
    decode_publish(version, sender, frame.first_byte, frame.body(bytes)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn v5_packets(packet in v5()) {
        round_trip(&packet, Version::V5);
    }

    #[test]
    fn v311_packets(packet in v311()) {
        round_trip(&packet, Version::V311);
    }

    #[test]
    fn fragmented(packet in prop_oneof![v5().prop_map(|p| write(&p, Version::V5)), v311().prop_map(|p| write(&p, Version::V311))]) {
        fragments(&packet);
    }

    /// A broker's way: borrowed decode, properties stored, encoded with other head fields, payload on its own.
    #[test]
    fn forwarded(packet in publish(Version::V5), expiry in any::<Option<u32>>(), id in 1..=268_435_455u32) {
        let Packet::Publish(mut sent) = packet else { unreachable!() };
        sent.subscription_ids.clear();
        let bytes = write(&Packet::Publish(sent.clone()), Version::V5);
        let publish = publish_ref(Version::V5, Sender::Client, &bytes);
        let forwardable = publish.properties.forwardable;
        let mut stored = BytesMut::new();
        forwardable.copy_to(&mut stored);
        prop_assert_eq!(stored.len(), forwardable.len());
        let expected = MessageProperties { message_expiry: None, ..sent.properties.clone() };
        prop_assert_eq!(MessageProperties::from_forwardable(&stored).unwrap(), expected.clone());
        prop_assert_eq!(expected.to_forwardable().unwrap(), stored.clone().freeze());

        let head = PublishHead { topic: "to/you", subscription_ids: &[id, 1], message_expiry: expiry, ..PublishHead::default() };
        let (mut split_out, mut out) = (BytesMut::from("x"), BytesMut::from("x"));
        let size = encode_publish(&mut out, Version::V5, &head, forwardable, publish.payload).unwrap();
        let stored = Forwardable::stored(&stored);
        prop_assert_eq!(encode_publish_header(&mut split_out, Version::V5, &head, stored, publish.payload.len()).unwrap(), size);
        prop_assert_eq!(publish_len(Version::V5, &head, stored, publish.payload.len()).unwrap(), size);
        split_out.put_slice(publish.payload);
        prop_assert_eq!(&split_out, &out);
        prop_assert_eq!(size, out.len() - 1);
        let got = Publish::from(publish_ref(Version::V5, Sender::Server, &out[1..]));
        let want = Publish {
            topic: "to/you".into(),
            subscription_ids: vec![id, 1],
            properties: MessageProperties { message_expiry: expiry, ..expected },
            payload: Bytes::copy_from_slice(publish.payload),
            ..Publish::default()
        };
        prop_assert_eq!(got, want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes(first in any::<u8>(), len in 0..40u8, body in prop::collection::vec(any::<u8>(), 0..40)) {
        any_bytes(&[&[first, len], &body[..]].concat());
        any_bytes(&[&[first, body.len() as u8], &body[..]].concat());
        any_bytes(&body);
    }

    #[test]
    fn changed_packets(packet in v5(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = write(&packet, Version::V5);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        any_bytes(&bytes);
        if cut && bytes[1] < 0x80 {
            bytes.truncate(at.max(2));
            bytes[1] = (bytes.len() - 2) as u8 & 0x7f;
            any_bytes(&bytes);
        }
    }
}
