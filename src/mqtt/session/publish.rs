//! A client's PUBLISH: alias, QoS, receive window (MQTT 5 §3.3).

use std::sync::Arc;

use super::{Ending, Session};
use crate::mqtt::codec::{PublishRef, QoS, ReasonCode, Version};

/// A PUBLISH that the session took.
#[derive(Debug)]
pub struct Incoming {
    /// Its topic, where that came by alias; else the packet has it.
    pub aliased: Option<Arc<str>>,
}

impl Session {
    /// Checks a PUBLISH against what CONNACK announced and resolves its alias.
    pub fn on_publish(&mut self, publish: &PublishRef<'_>) -> Result<Incoming, Ending> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(Ending::with(ReasonCode::QOS_NOT_SUPPORTED, "publish with qos 2"));
        }
        if publish.retain {
            return Err(Ending::with(ReasonCode::RETAIN_NOT_SUPPORTED, "retained publish"));
        }
        if publish.qos == QoS::AtLeastOnce && self.version == Version::V5 && self.acks_are_full() {
            return Err(Ending::with(
                ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
                "more unacknowledged publishes than announced",
            ));
        }
        let aliased = match publish.properties.topic_alias {
            Some(alias) => Some(self.aliases.resolve(alias, publish.topic)?),
            None => None,
        };
        Ok(Incoming { aliased })
    }

    /// Whether the client must wait before it publishes more. MQTT 3.1.1 has no word for the receive maximum, so its
    /// clients are read no further instead.
    pub fn paused(&self) -> bool {
        self.version == Version::V311 && self.acks_are_full()
    }

    fn acks_are_full(&self) -> bool {
        self.acks.len() >= usize::from(self.receive_maximum)
    }
}
