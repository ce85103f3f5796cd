//! P7: order holds per publisher, to each subscriber.
//!
//! On one connection of its publisher, messages come in the order sent, each once. Across its connections, a message
//! that was acknowledged before another was sent does not come for the first time after that other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Violation};
use crate::history::{Conn, Entry, Publisher, Sending, Session, What};

/// Looks for messages out of order or doubled.
#[derive(Debug, Default)]
pub struct Order {
    sent: BTreeMap<Sending, usize>,
    /// When a message was first acknowledged.
    acked: BTreeMap<(Publisher, u64), usize>,
    sessions: BTreeMap<Session, Seen>,
    found: Vec<Violation>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest message of each connection.
    last: BTreeMap<Conn, u64>,
    /// The newest message of each publisher, and when that one was sent.
    newest: BTreeMap<Publisher, (u64, usize)>,
    /// Messages that came at least once.
    came: BTreeSet<(Publisher, u64)>,
}

impl Order {
    fn delivered(&mut self, session: Session, sending: Sending, index: usize) {
        let Sending { publisher, conn, seq } = sending;
        let sent = self.sent.get(&sending).copied().unwrap_or(0);
        let acked = self.acked.get(&(publisher, seq)).copied().unwrap_or(usize::MAX);
        let seen = self.sessions.entry(session).or_default();
        let mut wrong = Vec::new();
        let last = seen.last.entry(conn).or_default();
        if seq <= *last {
            wrong.push(format!("session {session} gets {seq} of connection {conn} after {last}"));
        }
        *last = seq.max(*last);
        let first = seen.came.insert((publisher, seq));
        let newest = seen.newest.entry(publisher).or_default();
        if first && seq < newest.0 && acked < newest.1 {
            wrong.push(format!("session {session} gets {seq} of publisher {publisher} after {}, sent later", newest.0));
        }
        if seq > newest.0 {
            *newest = (seq, sent);
        }
        self.found.extend(wrong.into_iter().map(|what| Violation { promise: "P7", index, what }));
    }
}

impl Checker for Order {
    fn step(&mut self, entry: &Entry) {
        match &entry.what {
            What::Sent(sending) => {
                self.sent.insert(*sending, entry.index);
            }
            What::Acked(sending) => {
                self.acked.entry((sending.publisher, sending.seq)).or_insert(entry.index);
            }
            What::Delivered(session, sending) => self.delivered(*session, *sending, entry.index),
            What::Unsubscribed(session) => {
                self.sessions.remove(session);
            }
            _ => {}
        }
    }

    fn finish(self: Box<Self>) -> Vec<Violation> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLEAN, found, sending};
    use super::Order;
    use crate::history::What::{Acked, Delivered, Sent};

    #[test]
    fn on_one_connection_each_comes_once_and_in_order() {
        let (a, b) = (sending(0, 1, 1), sending(0, 1, 2));
        let sent = [Sent(a), Sent(b)];
        let with = |more: &[_]| sent.iter().chain(more).cloned().collect::<Vec<_>>();
        assert_eq!(found(Order::default(), with(&[Delivered(9, a), Delivered(9, b)])), CLEAN);
        assert_eq!(found(Order::default(), with(&[Delivered(9, b), Delivered(9, a)])), [3]);
        assert_eq!(found(Order::default(), with(&[Delivered(9, a), Delivered(9, a)])), [3]);
        assert_eq!(found(Order::default(), with(&[Delivered(9, b), Delivered(8, a)])), CLEAN);
    }

    #[test]
    fn a_second_sending_may_come_as_well() {
        let (first, second, next) = (sending(0, 1, 1), sending(0, 2, 1), sending(0, 2, 2));
        let history =
            vec![Sent(first), Sent(second), Sent(next), Delivered(9, second), Delivered(9, next), Delivered(9, first)];
        assert_eq!(found(Order::default(), history), CLEAN);
    }

    #[test]
    fn what_was_acknowledged_first_comes_first_across_connections() {
        let (a, b) = (sending(0, 1, 1), sending(0, 2, 2));
        let history = vec![Sent(a), Acked(a), Sent(b), Delivered(9, b), Delivered(9, a)];
        assert_eq!(found(Order::default(), history), [4]);
        let at_once = vec![Sent(a), Sent(b), Acked(a), Delivered(9, b), Delivered(9, a)];
        assert_eq!(found(Order::default(), at_once), CLEAN);
    }
}
