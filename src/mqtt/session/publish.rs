//! A client's PUBLISH and PUBREL: alias, QoS, receive window (MQTT 5 §3.3, §4.3.3, §4.9).

use std::sync::Arc;

use super::{Ending, Session};
use crate::mqtt::codec::{PacketId, PublishRef, QoS, ReasonCode, Version};

/// A PUBLISH that the session took.
#[derive(Debug)]
pub enum Incoming {
    /// A new one. Its topic, where that came by alias; else the packet has it.
    New(Option<Arc<str>>),
    /// Sent again at QoS 2: it was delivered already (MQTT-4.3.3-10), and PUBREC goes out again, unless the first is
    /// still owed.
    Again {
        /// Whether PUBREC is to be sent now.
        answer: bool,
    },
}

impl Session {
    /// Checks a PUBLISH, which [`super::allow::publish`] found good, against the receive window and resolves its alias.
    /// The caller must take a new one of QoS 2 up by [`Session::received`].
    #[inline]
    pub fn on_publish(&mut self, publish: &PublishRef<'_>) -> Result<Incoming, Ending> {
        if publish.qos == QoS::AtMostOnce && publish.properties.topic_alias.is_none() {
            return Ok(Incoming::New(None));
        }
        self.take_publish(publish)
    }

    fn take_publish(&mut self, publish: &PublishRef<'_>) -> Result<Incoming, Ending> {
        let again = match publish.packet_id {
            Some(id) if publish.qos == QoS::ExactlyOnce && self.received.contains(&id) => Some(id),
            _ => None,
        };
        let takes_room = publish.qos != QoS::AtMostOnce && again.is_none();
        if takes_room && self.version == Version::V5 && self.unacknowledged() >= usize::from(self.receive_maximum) {
            return Err(Ending::with(
                ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
                "more unacknowledged publishes than announced",
            ));
        }
        let aliased = match publish.properties.topic_alias {
            Some(alias) => Some(self.aliases.resolve(alias, publish.topic)?),
            None => None,
        };
        Ok(again.map_or(Incoming::New(aliased), |id| Incoming::Again { answer: !self.acks.owes(id) }))
    }

    /// A new PUBLISH of QoS 2 is on its way: its identifier is the client's until PUBREL (MQTT-4.3.3-10).
    pub fn received(&mut self, packet_id: PacketId) {
        self.received.insert(packet_id);
    }

    /// The PUBREC of `packet_id` says that the message was refused: the identifier is free again (MQTT 5 §4.3.3).
    pub fn refused(&mut self, packet_id: PacketId) {
        self.received.remove(&packet_id);
    }

    /// PUBREL: what PUBCOMP says.
    pub fn on_pubrel(&mut self, packet_id: PacketId) -> ReasonCode {
        if self.received.remove(&packet_id) { ReasonCode::SUCCESS } else { ReasonCode::PACKET_ID_NOT_FOUND }
    }

    /// Whether the client must wait before it publishes more. MQTT 3.1.1 has no word for the receive maximum, so its
    /// clients are read no further instead. What waits for PUBREL does not count: that comes by reading.
    pub fn paused(&self) -> bool {
        self.version == Version::V311 && self.acks.len() >= usize::from(self.receive_maximum)
    }

    /// Publishes of the client that use up its receive window: QoS 1 until PUBACK, QoS 2 until PUBCOMP.
    fn unacknowledged(&self) -> usize {
        self.acks.at_least_once() + self.received.len()
    }
}
