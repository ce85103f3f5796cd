//! The proposer's end of a numbered stream (R13): what one life has proposed to one shard and knows no outcome of.
//!
//! Proposals get their numbers when they are first sent, and no more than a window of them is under way. When one
//! is missing at the shard, or was not answered, a new round begins: everything without an outcome is sent again, in
//! order and under its old number. What was given up meanwhile is sent again as [`Proposal::Nothing`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{Command, Numbered, Outcome, Proposal};
use crate::ids::{BrokerId, NodeLife, Sequence};

/// Names a proposal from when it is put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Counts how often all was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

/// No room: nothing was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many proposals wait for their turn; nothing was proposed")]
pub struct Full;

/// What is to be proposed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// In which round.
    pub round: Round,
    /// Under which number.
    pub number: Sequence,
    /// The command.
    pub command: Command,
}

/// Proposals of one life to one shard. `W` is whoever waits for an outcome.
#[derive(Debug)]
pub struct Outbox<W> {
    life: NodeLife,
    /// Numbers that may be under way at one time.
    window: usize,
    /// Proposals that may wait for a number.
    max_waiting: usize,
    waiting: BTreeMap<Ticket, (Proposal, W)>,
    /// Those by broker, none without any: brokers get their numbers in turns (R19), and one's proposals in order.
    turns: BTreeMap<BrokerId, BTreeSet<Ticket>>,
    /// The broker whose turn was last.
    turn: BrokerId,
    numbered: BTreeMap<Sequence, Entry<W>>,
    /// The last number given.
    last: Sequence,
    /// The last number sent in this round.
    sent: Sequence,
    round: Round,
    ticket: Ticket,
}

#[derive(Debug)]
struct Entry<W> {
    ticket: Ticket,
    what: Proposal,
    /// Nobody, once it was given up.
    waiter: Option<W>,
}

impl<W> Outbox<W> {
    /// Nothing proposed yet by `life`; of more than `window` under way and `max_waiting` waiting the rest is refused.
    pub fn new(life: NodeLife, window: usize, max_waiting: usize) -> Self {
        let (waiting, turns, turn) = (BTreeMap::new(), BTreeMap::new(), BrokerId(0));
        let (numbered, last, sent, round, ticket) = Default::default();
        Self { life, window, max_waiting, waiting, turns, turn, numbered, last, sent, round, ticket }
    }

    /// Whose proposals these are.
    pub fn life(&self) -> NodeLife {
        self.life
    }

    /// How many have no outcome yet.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.numbered.len()
    }

    /// In which round what is sent now is sent.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Whether something is still to be sent in this round, once the window has room for it.
    pub fn has_unsent(&self) -> bool {
        !self.waiting.is_empty() || self.numbered.last_key_value().is_some_and(|(last, _)| *last > self.sent)
    }

    /// Whether all have their outcome.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on it is `life` that proposes; what an earlier one proposed is forgotten, its waiters unanswered.
    pub fn renew(&mut self, life: NodeLife) {
        let (round, ticket) = (Round(self.round.0 + 1), self.ticket);
        *self = Self { round, ticket, ..Self::new(life, self.window, self.max_waiting) };
    }

    /// Puts a proposal in.
    pub fn push(&mut self, what: Proposal, waiter: W) -> Result<Ticket, Full> {
        if self.waiting.len() >= self.max_waiting {
            return Err(Full);
        }
        self.ticket = Ticket(self.ticket.0 + 1);
        self.turns.entry(broker_of(&what)).or_default().insert(self.ticket);
        self.waiting.insert(self.ticket, (what, waiter));
        Ok(self.ticket)
    }

    /// Nobody waits for the outcome any more. Whether a copy may be on its way or was taken: it counts unless
    /// something else is committed under its number first.
    pub fn give_up(&mut self, ticket: Ticket) -> bool {
        if self.take(ticket).is_some() {
            return false;
        }
        match self.numbered.values_mut().find(|entry| entry.ticket == ticket) {
            Some(entry) => {
                (entry.what, entry.waiter) = (Proposal::Nothing, None);
                true
            }
            None => false,
        }
    }

    /// Gives everything up, and says who waited.
    pub fn give_up_all(&mut self) -> Vec<W> {
        self.turns.clear();
        let waiting = std::mem::take(&mut self.waiting).into_values().map(|(_, waiter)| waiter);
        let numbered = self.numbered.values_mut().filter_map(|entry| {
            entry.what = Proposal::Nothing;
            entry.waiter.take()
        });
        numbered.chain(waiting).collect()
    }

    /// The next one to be proposed, if there is one now. They must be handed over in this order.
    pub fn send(&mut self) -> Option<Sending> {
        let again = self.numbered.range((Bound::Excluded(self.sent), Bound::Unbounded)).next();
        let (number, what) = match again {
            Some((number, entry)) => (*number, entry.what.clone()),
            None if self.numbered.len() >= self.window => return None,
            None => {
                let ticket = self.next_turn()?;
                let (what, waiter) = self.take(ticket)?;
                self.last = self.last.next();
                self.numbered.insert(self.last, Entry { ticket, what: what.clone(), waiter: Some(waiter) });
                (self.last, what)
            }
        };
        self.sent = number;
        let command = Command::Numbered(Numbered { life: self.life, number, what });
        Some(Sending { round: self.round, number, command })
    }

    /// Whose turn it is: the first proposal of the broker after the last one's.
    fn next_turn(&mut self) -> Option<Ticket> {
        let after = self.turns.range((Bound::Excluded(self.turn), Bound::Unbounded)).next();
        let (broker, tickets) = after.or_else(|| self.turns.first_key_value())?;
        self.turn = *broker;
        tickets.first().copied()
    }

    fn take(&mut self, ticket: Ticket) -> Option<(Proposal, W)> {
        let (what, waiter) = self.waiting.remove(&ticket)?;
        let broker = broker_of(&what);
        if let Some(tickets) = self.turns.get_mut(&broker) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                self.turns.remove(&broker);
            }
        }
        Some((what, waiter))
    }

    /// The shard answered what was sent in `round`. Gives the outcome with who waits for it.
    pub fn answered(&mut self, round: Round, number: Sequence, outcome: Outcome) -> Option<(W, Outcome)> {
        if let Outcome::Gap { .. } = outcome {
            self.failed(round);
            return None;
        }
        let waiter = self.numbered.remove(&number)?.waiter?;
        Some((waiter, outcome))
    }

    /// Something sent in `round` was not answered, or came too early: all is sent again. False if that is so
    /// already.
    pub fn failed(&mut self, round: Round) -> bool {
        if round != self.round {
            return false;
        }
        self.round = Round(round.0 + 1);
        self.sent = Sequence(0);
        true
    }
}

/// Whose proposal it is.
fn broker_of(what: &Proposal) -> BrokerId {
    match what {
        Proposal::Nothing => BrokerId(0),
        Proposal::Claim { key, .. }
        | Proposal::Release { key, .. }
        | Proposal::Abandon { key, .. }
        | Proposal::WillPublished { key, .. }
        | Proposal::WillTimed { key, .. }
        | Proposal::Renew { key, .. }
        | Proposal::Subscribe { key, .. }
        | Proposal::Recall { key, .. } => key.broker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeId, Nonce};
    use crate::sessions::ClaimKey;

    fn abandon(broker: u128, nonce: u64) -> Proposal {
        Proposal::Abandon { key: ClaimKey { broker: BrokerId(broker), client: "c".into() }, nonce: Nonce(nonce) }
    }

    #[test]
    fn a_flood_of_one_broker_is_not_before_another_ones_proposals() {
        let life = NodeLife { node: NodeId(1), incarnation: Incarnation(1) };
        let mut outbox = Outbox::new(life, 6, 1000);
        for n in 0..100 {
            outbox.push(abandon(7, n), n).unwrap();
        }
        let given_up = outbox.push(abandon(5, 1000), 1000).unwrap();
        outbox.push(abandon(9, 2000), 2000).unwrap();
        outbox.push(abandon(9, 2001), 2001).unwrap();
        outbox.give_up(given_up);
        let sent = std::iter::from_fn(|| outbox.send()).map(|sending| match sending.command {
            Command::Numbered(Numbered { what: Proposal::Abandon { nonce, .. }, .. }) => nonce.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(sent.collect::<Vec<_>>(), [0, 2000, 1, 2001, 2, 3]);
        assert_eq!((outbox.waiting.len(), outbox.turns.len()), (96, 1));
    }
}
