//! Acknowledgements owed to a publisher: in the order of its publishes (MQTT-4.6.0-2), each once all who must
//! accept the message did.

use std::collections::VecDeque;

use rookery_cluster::clock::Moment;

use crate::mqtt::codec::{PacketId, QoS, ReasonCode};

#[derive(Debug)]
struct Pending {
    packet_id: PacketId,
    qos: QoS,
    reason: ReasonCode,
    /// How many destinations have yet to accept.
    waiting: u16,
    /// How many nodes have yet to confirm it, not counting those whose life ended meanwhile (P9).
    needed: u16,
    since: Moment,
}

/// A FIFO of acknowledgements.
#[derive(Debug, Default)]
pub struct PendingAcks {
    /// Number of the first entry.
    base: u64,
    queue: VecDeque<Pending>,
    /// How many of them are of QoS 1.
    at_least_once: usize,
}

impl PendingAcks {
    /// Publishes received and not acknowledged.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Number of the next entry that [`PendingAcks::push`] adds.
    pub fn next_number(&self) -> u64 {
        self.base + self.queue.len() as u64
    }

    /// How many of those are of QoS 1.
    pub fn at_least_once(&self) -> usize {
        self.at_least_once
    }

    /// Adds a publish that `waiting` destinations have yet to accept.
    pub fn push(&mut self, packet_id: PacketId, qos: QoS, reason: ReasonCode, waiting: u16, now: Moment) {
        self.at_least_once += usize::from(qos == QoS::AtLeastOnce);
        self.queue.push_back(Pending { packet_id, qos, reason, waiting, needed: 0, since: now });
    }

    /// So many of those that the last one waits for must be nodes that live to confirm it: with fewer it is never due.
    pub fn need(&mut self, confirmations: u16) {
        if let Some(last) = self.queue.back_mut() {
            last.needed = confirmations;
        }
    }

    /// Whether the PUBREC of `packet_id` is still owed.
    pub fn owes(&self, packet_id: PacketId) -> bool {
        self.queue.iter().any(|pending| pending.packet_id == packet_id && pending.qos == QoS::ExactlyOnce)
    }

    /// Whether any PUBREC is still owed.
    pub fn owes_any(&self) -> bool {
        self.queue.iter().any(|pending| pending.qos == QoS::ExactlyOnce)
    }

    /// Nothing of QoS 1 is to be acknowledged any more: the connection that waited for it is gone. The entries keep
    /// their places, and come out of [`PendingAcks::pop_due`] as of QoS 0.
    pub fn forget_at_least_once(&mut self) {
        for pending in self.queue.iter_mut().filter(|pending| pending.qos == QoS::AtLeastOnce) {
            (pending.qos, pending.needed) = (QoS::AtMostOnce, 0);
        }
        self.at_least_once = 0;
    }

    /// One destination accepted publish `number`, or is gone; `confirmed` if it is a node that has it.
    pub fn accepted(&mut self, number: u64, confirmed: bool) {
        let entry = number.checked_sub(self.base).and_then(|at| self.queue.get_mut(usize::try_from(at).ok()?));
        if let Some(entry) = entry {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.needed = entry.needed.saturating_sub(u16::from(confirmed));
        }
    }

    /// The next acknowledgement that is due.
    pub fn pop_due(&mut self) -> Option<(PacketId, QoS, ReasonCode)> {
        if self.queue.front().is_none_or(|front| front.waiting > 0 || front.needed > 0) {
            return None;
        }
        let due = self.queue.pop_front()?;
        self.base += 1;
        self.at_least_once -= usize::from(due.qos == QoS::AtLeastOnce);
        Some((due.packet_id, due.qos, due.reason))
    }

    /// Since when the oldest has waited that somebody waits for.
    pub fn oldest(&self) -> Option<Moment> {
        self.queue.iter().find(|pending| pending.qos != QoS::AtMostOnce).map(|pending| pending.since)
    }

    /// A further connection begins to wait for what is owed.
    pub fn wait_anew(&mut self, now: Moment) {
        self.queue.iter_mut().for_each(|pending| pending.since = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not zero")
    }

    #[test]
    fn the_head_holds_back_those_behind_it() {
        let mut acks = PendingAcks::default();
        let first = acks.next_number();
        acks.push(id(5), QoS::AtLeastOnce, ReasonCode::SUCCESS, 2, Moment::default());
        let second = acks.next_number();
        acks.push(id(6), QoS::ExactlyOnce, ReasonCode::NO_MATCHING_SUBSCRIBERS, 1, Moment::default());
        assert_eq!((acks.len(), acks.at_least_once(), acks.owes(id(6)), acks.owes(id(7))), (2, 1, true, false));
        assert!(!acks.owes(id(5)), "of qos 1");
        acks.accepted(second, false);
        assert_eq!(acks.pop_due(), None);
        acks.accepted(first, false);
        assert_eq!(acks.pop_due(), None);
        acks.accepted(first, false);
        assert_eq!(acks.pop_due(), Some((id(5), QoS::AtLeastOnce, ReasonCode::SUCCESS)));
        assert_eq!(acks.pop_due(), Some((id(6), QoS::ExactlyOnce, ReasonCode::NO_MATCHING_SUBSCRIBERS)));
        assert_eq!(acks.at_least_once(), 0);
        acks.accepted(first, false);
        assert!(acks.is_empty());
    }

    #[test]
    fn without_a_majority_nothing_is_acknowledged() {
        let mut acks = PendingAcks::default();
        let number = acks.next_number();
        acks.push(id(5), QoS::AtLeastOnce, ReasonCode::SUCCESS, 3, Moment::default());
        acks.need(1);
        for _ in 0..3 {
            acks.accepted(number, false);
        }
        assert_eq!(acks.pop_due(), None);
        acks.push(id(6), QoS::AtLeastOnce, ReasonCode::SUCCESS, 0, Moment::default());
        assert_eq!(acks.pop_due(), None, "nor what came after it");
        acks.accepted(number, true);
        assert!(acks.pop_due().is_some() && acks.pop_due().is_some());
    }
}
