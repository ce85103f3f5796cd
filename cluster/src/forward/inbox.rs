//! What has arrived from one worker of one peer life, and how much of it is accepted. PURE.

use std::collections::VecDeque;

use super::outbox::Reply;
use crate::limits;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Hand it on.
    New,
    /// It was here before: drop it.
    Seen,
}

/// The sender breaks the rules of the stream. Nothing was changed; the stream is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A number was left out.
    #[error("batch {got} came where {expected} was due")]
    Gap {
        /// What was due.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// More is unaccepted than was granted.
    #[error("the sender exceeds its credit")]
    OverCredit,
}

/// The receiver's end of a stream; outlives its connections.
#[derive(Debug)]
pub struct Inbox {
    accepted: u64,
    /// Cost of each batch after `accepted`, and whether its receipt has come.
    open: VecDeque<(usize, bool)>,
    held: usize,
}

impl Inbox {
    /// An inbox whose first batch will be number `first`.
    pub fn new(first: u64) -> Self {
        Self { accepted: first.saturating_sub(1), open: VecDeque::new(), held: 0 }
    }

    /// Where the stream stands.
    pub fn reply(&self) -> Reply {
        Reply { accepted: self.accepted, received: self.received(), window: limits::FORWARD_WINDOW_BYTES }
    }

    /// A batch of that cost (see [`cost`](super::outbox::cost)) has come.
    ///
    /// # Errors
    /// Which rule the sender broke.
    pub fn on_batch(&mut self, seq: u64, cost: usize) -> Result<Arrival, Violation> {
        // Numbers are the sender's: there may be none after the last.
        match seq.saturating_sub(self.received()) {
            0 => return Ok(Arrival::Seen),
            1 => {}
            _ => return Err(Violation::Gap { expected: self.received() + 1, got: seq }),
        }
        if !self.open.is_empty() && self.held + cost > limits::FORWARD_WINDOW_BYTES {
            return Err(Violation::OverCredit);
        }
        self.held += cost;
        self.open.push_back((cost, false));
        Ok(Arrival::New)
    }

    /// All workers are done with batch `seq`; returns whether that lets more be acknowledged.
    pub fn on_done(&mut self, seq: u64) -> bool {
        let index = seq.checked_sub(self.accepted).and_then(|ahead| usize::try_from(ahead.checked_sub(1)?).ok());
        if let Some((_, done)) = index.and_then(|index| self.open.get_mut(index)) {
            *done = true;
        }
        let before = self.accepted;
        while let Some((cost, true)) = self.open.front() {
            self.held -= cost;
            self.accepted += 1;
            self.open.pop_front();
        }
        self.accepted > before
    }

    fn received(&self) -> u64 {
        self.accepted + self.open.len() as u64
    }
}
