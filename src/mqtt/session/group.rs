//! Many messages of one topic on their way to one client at QoS 0: what they have in common is looked at once.

use bytes::BytesMut;

use super::deliver::PUBLISH_OVERHEAD;
use super::{Outbound, Session};
use crate::mqtt::codec::{Forwardable, PublishHead, encode_publish_header, publish_len};

/// What became of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupDelivery {
    /// Messages in the outbound buffer.
    pub written: u64,
    /// Messages larger than the client takes (MQTT-3.1.2-25).
    pub too_large: u64,
    /// Messages dropped because the client does not read.
    pub slow: u64,
}

impl Session {
    /// Delivers messages without properties, RETAIN or subscription identifiers, in order, as
    /// [`deliver`](Session::deliver) would each.
    pub fn deliver_group<'a>(
        &mut self,
        out: &mut Outbound,
        topic: &str,
        payloads: impl Iterator<Item = &'a [u8]>,
    ) -> GroupDelivery {
        let plain = PublishHead { topic, ..PublishHead::default() };
        let mut done = GroupDelivery::default();
        let mut header = BytesMut::new();
        // For payloads of which length it may be used once more.
        let mut header_is_for = None;
        for payload in payloads {
            let tight = topic.len() + payload.len() + PUBLISH_OVERHEAD > self.window.max_packet;
            if tight && self.outgrown_by(&plain, payload.len()) {
                done.too_large += 1;
                continue;
            }
            if out.len() >= self.window.outbound_bytes {
                done.slow += 1;
                continue;
            }
            if header_is_for != Some(payload.len()) {
                let head = if tight { plain } else { self.aliases_out.shorten(plain) };
                let sets_alias = head.topic_alias.is_some() && !head.topic.is_empty();
                header.clear();
                let size = encode_publish_header(&mut header, self.version, &head, Forwardable::EMPTY, payload.len());
                if size.is_err() {
                    (header_is_for, done.too_large) = (None, done.too_large + 1);
                    continue;
                }
                header_is_for = (!tight && !sets_alias).then_some(payload.len());
            }
            out.copy(&header);
            out.copy(payload);
            done.written += 1;
        }
        done
    }

    fn outgrown_by(&self, head: &PublishHead<'_>, payload: usize) -> bool {
        let size = publish_len(self.version, head, Forwardable::EMPTY, payload);
        size.is_ok_and(|size| size > self.window.max_packet)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use rookery_cluster::clock::Moment;

    use super::*;
    use crate::mqtt::codec::{Connect, PublishProperties, PublishRef, QoS, Version};
    use crate::mqtt::session::{Delivery, Dropped, Message, Settings};

    #[test]
    fn a_group_is_delivered_as_its_messages_one_by_one() {
        for (version, aliases) in [(Version::V311, None), (Version::V5, None), (Version::V5, Some(3))] {
            let mut connect = Connect::new(version, "c");
            connect.properties.topic_alias_maximum = aliases;
            connect.properties.maximum_packet_size = NonZeroU32::new(200);
            let settings = Settings { outbound_bytes: 1000, ..Settings::default() };
            let session = || Session::new("c".into(), &connect, &settings, Moment::default());
            let payloads: Vec<Vec<u8>> = (0..40).map(|n| vec![n; [0, 10, 10, 120, 250][usize::from(n) % 5]]).collect();
            let (mut one_by_one, mut expected) = (Outbound::default(), GroupDelivery::default());
            let mut single = session();
            for payload in &payloads {
                let publish = PublishRef {
                    dup: false,
                    qos: QoS::AtMostOnce,
                    retain: false,
                    topic: "t",
                    packet_id: None,
                    properties: PublishProperties::default(),
                    payload,
                };
                let mut message = Message::new("t", &publish);
                let to = &mut one_by_one;
                match single.deliver(Moment::default(), to, &mut message, QoS::AtMostOnce, false, &[]) {
                    Delivery::Dropped(Dropped::TooLarge) => expected.too_large += 1,
                    Delivery::Dropped(_) => expected.slow += 1,
                    Delivery::Written | Delivery::Queued => expected.written += 1,
                }
            }
            let mut group = Outbound::default();
            let delivered = session().deliver_group(&mut group, "t", payloads.iter().map(Vec::as_slice));
            assert_eq!(delivered, expected);
            assert!(expected.slow > 0 && expected.too_large > 0 && expected.written > 0);
            assert_eq!(group.take(), one_by_one.take());
        }
    }
}
