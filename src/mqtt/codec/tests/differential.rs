//! The same bytes read by mqttbytes, where mqttbytes is right: what both accept, both must understand alike.

use bytes::Bytes;
use mqttbytes::v4;
use proptest::prelude::*;

use super::strategies::{publish, v311};
use super::*;

fn other_qos(qos: QoS) -> mqttbytes::QoS {
    mqttbytes::qos(qos as u8).unwrap()
}

fn other_login(connect: &Connect) -> Option<v4::Login> {
    let username = connect.user_name.clone().unwrap_or_default();
    let password = connect.password.clone().unwrap_or_default();
    let password = String::from_utf8(password.into()).unwrap();
    // It cannot tell an empty login from none.
    (!username.is_empty() || !password.is_empty()).then_some(v4::Login { username, password })
}

/// Our packet as theirs; none where they have no such value.
fn to_other(packet: &Packet) -> Option<v4::Packet> {
    Some(match packet {
        Packet::Connect(p) => v4::Packet::Connect(v4::Connect {
            protocol: mqttbytes::Protocol::V4,
            keep_alive: p.keep_alive,
            client_id: p.client_id.clone(),
            clean_session: p.clean_start,
            last_will: p.will.as_ref().map(|will| v4::LastWill {
                topic: will.topic.clone(),
                message: will.payload.clone(),
                qos: other_qos(will.qos),
                retain: will.retain,
            }),
            login: other_login(p),
        }),
        Packet::Publish(p) => v4::Packet::Publish(v4::Publish {
            dup: p.dup,
            qos: other_qos(p.qos),
            retain: p.retain,
            topic: p.topic.clone(),
            pkid: p.packet_id.map_or(0, PacketId::get),
            payload: p.payload.clone(),
        }),
        Packet::Puback(p) => v4::Packet::PubAck(v4::PubAck { pkid: p.packet_id.get() }),
        Packet::Pubrec(p) => v4::Packet::PubRec(v4::PubRec { pkid: p.packet_id.get() }),
        Packet::Pubrel(p) => v4::Packet::PubRel(v4::PubRel { pkid: p.packet_id.get() }),
        Packet::Pubcomp(p) => v4::Packet::PubComp(v4::PubComp { pkid: p.packet_id.get() }),
        Packet::Subscribe(p) => v4::Packet::Subscribe(v4::Subscribe {
            pkid: p.packet_id.get(),
            filters: p.filters.iter().map(|f| v4::SubscribeFilter::new(f.filter.clone(), other_qos(f.qos))).collect(),
        }),
        Packet::Unsubscribe(p) => {
            v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: p.packet_id.get(), topics: p.filters.clone() })
        }
        Packet::Suback(p) => v4::Packet::SubAck(v4::SubAck {
            pkid: p.packet_id.get(),
            return_codes: p
                .reasons
                .iter()
                .map(|reason| match QoS::from_u8(reason.value()) {
                    Some(qos) => v4::SubscribeReasonCode::Success(other_qos(qos)),
                    None => v4::SubscribeReasonCode::Failure,
                })
                .collect(),
        }),
        Packet::Unsuback(p) => v4::Packet::UnsubAck(v4::UnsubAck { pkid: p.packet_id.get() }),
        Packet::Pingreq => v4::Packet::PingReq,
        Packet::Pingresp => v4::Packet::PingResp,
        Packet::Disconnect(_) => v4::Packet::Disconnect,
        Packet::Connack(_) | Packet::Auth(_) => return None,
    })
}

fn has_binary_password(packet: &Packet) -> bool {
    let password = match packet {
        Packet::Connect(p) => p.password.as_deref().unwrap_or_default(),
        _ => &[],
    };
    std::str::from_utf8(password).is_err()
}

fn agree(packet: &Packet, bytes: &[u8]) {
    if has_binary_password(packet) {
        return;
    }
    let Some(expected) = to_other(packet) else { return };
    let got = v4::read(&mut BytesMut::from(bytes), usize::MAX);
    assert_eq!(got, Ok(expected), "{bytes:02x?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn v311_packets(packet in v311()) {
        agree(&packet, &write(&packet, Version::V311));
    }

    /// What we accept of a changed packet, they accept too, and see the same in it.
    #[test]
    fn changed_v311_packets(packet in v311(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = write(&packet, Version::V311);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(Some(frame)) = split(&bytes, MAX_PACKET) else { return Ok(()) };
        for sender in [Sender::Client, Sender::Server] {
            for version in [None, Some(Version::V311)] {
                let changed = decode(version, sender, frame.first_byte, frame.body(&bytes));
                if let Ok(changed) = changed && !matches!(&changed, Packet::Connect(p) if p.version == Version::V5) {
                    agree(&changed, &bytes[..frame.total]);
                }
            }
        }
    }

    /// Version 5, where their reader is right: at most one subscription identifier.
    #[test]
    fn v5_publish(packet in publish(Version::V5)) {
        let Packet::Publish(mut p) = packet else { unreachable!() };
        p.subscription_ids.truncate(1);
        let bytes = write(&Packet::Publish(p.clone()), Version::V5);
        let Ok(mqttbytes::v5::Packet::Publish(got)) = mqttbytes::v5::read(&mut bytes.clone(), usize::MAX) else {
            panic!("refused: {bytes:02x?}");
        };
        let q = got.properties.unwrap_or(mqttbytes::v5::PublishProperties {
            payload_format_indicator: None,
            message_expiry_interval: None,
            topic_alias: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
            subscription_identifiers: Vec::new(),
            content_type: None,
        });
        let properties = MessageProperties {
            payload_format: q.payload_format_indicator.map(|v| if v == 1 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes }),
            message_expiry: q.message_expiry_interval,
            content_type: q.content_type,
            response_topic: q.response_topic,
            correlation_data: q.correlation_data,
            user_properties: q.user_properties,
        };
        prop_assert_eq!(*p, Publish {
            dup: got.dup,
            qos: QoS::from_u8(got.qos as u8).unwrap(),
            retain: got.retain,
            topic: got.topic,
            packet_id: PacketId::new(got.pkid),
            topic_alias: q.topic_alias,
            subscription_ids: q.subscription_identifiers.iter().map(|&id| id as u32).collect(),
            properties,
            payload: Bytes::from(got.payload.to_vec()),
        });
    }
}
