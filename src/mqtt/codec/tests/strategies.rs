//! Packets of every kind, valid in the version asked for.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    let letter = prop_oneof![4 => prop::char::range('a', 'z'), 1 => prop::char::range('\u{1}', '\u{10ffff}')];
    vec(letter, 0..12).prop_map(String::from_iter)
}

fn topic() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("t/{}", text.replace(['+', '#'], "/")))
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn users() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..4)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..=2u8).prop_map(|qos| QoS::from_u8(qos).unwrap())
}

fn some_u16() -> impl Strategy<Value = Option<NonZeroU16>> {
    any::<u16>().prop_map(NonZeroU16::new)
}

fn some_u32() -> impl Strategy<Value = Option<NonZeroU32>> {
    any::<u32>().prop_map(NonZeroU32::new)
}

fn one_of(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(codes).prop_map(|code| ReasonCode::from_u8(code).unwrap())
}

fn reason_properties() -> impl Strategy<Value = ReasonProperties> {
    (of(text()), users())
        .prop_map(|(reason_string, user_properties)| ReasonProperties { reason_string, user_properties })
}

fn message_properties() -> impl Strategy<Value = MessageProperties> {
    let format = of(prop_oneof![Just(PayloadFormat::Bytes), Just(PayloadFormat::Utf8)]);
    (format, any::<Option<u32>>(), of(text()), of(topic()), of(data()), users()).prop_map(|p| MessageProperties {
        payload_format: p.0,
        message_expiry: p.1,
        content_type: p.2,
        response_topic: p.3,
        correlation_data: p.4,
        user_properties: p.5,
    })
}

fn method() -> impl Strategy<Value = (Option<String>, Option<Bytes>)> {
    prop_oneof![Just((None, None)), (text(), of(data())).prop_map(|(method, data)| (Some(method), data))]
}

fn connect(version: Version) -> BoxedStrategy<Packet> {
    let will = (qos(), any::<bool>(), topic(), data(), any::<Option<u32>>(), message_properties()).prop_map(|w| Will {
        qos: w.0,
        retain: w.1,
        topic: w.2,
        payload: w.3,
        delay: w.4,
        properties: w.5,
    });
    let flags = any::<(Option<bool>, Option<bool>)>();
    let properties = (any::<Option<u32>>(), some_u16(), some_u32(), any::<Option<u16>>(), flags, users(), method());
    let properties = properties.prop_map(|p| ConnectProperties {
        session_expiry: p.0,
        receive_maximum: p.1,
        maximum_packet_size: p.2,
        topic_alias_maximum: p.3,
        request_response_information: p.4.0,
        request_problem_information: p.4.1,
        user_properties: p.5,
        authentication_method: p.6.0,
        authentication_data: p.6.1,
    });
    (any::<bool>(), any::<u16>(), text(), of(will), of(text()), of(data()), properties)
        .prop_map(move |c| {
            let password = if version == Version::V311 && c.4.is_none() { None } else { c.5 };
            Packet::Connect(Box::new(Connect {
                version,
                clean_start: c.0 || c.2.is_empty(),
                keep_alive: c.1,
                client_id: c.2,
                will: c.3,
                user_name: c.4,
                password,
                properties: c.6,
            }))
        })
        .boxed()
}

fn connack() -> BoxedStrategy<Packet> {
    let numbers = (any::<Option<u32>>(), some_u16(), some_u32(), any::<Option<u16>>(), any::<Option<u16>>());
    let texts = (of(text()), of(text()), of(text()), of(text()));
    let rest = (any::<[Option<bool>; 5]>(), users(), method());
    let reason = one_of(&[0, 0, 0, 0x84, 0x85, 0x86, 0x87, 0x88]);
    (any::<bool>(), reason, numbers, texts, rest)
        .prop_map(|(present, reason, n, t, (flags, users, method))| {
            let properties = ConnackProperties {
                session_expiry: n.0,
                receive_maximum: n.1,
                maximum_qos: flags[0].map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
                retain_available: flags[1],
                maximum_packet_size: n.2,
                assigned_client_id: t.0,
                topic_alias_maximum: n.3,
                reason_string: t.1,
                user_properties: users,
                wildcard_subscription_available: flags[2],
                subscription_ids_available: flags[3],
                shared_subscription_available: flags[4],
                server_keep_alive: n.4,
                response_information: t.2,
                server_reference: t.3,
                authentication_method: method.0,
                authentication_data: method.1,
            };
            Packet::Connack(Box::new(Connack { session_present: present && !reason.is_error(), reason, properties }))
        })
        .boxed()
}

pub fn publish(version: Version) -> BoxedStrategy<Packet> {
    let alias = any::<Option<u16>>().prop_map(|alias| alias.filter(|&alias| alias != 0));
    let head = (any::<bool>(), qos(), any::<bool>(), topic(), any::<bool>(), packet_id());
    let ids = vec(1..=268_435_455u32, 0..3);
    (head, alias, ids, message_properties(), vec(any::<u8>(), 0..300))
        .prop_map(move |(h, alias, ids, p, payload)| {
            Packet::Publish(Box::new(Publish {
                dup: h.0 && h.1 != QoS::AtMostOnce,
                qos: h.1,
                retain: h.2,
                topic: if h.4 && alias.is_some() && version == Version::V5 { String::new() } else { h.3 },
                packet_id: (h.1 != QoS::AtMostOnce).then_some(h.5),
                topic_alias: alias,
                subscription_ids: ids,
                properties: p,
                payload: payload.into(),
            }))
        })
        .boxed()
}

fn acks() -> BoxedStrategy<Packet> {
    let ack = |codes| {
        (packet_id(), one_of(codes), reason_properties()).prop_map(|(packet_id, reason, properties)| Ack {
            packet_id,
            reason,
            properties,
        })
    };
    let first = &[0, 0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    prop_oneof![
        ack(first).prop_map(Packet::Puback),
        ack(first).prop_map(Packet::Pubrec),
        ack(&[0, 0x92]).prop_map(Packet::Pubrel),
        ack(&[0, 0x92]).prop_map(Packet::Pubcomp),
    ]
    .boxed()
}

fn subscriptions() -> BoxedStrategy<Packet> {
    let filter = (text(), qos(), any::<(bool, bool)>(), 0..=2u8).prop_map(|f| SubscribeFilter {
        filter: f.0,
        qos: f.1,
        no_local: f.2.0,
        retain_as_published: f.2.1,
        retain_handling: RetainHandling::from_u8(f.3).unwrap(),
    });
    let granted = one_of(&[0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2]);
    let gone = one_of(&[0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]);
    prop_oneof![
        (packet_id(), vec(filter, 1..5), of(1..=268_435_455u32), users()).prop_map(
            |(packet_id, filters, subscription_id, user_properties)| {
                Packet::Subscribe(Subscribe { packet_id, filters, subscription_id, user_properties })
            }
        ),
        (packet_id(), vec(granted, 1..5), reason_properties())
            .prop_map(|(packet_id, reasons, properties)| { Packet::Suback(Suback { packet_id, reasons, properties }) }),
        (packet_id(), vec(text(), 1..5), users()).prop_map(|(packet_id, filters, user_properties)| {
            Packet::Unsubscribe(Unsubscribe { packet_id, filters, user_properties })
        }),
        (packet_id(), vec(gone, 1..5), reason_properties()).prop_map(|(packet_id, reasons, properties)| {
            Packet::Unsuback(Unsuback { packet_id, reasons, properties })
        }),
    ]
    .boxed()
}

fn disconnect() -> BoxedStrategy<Packet> {
    let properties = (any::<Option<u32>>(), of(text()), users(), of(text())).prop_map(|p| DisconnectProperties {
        session_expiry: p.0,
        reason_string: p.1,
        user_properties: p.2,
        server_reference: p.3,
    });
    (one_of(&[0, 4, 0x81, 0x8c, 0x8e, 0x95, 0xa2]), prop_oneof![Just(DisconnectProperties::default()), properties])
        .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties }))
        .boxed()
}

fn auth() -> BoxedStrategy<Packet> {
    let properties = (text(), of(data()), of(text()), users()).prop_map(|p| AuthProperties {
        authentication_method: Some(p.0),
        authentication_data: p.1,
        reason_string: p.2,
        user_properties: p.3,
    });
    prop_oneof![
        1 => Just(Packet::Auth(Auth { reason: ReasonCode::SUCCESS, properties: AuthProperties::default() })),
        4 => (one_of(&[0, 0x18, 0x19]), properties)
            .prop_map(|(reason, properties)| Packet::Auth(Auth { reason, properties })),
    ]
    .boxed()
}

pub fn v5() -> BoxedStrategy<Packet> {
    prop_oneof![
        3 => connect(Version::V5),
        2 => connack(),
        4 => publish(Version::V5),
        3 => acks(),
        4 => subscriptions(),
        1 => Just(Packet::Pingreq),
        1 => Just(Packet::Pingresp),
        2 => disconnect(),
        2 => auth(),
    ]
    .boxed()
}

pub fn v311() -> BoxedStrategy<Packet> {
    let any = prop_oneof![
        3 => connect(Version::V311),
        2 => connack(),
        4 => publish(Version::V311),
        3 => acks(),
        4 => subscriptions(),
        1 => Just(Packet::Pingreq),
        1 => Just(Packet::Pingresp),
        2 => disconnect(),
    ];
    any.prop_map(without_v5).boxed()
}

/// What is left of a packet on a 3.1.1 connection.
fn without_v5(mut packet: Packet) -> Packet {
    let refusal = |reason: &mut ReasonCode| {
        if reason.is_error() {
            *reason = ReasonCode::UNSPECIFIED_ERROR;
        }
    };
    match &mut packet {
        Packet::Connect(p) => {
            p.properties = ConnectProperties::default();
            if let Some(will) = &mut p.will {
                (will.delay, will.properties) = (None, MessageProperties::default());
            }
        }
        Packet::Connack(p) => p.properties = ConnackProperties::default(),
        Packet::Publish(p) => {
            (p.topic_alias, p.subscription_ids) = (None, Vec::new());
            p.properties = MessageProperties::default();
        }
        Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
            *p = Ack::new(p.packet_id, ReasonCode::SUCCESS);
        }
        Packet::Subscribe(p) => {
            (p.subscription_id, p.user_properties) = (None, Vec::new());
            p.filters.iter_mut().for_each(|f| *f = SubscribeFilter::new(f.filter.clone(), f.qos));
        }
        Packet::Suback(p) => {
            p.properties = ReasonProperties::default();
            p.reasons.iter_mut().for_each(refusal);
        }
        Packet::Unsubscribe(p) => p.user_properties = Vec::new(),
        Packet::Unsuback(p) => (p.reasons, p.properties) = (Vec::new(), ReasonProperties::default()),
        Packet::Disconnect(p) => *p = Disconnect::default(),
        Packet::Pingreq | Packet::Pingresp | Packet::Auth(_) => {}
    }
    packet
}
