//! Packet identifiers in use towards a client (MQTT 5 §2.2.1, §4.9), and what waits for one.

use std::collections::VecDeque;

use super::message::Kept;
use super::{Outbound, Settings};
use crate::mqtt::codec::{Connect, PacketId, QoS};

/// A PUBLISH that the client has not acknowledged.
#[derive(Debug)]
pub(super) struct Inflight {
    pub id: PacketId,
    pub qos: QoS,
    /// The message, where it may have to be sent again.
    pub kept: Option<Box<Kept>>,
}

/// Publishes of QoS 1 and 2 towards one client.
#[derive(Debug)]
pub(super) struct SendWindow {
    /// How many may be unacknowledged (the client's Receive Maximum, or less).
    size: usize,
    /// Largest packet the client takes.
    pub max_packet: usize,
    /// Neither acknowledged nor, at QoS 2, received: in the order in which they were first sent (MQTT-4.6.0-1).
    pub inflight: VecDeque<Inflight>,
    /// How many of them went over the present connection; the others come first.
    pub sent: usize,
    /// PUBRECs came, PUBCOMPs did not: in the order of the PUBRECs (MQTT-4.6.0-4).
    pub releasing: VecDeque<PacketId>,
    next: PacketId,
    /// How many identifiers from `next` on are known to be free.
    clear: u16,
    /// Whether messages are kept until they are acknowledged: the session may outlive its connection.
    pub keeps: bool,
    pub queue: VecDeque<Kept>,
    pub queued_bytes: usize,
    queue_messages: usize,
    queue_bytes: usize,
    pub outbound_bytes: usize,
}

impl SendWindow {
    pub fn new(connect: &Connect, settings: &Settings) -> Self {
        let mut window = Self {
            size: 1,
            max_packet: usize::MAX,
            inflight: VecDeque::new(),
            sent: 0,
            releasing: VecDeque::new(),
            next: PacketId::MIN,
            clear: 0,
            keeps: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queue_messages: 0,
            queue_bytes: 0,
            outbound_bytes: 0,
        };
        window.reconnect(connect, settings);
        window
    }

    /// A connection, the first or a further one, with what it allows: nothing has gone over it yet.
    pub fn reconnect(&mut self, connect: &Connect, settings: &Settings) {
        let theirs = connect.properties.receive_maximum.map_or(u16::MAX, |most| most.get());
        self.size = usize::from(theirs.min(settings.send_maximum).max(1));
        self.max_packet = connect.properties.maximum_packet_size.map_or(usize::MAX, |most| most.get() as usize);
        self.sent = 0;
        self.queue_messages = settings.queue_messages;
        self.queue_bytes = settings.queue_bytes;
        self.outbound_bytes = settings.outbound_bytes;
    }

    /// Whether a SUBACK or UNSUBACK with this many reason codes is within what the client takes (MQTT-3.1.2-24).
    pub fn takes_codes(&self, codes: usize) -> bool {
        let body = size_of::<u16>() + 1 + codes;
        let length_bytes = (1..4).find(|bytes| body >> (7 * bytes) == 0).unwrap_or(4);
        1 + length_bytes + body <= self.max_packet
    }

    /// Whether one more PUBLISH may be sent.
    pub fn open(&self, out: &Outbound) -> bool {
        self.sent + self.releasing.len() < self.size && out.len() < self.outbound_bytes
    }

    /// Whether a new message may be sent at once: nothing older waits.
    pub fn idle(&self) -> bool {
        self.queue.is_empty() && self.sent == self.inflight.len()
    }

    /// Whether what waits in the queue is next.
    pub fn idle_but_for_queue(&self) -> bool {
        !self.queue.is_empty() && self.sent == self.inflight.len()
    }

    /// Whether `bytes` more may wait.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.queue_messages && self.queued_bytes + bytes <= self.queue_bytes
    }

    /// Takes an identifier for a PUBLISH that is about to be sent.
    pub fn begin(&mut self, qos: QoS, kept: Option<Box<Kept>>) -> PacketId {
        let id = self.take_id();
        self.inflight.push_back(Inflight { id, qos, kept });
        self.sent += 1;
        id
    }

    /// Takes what waited for the acknowledgement of `id` out of the window.
    pub fn acknowledge(&mut self, id: PacketId) -> Option<Inflight> {
        // Clients acknowledge in order (MQTT-4.6.0-2, MQTT-4.6.0-3), so it is mostly the first.
        let at = self.inflight.iter().position(|entry| entry.id == id)?;
        self.sent -= usize::from(at < self.sent);
        self.inflight.remove(at)
    }

    /// The identifier that is tried next.
    pub fn next_id(&self) -> PacketId {
        self.next
    }

    /// Goes on with what a session had elsewhere.
    pub fn adopt(
        &mut self,
        inflight: VecDeque<Inflight>,
        releasing: VecDeque<PacketId>,
        next: PacketId,
        queue: VecDeque<Kept>,
    ) {
        self.queued_bytes = queue.iter().map(|kept| kept.message.size()).sum();
        (self.sent, self.clear) = (0, 0);
        (self.inflight, self.releasing, self.next, self.queue) = (inflight, releasing, next, queue);
    }

    /// Removes the entry that was to be sent next over this connection; it counts as delivered.
    pub fn skip(&mut self) {
        self.inflight.remove(self.sent);
    }

    /// The next identifier that is not in use. They are given out in a ring; the window is smaller than the ring, so
    /// the search ends. It looks at what is in use once for each stretch of free ones.
    fn take_id(&mut self) -> PacketId {
        while self.clear == 0 {
            let ahead = |id: PacketId| distance(self.next, id);
            let used = self.inflight.iter().map(|entry| entry.id).chain(self.releasing.iter().copied());
            match used.map(ahead).min() {
                Some(0) => self.next = following(self.next),
                Some(free) => self.clear = free,
                None => self.clear = u16::MAX,
            }
        }
        self.clear -= 1;
        let id = self.next;
        self.next = following(id);
        id
    }
}

fn following(id: PacketId) -> PacketId {
    id.checked_add(1).unwrap_or(PacketId::MIN)
}

/// How many steps of the ring lie from `from` to `to`.
fn distance(from: PacketId, to: PacketId) -> u16 {
    let (from, to) = (from.get(), to.get());
    if to >= from { to - from } else { u16::MAX - from + to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::Version;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not zero")
    }

    fn window() -> SendWindow {
        SendWindow::new(&Connect::new(Version::V5, "c"), &Settings::default())
    }

    #[test]
    fn identifiers_in_use_are_not_given_out_again_over_many_rounds_of_the_ring() {
        let mut w = window();
        let stuck: Vec<PacketId> = (0..3).map(|_| w.begin(QoS::AtLeastOnce, None)).collect();
        let released = w.begin(QoS::ExactlyOnce, None);
        w.acknowledge(released);
        w.releasing.push_back(released);
        let mut seen = 0u64;
        for _ in 0..200_000 {
            let got = w.begin(QoS::AtLeastOnce, None);
            assert!(!stuck.contains(&got) && got != released);
            seen += u64::from(got.get());
            w.acknowledge(got);
        }
        assert!(seen > 0);
        assert_eq!(w.inflight.len(), 3);
    }

    #[test]
    fn the_ring_has_no_zero_and_ends_at_its_last() {
        let mut w = window();
        w.next = id(u16::MAX);
        assert_eq!(w.begin(QoS::AtLeastOnce, None), id(u16::MAX));
        assert_eq!(w.begin(QoS::AtLeastOnce, None), id(1));
        assert_eq!(distance(id(u16::MAX), id(1)), 1);
        assert_eq!(distance(id(1), id(u16::MAX)), u16::MAX - 1);
    }

    #[test]
    fn acknowledged_out_of_order_frees_room_all_the_same() {
        let mut w = window();
        w.size = 2;
        let out = Outbound::default();
        let (a, b) = (w.begin(QoS::AtLeastOnce, None), w.begin(QoS::AtLeastOnce, None));
        assert!(!w.open(&out));
        assert!(w.acknowledge(b).is_some());
        assert!(w.acknowledge(b).is_none());
        assert!(w.open(&out));
        assert!(w.acknowledge(a).is_some());
        assert_eq!((w.sent, w.inflight.len()), (0, 0));
    }
}
