//! P3: one connection per client ID. Whoever was there before a newer one's CONNACK came is not served after it.

use std::collections::BTreeMap;

use super::{Checker, Violation};
use crate::history::{Conn, Entry, What};

/// Looks for two connections of one client ID that are served at once.
#[derive(Debug, Default)]
pub struct Single {
    clients: BTreeMap<String, Client>,
    found: Vec<Violation>,
}

#[derive(Debug, Default)]
struct Client {
    /// When each connection's CONNACK came.
    claimed: BTreeMap<Conn, usize>,
    /// When each connection began to claim.
    claiming: BTreeMap<Conn, usize>,
    /// When what is not served yet was asked.
    asked: BTreeMap<(Conn, u64), usize>,
}

impl Client {
    /// A connection that had been granted in the place of `conn` before `asked`.
    fn newer(&self, conn: Conn, asked: usize) -> Option<Conn> {
        let claimed = *self.claimed.get(&conn)?;
        // One that began to claim after this one was granted can only have been granted in its place.
        let newer = |other: &Conn| self.claiming.get(other).is_some_and(|began| *began > claimed);
        self.claimed.iter().find(|(other, at)| newer(other) && **at < asked).map(|(other, _)| *other)
    }
}

impl Checker for Single {
    fn step(&mut self, entry: &Entry) {
        match &entry.what {
            What::Claiming(client, conn) => {
                self.clients.entry(client.clone()).or_default().claiming.insert(*conn, entry.index);
            }
            What::Claimed(client, conn) => {
                self.clients.entry(client.clone()).or_default().claimed.insert(*conn, entry.index);
            }
            What::Asked(client, conn, number) => {
                self.clients.entry(client.clone()).or_default().asked.insert((*conn, *number), entry.index);
            }
            What::Served(client, conn, number) => {
                let state = self.clients.entry(client.clone()).or_default();
                let asked = state.asked.remove(&(*conn, *number)).unwrap_or(entry.index);
                if let Some(newer) = state.newer(*conn, asked) {
                    let what = format!("connection {conn} of {client} is served although {newer} had taken its place");
                    self.found.push(Violation { promise: "P3", index: entry.index, what });
                }
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
    use super::super::testing::{CLEAN, found};
    use super::Single;
    use crate::history::What::{self, Asked, Claimed, Claiming, Served};

    fn c() -> String {
        "c".to_owned()
    }

    fn takeover() -> Vec<What> {
        vec![Claiming(c(), 1), Claimed(c(), 1), Claiming(c(), 2), Claimed(c(), 2)]
    }

    #[test]
    fn the_older_one_is_not_served_after_the_newer_ones_connack() {
        let with = |more: &[What]| takeover().into_iter().chain(more.iter().cloned()).collect::<Vec<_>>();
        assert_eq!(found(Single::default(), with(&[Asked(c(), 1, 7), Served(c(), 1, 7)])), [5]);
        assert_eq!(found(Single::default(), with(&[Asked(c(), 2, 7), Served(c(), 2, 7)])), CLEAN);
        assert_eq!(found(Single::default(), with(&[Asked("d".to_owned(), 1, 7), Served("d".to_owned(), 1, 7)])), CLEAN);
    }

    #[test]
    fn what_was_asked_before_may_still_be_answered() {
        let mut history = takeover();
        history.insert(3, Asked(c(), 1, 7));
        history.push(Served(c(), 1, 7));
        assert_eq!(found(Single::default(), history), CLEAN);
    }

    #[test]
    fn of_two_that_claim_at_once_either_may_win() {
        let history = vec![
            Claiming(c(), 1),
            Claiming(c(), 2),
            Claimed(c(), 2),
            Claimed(c(), 1),
            Asked(c(), 1, 7),
            Served(c(), 1, 7),
        ];
        assert_eq!(found(Single::default(), history), CLEAN);
    }
}
