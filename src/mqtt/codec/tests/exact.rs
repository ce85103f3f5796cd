//! Bytes spelled out, and errors of the encoder.

use super::*;

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn writes(packet: Packet, version: Version, expected: &str) {
    assert_eq!(write(&packet, version), hex(expected)[..], "{packet:?}");
}

#[test]
fn shortest_forms() {
    writes(Packet::Disconnect(Disconnect::default()), Version::V5, "e0 00");
    // rumqttc and others cannot read the form without a Property Length.
    writes(Packet::Disconnect(Disconnect::new(ReasonCode::SESSION_TAKEN_OVER)), Version::V5, "e0 02 8e 00");
    writes(Packet::Disconnect(Disconnect::new(ReasonCode::SESSION_TAKEN_OVER)), Version::V311, "e0 00");
    writes(Packet::Puback(Ack::new(id(1), ReasonCode::SUCCESS)), Version::V5, "40 02 0001");
    writes(Packet::Puback(Ack::new(id(1), ReasonCode::NOT_AUTHORIZED)), Version::V5, "40 03 0001 87");
    writes(Packet::Puback(Ack::new(id(1), ReasonCode::NOT_AUTHORIZED)), Version::V311, "40 02 0001");
    writes(Packet::Pubrel(Ack::new(id(1), ReasonCode::SUCCESS)), Version::V5, "62 02 0001");
    writes(Packet::Pingresp, Version::V5, "d0 00");
}

#[test]
fn connack_always_has_a_property_length_in_version_5() {
    let connack = |reason| Packet::Connack(Box::new(Connack::new(false, reason)));
    writes(connack(ReasonCode::SUCCESS), Version::V5, "20 03 00 00 00");
    writes(connack(ReasonCode::UNSUPPORTED_VERSION), Version::V5, "20 03 00 84 00");
    writes(connack(ReasonCode::UNSUPPORTED_VERSION), Version::V311, "20 02 00 01");
    writes(connack(ReasonCode::CLIENT_ID_INVALID), Version::V311, "20 02 00 02");
    writes(connack(ReasonCode::SERVER_BUSY), Version::V311, "20 02 00 03");
    writes(connack(ReasonCode::BAD_CREDENTIALS), Version::V311, "20 02 00 04");
    writes(connack(ReasonCode::BANNED), Version::V311, "20 02 00 05");
}

#[test]
fn suback_failures_are_0x80_in_version_311() {
    let reasons = vec![ReasonCode::GRANTED_QOS_2, ReasonCode::TOPIC_FILTER_INVALID];
    let suback = Packet::Suback(Suback { packet_id: id(7), reasons, properties: ReasonProperties::default() });
    writes(suback.clone(), Version::V311, "90 04 0007 02 80");
    writes(suback, Version::V5, "90 05 0007 00 02 8f");
}

#[test]
fn payload_is_what_follows_the_properties() {
    let bytes = hex("30 0b 0001 61 06 0b01 0b02 0101 58");
    let Ok(Packet::Publish(publish)) = read(Some(Version::V5), Sender::Server, &bytes) else { panic!() };
    assert_eq!(publish.payload, b"X"[..]);
    assert_eq!(publish.subscription_ids, [1, 2]);
    assert_eq!(publish.properties.payload_format, Some(PayloadFormat::Utf8));
}

#[test]
fn alias_and_expiry_are_cut_out_of_what_is_forwarded() {
    let user = "26 0001 61 0001 62";
    let body = hex(&format!("0001 74 1d {user} 02 00000009 {user} 23 0001 {user} 58"));
    let publish = decode_publish(Version::V5, Sender::Client, 0x30, &body).unwrap();
    let user = hex(user);
    assert_eq!(publish.properties.forwardable.parts(), &[&user[..], &user, &user]);
    assert_eq!((publish.properties.topic_alias, publish.properties.message_expiry), (Some(1), Some(9)));
    assert_eq!(publish.properties.user_properties().collect::<Vec<_>>(), [("a", "b"); 3]);
    assert_eq!(publish.payload, b"X");
}

#[test]
fn feff_is_a_character_and_a_password_is_bytes() {
    let bytes = hex("10 18 0004 4d515454 04 c2 000a 0003 efbbbf 0000 0005 00ff fe00 80");
    let Ok(Packet::Connect(connect)) = read(None, Sender::Client, &bytes) else { panic!() };
    assert_eq!(connect.client_id, "\u{feff}");
    assert_eq!(connect.user_name.as_deref(), Some(""));
    assert_eq!(connect.password.as_deref(), Some(&[0, 0xff, 0xfe, 0, 0x80][..]));
}

#[test]
fn secrets_stay_out_of_debug_texts() {
    let mut connect = Connect::new(Version::V5, "c");
    connect.password = Some("sesame".into());
    connect.properties.authentication_method = Some("m".into());
    connect.properties.authentication_data = Some("sesame".into());
    let mut connack = Connack::new(false, ReasonCode::SUCCESS);
    connack.properties.authentication_data = Some("sesame".into());
    let auth = AuthProperties { authentication_data: Some("sesame".into()), ..AuthProperties::default() };
    let text = format!("{connect:?} {connack:?} {auth:?}");
    assert!(!text.contains("sesame") && !text.contains("115, 101"), "{text}");
    assert_eq!(text.matches("Some(redacted)").count(), 4);
}

/// Nothing may be written before an error.
fn refuses(packet: Packet, version: Version) -> EncodeError {
    let mut out = BytesMut::from("before");
    let error = encode(&packet, version, &mut out).unwrap_err();
    assert_eq!(out, "before");
    error
}

#[test]
fn encoder_refuses_before_it_writes() {
    let long = "x".repeat(65_536);
    let publish = |change: fn(&mut Publish)| {
        let mut publish = Publish { topic: "t".into(), ..Publish::default() };
        change(&mut publish);
        Packet::Publish(Box::new(publish))
    };
    let too_long = Packet::Publish(Box::new(Publish { topic: long.clone(), ..Publish::default() }));
    assert_eq!(refuses(too_long, Version::V5), EncodeError::FieldTooLong);
    let mut connect = Connect::new(Version::V5, "c");
    connect.password = Some(long.clone().into());
    assert_eq!(refuses(Packet::Connect(Box::new(connect)), Version::V5), EncodeError::FieldTooLong);
    let mut ack = Ack::new(id(1), ReasonCode::SUCCESS);
    ack.properties.reason_string = Some(long);
    assert_eq!(refuses(Packet::Puback(ack), Version::V5), EncodeError::FieldTooLong);
    let invalid = [
        publish(|p| p.topic = "a/+".into()),
        publish(|p| p.topic = String::new()),
        publish(|p| p.topic = "a\0".into()),
        publish(|p| p.dup = true),
        publish(|p| p.qos = QoS::AtLeastOnce),
        publish(|p| p.packet_id = PacketId::new(1)),
        publish(|p| p.topic_alias = Some(0)),
        publish(|p| p.subscription_ids = vec![1, 0]),
        publish(|p| p.subscription_ids = vec![268_435_456]),
        publish(|p| p.properties.response_topic = Some("#".into())),
        publish(|p| p.properties.content_type = Some("\0".into())),
        Packet::Connack(Box::new(Connack::new(true, ReasonCode::SERVER_BUSY))),
        Packet::Unsubscribe(Unsubscribe { packet_id: id(1), filters: vec![], user_properties: vec![] }),
    ];
    for packet in invalid {
        assert!(matches!(refuses(packet, Version::V5), EncodeError::Invalid(_)));
    }
    let auth = Packet::Auth(Auth { reason: ReasonCode::SUCCESS, properties: AuthProperties::default() });
    assert!(matches!(refuses(auth, Version::V311), EncodeError::Invalid(_)));
}

#[test]
fn the_largest_packet() {
    let head = PublishHead { topic: "t", ..PublishHead::default() };
    let len = |payload| publish_len(Version::V311, &head, Forwardable::EMPTY, payload);
    assert_eq!(len(MAX_REMAINING - 3), Ok(MAX_PACKET));
    let error = Err(EncodeError::PacketTooLarge { size: MAX_PACKET + 1, limit: MAX_PACKET });
    assert_eq!(len(MAX_REMAINING - 2), error);
    assert!(len(usize::MAX).is_err());
    let mut out = BytesMut::new();
    assert_eq!(
        encode_publish_header(&mut out, Version::V311, &head, Forwardable::EMPTY, MAX_REMAINING - 3),
        Ok(MAX_PACKET)
    );
    assert_eq!(out, hex("30 ff ff ff 7f 0001 74")[..]);
}

#[test]
fn the_limit_is_on_the_whole_packet_and_known_from_its_length() {
    let header = hex("30 80 80 01");
    assert_eq!(split(&header, 16_388), Ok(None));
    assert_eq!(split(&header, 16_387).unwrap_err().reason, ReasonCode::PACKET_TOO_LARGE);
    assert_eq!(split(&hex("c0 00"), 2).unwrap().unwrap().total, 2);
}

#[test]
fn what_a_packet_can_do_without_is_left_out() {
    let mut ack = Ack::new(id(1), ReasonCode::QUOTA_EXCEEDED);
    ack.properties.reason_string = Some("r".into());
    ack.properties.user_properties = vec![("a".into(), "b".into())];
    let within = |limit| {
        let mut out = BytesMut::from("x");
        let size = encode_within(Packet::Puback(ack.clone()), Version::V5, limit, &mut out);
        assert_eq!(out.len(), 1 + size.unwrap_or(0));
        size.map(|_| out[1..].to_vec())
    };
    assert_eq!(within(17), Ok(hex("40 0f 0001 97 0b 1f000172 26000161000162")));
    assert_eq!(within(16), Ok(hex("40 08 0001 97 04 1f000172")));
    assert_eq!(within(9), Ok(hex("40 03 0001 97")));
    assert_eq!(within(4), Err(EncodeError::PacketTooLarge { size: 5, limit: 4 }));
}
