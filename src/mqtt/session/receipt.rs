//! What a subscriber answers: PUBACK, PUBREC, PUBCOMP (MQTT 5 §4.3).

use rookery_cluster::clock::Moment;

use super::{Ending, Outbound, Session};
use crate::mqtt::codec::{Ack, Packet, PacketId, QoS, ReasonCode, encode};

/// An acknowledgement of another kind than its PUBLISH asked for.
const WRONG_KIND: Ending = Ending::with(ReasonCode::PROTOCOL_ERROR, "acknowledgement of another qos");

impl Session {
    /// PUBACK: what waits in the queue moves up, see [`Session::pump`].
    ///
    /// # Errors
    /// For a publish of QoS 2.
    pub fn on_puback(&mut self, now: Moment, out: &mut Outbound, packet_id: PacketId) -> Result<u64, Ending> {
        // An acknowledgement of nothing is ignored: the standard names no error for PUBACK.
        match self.window.acknowledge(packet_id) {
            Some(entry) if entry.qos == QoS::ExactlyOnce => Err(WRONG_KIND),
            Some(_) => self.pump(now, out),
            None => Ok(0),
        }
    }

    /// PUBREC: the client has the message, or will not have it (a reason of 0x80 or more).
    ///
    /// # Errors
    /// For a publish of QoS 1.
    pub fn on_pubrec(&mut self, now: Moment, out: &mut Outbound, ack: &Ack) -> Result<u64, Ending> {
        let packet_id = ack.packet_id;
        match self.window.acknowledge(packet_id) {
            Some(entry) if entry.qos != QoS::ExactlyOnce => return Err(WRONG_KIND),
            Some(_) if ack.reason.is_error() => return self.pump(now, out),
            Some(_) => self.window.releasing.push_back(packet_id),
            None if ack.reason.is_error() => return Ok(0),
            None if self.window.releasing.contains(&packet_id) => {}
            None => {
                self.write_pubrel(out, packet_id, ReasonCode::PACKET_ID_NOT_FOUND);
                return Ok(0);
            }
        }
        self.write_pubrel(out, packet_id, ReasonCode::SUCCESS);
        Ok(0)
    }

    /// PUBCOMP: the handshake is over.
    ///
    /// # Errors
    /// For a publish whose PUBREC has not come.
    pub fn on_pubcomp(&mut self, now: Moment, out: &mut Outbound, packet_id: PacketId) -> Result<u64, Ending> {
        let releasing = &mut self.window.releasing;
        if let Some(at) = releasing.iter().position(|id| *id == packet_id) {
            releasing.remove(at);
            return self.pump(now, out);
        }
        if self.window.inflight.iter().any(|entry| entry.id == packet_id) {
            return Err(Ending::with(ReasonCode::PROTOCOL_ERROR, "pubcomp before pubrec"));
        }
        Ok(0)
    }

    pub(super) fn write_pubrel(&self, out: &mut Outbound, packet_id: PacketId, reason: ReasonCode) {
        let pubrel = Packet::Pubrel(Ack::new(packet_id, reason));
        if let Err(error) = out.write(|to| encode(&pubrel, self.version, to).map(|_| ())) {
            tracing::error!(%error, "a packet of our own does not encode");
        }
    }
}
