//! Topic aliases that a client sets (MQTT 5 §3.3.2.3.4).

use std::sync::Arc;

use super::Ending;
use crate::mqtt::codec::ReasonCode;

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

#[cfg(test)]
mod tests {
    use super::*;

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
