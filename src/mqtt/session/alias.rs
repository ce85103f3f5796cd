//! Topic aliases, those that a client sets and those that the server sets (MQTT 5 §3.3.2.3.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ending;
use crate::mqtt::codec::{Connect, PublishHead, ReasonCode};

/// Most aliases that the server sets on a connection, whatever more the client takes.
const OUTBOUND_ALIASES: u16 = 32;
/// Longest topic that gets an alias, bytes: with the number above it bounds what a connection's table holds.
const ALIASED_TOPIC_BYTES: usize = 1024;

/// A client's alias table; its length is bounded by the maximum that CONNACK announced.
#[derive(Debug)]
pub(super) struct InboundAliases {
    maximum: u16,
    topics: Vec<Option<Arc<str>>>,
}

impl InboundAliases {
    pub fn new(maximum: u16) -> Self {
        Self { maximum, topics: Vec::new() }
    }

    /// The topic that a PUBLISH with `alias` is about; sets the alias if `topic` is not empty.
    pub fn resolve(&mut self, alias: u16, topic: &str) -> Result<Arc<str>, Ending> {
        if alias == 0 || alias > self.maximum {
            return Err(Ending::with(ReasonCode::TOPIC_ALIAS_INVALID, "topic alias above the announced maximum"));
        }
        let slot = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.topics.get(slot).cloned().flatten();
            return known.ok_or(Ending::with(ReasonCode::PROTOCOL_ERROR, "topic alias was never set"));
        }
        if self.topics.len() <= slot {
            self.topics.resize(slot + 1, None);
        }
        if self.topics[slot].as_deref() != Some(topic) {
            self.topics[slot] = Some(topic.into());
        }
        Ok(self.topics[slot].clone().unwrap_or_else(|| topic.into()))
    }
}

/// The aliases of one connection towards its client: the first topics it was sent keep them.
#[derive(Debug)]
pub(super) struct OutboundAliases {
    /// At most what the client announced (MQTT-3.1.2-26, MQTT-3.1.2-27).
    maximum: u16,
    known: BTreeMap<Box<str>, u16>,
}

impl OutboundAliases {
    pub fn new(connect: &Connect) -> Self {
        let maximum = connect.properties.topic_alias_maximum.unwrap_or(0).min(OUTBOUND_ALIASES);
        Self { maximum, known: BTreeMap::new() }
    }

    /// The head with an alias in place of its topic, or beside it the first time.
    #[inline]
    pub fn shorten<'h>(&mut self, head: PublishHead<'h>) -> PublishHead<'h> {
        if self.maximum == 0 { head } else { self.alias(head) }
    }

    fn alias<'h>(&mut self, head: PublishHead<'h>) -> PublishHead<'h> {
        if let Some(&alias) = self.known.get(head.topic) {
            return PublishHead { topic: "", topic_alias: Some(alias), ..head };
        }
        let next = self.known.len() as u16 + 1;
        if next > self.maximum || head.topic.len() > ALIASED_TOPIC_BYTES {
            return head;
        }
        self.known.insert(head.topic.into(), next);
        PublishHead { topic_alias: Some(next), ..head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::{QoS, Version};

    #[test]
    fn the_first_topics_get_aliases_and_no_more_than_the_client_takes() {
        let mut connect = Connect::new(Version::V5, "c");
        connect.properties.topic_alias_maximum = Some(2);
        let mut aliases = OutboundAliases::new(&connect);
        let mut shorten = |topic: &'static str| {
            let head = PublishHead {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic,
                packet_id: None,
                topic_alias: None,
                subscription_ids: &[],
                message_expiry: None,
            };
            let short = aliases.shorten(head);
            (short.topic.to_owned(), short.topic_alias)
        };
        assert_eq!(shorten("a"), ("a".into(), Some(1)));
        assert_eq!(shorten("b"), ("b".into(), Some(2)));
        assert_eq!(shorten("c"), ("c".into(), None));
        assert_eq!(shorten("a"), (String::new(), Some(1)));
        assert_eq!(shorten("b"), (String::new(), Some(2)));
    }

    #[test]
    fn sets_reuses_replaces_and_refuses() {
        let mut a = InboundAliases::new(2);
        assert_eq!(&*a.resolve(2, "x").expect("set"), "x");
        assert_eq!(&*a.resolve(2, "").expect("known"), "x");
        assert_eq!(&*a.resolve(2, "y").expect("replaced"), "y");
        assert_eq!(&*a.resolve(2, "").expect("known"), "y");
        assert_eq!(a.resolve(1, "").expect_err("unset").reason, ReasonCode::PROTOCOL_ERROR);
        assert_eq!(a.resolve(3, "x").expect_err("too high").reason, ReasonCode::TOPIC_ALIAS_INVALID);
    }
}
