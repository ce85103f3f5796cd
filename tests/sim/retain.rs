//! Clients that publish retained messages, and those that come at the end to see what is left.

use rookery::mqtt::codec::{MessageProperties, Packet, Publish, QoS, Version};

use crate::client::{Phase, SockId};
use crate::oracle::{MsgId, Retain};
use crate::workload::TOPICS;
use crate::world::World;

/// What late readers subscribe to.
const ALL: &str = "#";

impl World {
    /// Some retained message, deletion or message that expires.
    pub fn some_retained(&mut self, id: SockId, topic: &str, qos: QoS) {
        let expires = self.socks.get(id).version == Version::V5 && self.rng.percent(10);
        let what = match self.rng.percent(25) {
            true => Retain::Deletes,
            false if expires => Retain::Expires,
            false => Retain::Stays,
        };
        self.publish_retained(id, topic, qos, what);
    }

    /// Somebody publishes retained messages while somebody else reads them.
    pub fn publish_meanwhile(&mut self) {
        let (Some(id), topic) = (self.some_client(), self.rng.pick(&TOPICS)) else { return };
        for _ in 0..self.rng.range(1, 4) {
            let delay = self.rng.micros(0, 4000);
            self.after(delay, move |w| {
                if w.socks.get(id).up() {
                    w.some_retained(id, topic, QoS::AtLeastOnce);
                }
            });
        }
    }

    pub fn publish_retained(&mut self, id: SockId, topic: &str, qos: QoS, what: Retain) -> MsgId {
        self.publish_retained_sized(id, topic, qos, what, 8)
    }

    /// With a payload of so many bytes, at least eight, if it has one.
    pub fn publish_retained_sized(&mut self, id: SockId, topic: &str, qos: QoS, what: Retain, size: usize) -> MsgId {
        let msg = self.oracle_published(id, topic, qos);
        let seconds = self.rng.range(1, 4) as u32;
        let message_expiry = (what == Retain::Expires).then_some(seconds);
        if let Some(it) = self.oracle.msg_mut(msg) {
            (it.retain, it.expiry) = (what, message_expiry);
        }
        self.note(|| format!("client: message {msg} is retained: {what:?}"));
        if self.keepers.is(id) {
            self.keeper_sends(id, msg);
            return msg;
        }
        let Some(sock) = self.sock(id) else { return msg };
        let packet_id = (qos != QoS::AtMostOnce).then(|| sock.take_id());
        if let Some(packet_id) = packet_id {
            sock.unanswered.insert(packet_id, msg);
        }
        let mut payload = msg.to_be_bytes().to_vec();
        payload.resize(if what == Retain::Deletes { 0 } else { size }, 0);
        let properties = MessageProperties { message_expiry, ..MessageProperties::default() };
        let (topic, payload) = (topic.into(), payload.into());
        let publish = Publish { topic, qos, packet_id, payload, retain: true, properties, ..Publish::default() };
        self.send_packet(id, &Packet::Publish(Box::new(publish)));
        msg
    }

    /// Somebody comes to every node and reads everything; whether all have.
    pub fn late_readers(&mut self) -> Option<Vec<SockId>> {
        let mut all = Vec::new();
        for node in self.all_nodes() {
            let client = format!("late-{node}");
            let socks = self.socks.of(&client);
            let here = |id: &SockId| matches!(self.socks.get(*id).phase, Phase::Connecting | Phase::Up);
            let Some(last) = socks.last().copied().filter(here) else {
                self.connect(&client, node);
                continue;
            };
            if self.socks.get(last).up() && self.oracle_asks_once(last, ALL) {
                self.subscribe(last, &[(ALL, QoS::AtLeastOnce)]);
            }
            if self.oracle.reading.done.contains(&(last, ALL.to_owned())) {
                all.push(last);
            }
        }
        (all.len() == self.all_nodes().len()).then_some(all)
    }

    fn oracle_asks_once(&mut self, id: SockId, filter: &'static str) -> bool {
        let now = self.now;
        self.tried.insert((id, filter), now).is_none()
    }
}
