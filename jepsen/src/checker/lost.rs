//! P4, P8: what was published after a SUBACK and acknowledged reaches that subscriber.
//!
//! A subscriber whose node is killed loses what was queued there, so a session that ended is held only to what it must
//! have had before something else that it did get: a message acknowledged before that one was even sent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Violation};
use crate::history::{Entry, Publisher, Sending, Session, What};

/// Looks for acknowledged messages that a subscriber missed.
#[derive(Debug, Default)]
pub struct Lost {
    sent: BTreeMap<Sending, usize>,
    acked: Vec<Acked>,
    sessions: BTreeMap<Session, Seen>,
    found: Vec<Violation>,
}

#[derive(Clone, Copy, Debug)]
struct Acked {
    sending: Sending,
    sent: usize,
    at: usize,
}

#[derive(Debug, Default)]
struct Seen {
    from: usize,
    /// Messages that came, on whichever connection they were sent.
    got: BTreeSet<(Publisher, u64)>,
    /// When the newest sending that came was sent.
    horizon: usize,
}

impl Lost {
    /// What `session` misses of what was acknowledged before `until`.
    fn missing(&mut self, session: Session, seen: &Seen, until: usize, index: usize) {
        for acked in self.acked.iter().filter(|a| a.sent > seen.from && a.at < until) {
            let Sending { publisher, seq, .. } = acked.sending;
            if !seen.got.contains(&(publisher, seq)) {
                let what = format!(
                    "session {session} misses message {seq} of publisher {publisher}, acknowledged at {}",
                    acked.at
                );
                self.found.push(Violation { promise: "P4", index, what });
            }
        }
    }
}

impl Checker for Lost {
    fn step(&mut self, entry: &Entry) {
        match &entry.what {
            What::Sent(sending) => {
                self.sent.insert(*sending, entry.index);
            }
            What::Acked(sending) => {
                let sent = self.sent.get(sending).copied().unwrap_or(entry.index);
                self.acked.push(Acked { sending: *sending, sent, at: entry.index });
            }
            What::Subscribed(session) => {
                self.sessions.insert(*session, Seen { from: entry.index, ..Seen::default() });
            }
            What::Delivered(session, sending) => {
                let sent = self.sent.get(sending).copied().unwrap_or(0);
                if let Some(seen) = self.sessions.get_mut(session) {
                    seen.got.insert((sending.publisher, sending.seq));
                    seen.horizon = seen.horizon.max(sent);
                }
            }
            What::Unsubscribed(session) => {
                if let Some(seen) = self.sessions.remove(session) {
                    self.missing(*session, &seen, seen.horizon, entry.index);
                }
            }
            _ => {}
        }
    }

    fn finish(mut self: Box<Self>) -> Vec<Violation> {
        for (session, seen) in std::mem::take(&mut self.sessions) {
            self.missing(session, &seen, usize::MAX, seen.from);
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CLEAN, found, sending};
    use super::Lost;
    use crate::history::What::{Acked, Delivered, Sent, Subscribed, Unsubscribed};

    #[test]
    fn a_living_subscriber_misses_nothing_that_was_acknowledged() {
        let (a, b) = (sending(0, 1, 1), sending(0, 1, 2));
        let mut history = vec![Subscribed(9), Sent(a), Sent(b), Acked(a), Acked(b), Delivered(9, b)];
        assert_eq!(found(Lost::default(), history.clone()), [0]);
        history.push(Delivered(9, a));
        assert_eq!(found(Lost::default(), history), CLEAN);
    }

    #[test]
    fn what_was_sent_before_the_suback_or_never_acknowledged_is_not_owed() {
        let (a, b) = (sending(0, 1, 1), sending(0, 1, 2));
        assert_eq!(found(Lost::default(), vec![Sent(a), Subscribed(9), Acked(a), Sent(b)]), CLEAN);
    }

    #[test]
    fn another_sending_of_the_same_message_will_do() {
        let (first, second) = (sending(0, 1, 1), sending(0, 2, 1));
        let history = vec![Subscribed(9), Sent(first), Delivered(9, first), Sent(second), Acked(second)];
        assert_eq!(found(Lost::default(), history), CLEAN);
    }

    #[test]
    fn a_session_that_ended_owes_what_came_before_what_it_got() {
        let (a, b, c) = (sending(0, 1, 1), sending(0, 1, 2), sending(0, 1, 3));
        let gap = vec![Subscribed(9), Sent(a), Acked(a), Sent(b), Acked(b), Delivered(9, b), Unsubscribed(9)];
        assert_eq!(found(Lost::default(), gap), [6]);
        let tail = vec![Subscribed(9), Sent(a), Acked(a), Delivered(9, a), Sent(c), Acked(c), Unsubscribed(9)];
        assert_eq!(found(Lost::default(), tail), CLEAN);
    }
}
