//! What one worker has for one peer life and the peer has not accepted. PURE.

use std::collections::VecDeque;

use crate::handle::Run;
use crate::limits;

/// What a run costs beside its body, in credit: about what it costs in memory. Keeps runs of empty bodies from
/// being free.
const RUN_OVERHEAD: usize = 64;

/// What the runs of a batch cost, in bytes of credit.
pub fn cost(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.body.len() + run.kept_bytes() + RUN_OVERHEAD).sum()
}

/// A numbered batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// From 1, without gaps.
    pub seq: u64,
    /// What is in it.
    pub runs: Vec<Run>,
    cost: usize,
}

/// What the receiver says about a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Every batch up to this one is accepted (R8).
    pub accepted: u64,
    /// Every batch up to this one has arrived.
    pub received: u64,
    /// Bytes that may be unaccepted.
    pub window: usize,
}

/// What a reply changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last batch that is accepted now and was not before.
    pub accepted: Option<u64>,
    /// Whether a sender that was refused may try again.
    pub room: bool,
    /// How many batches will be sent once more.
    pub resent: u64,
}

/// The receiver claims what cannot be: to have batches that were never sent. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer acknowledges batches that were never sent")]
pub struct Impossible;

/// Batches from [`Outbox::push`] until they are accepted.
///
/// After [`Outbox::on_connected`], [`Outbox::next_to_send`] gives what the receiver has not seen, in order,
/// each once, until [`Outbox::on_disconnected`].
#[derive(Debug)]
pub struct Outbox {
    /// The last number given out.
    last: u64,
    unaccepted: VecDeque<Batch>,
    /// What they cost together.
    held: usize,
    window: usize,
    connected: bool,
    /// The next batch to send on this connection.
    next: u64,
    /// The last batch that was ever sent.
    sent: u64,
    /// Whether a batch was refused since there was room.
    starved: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            last: 0,
            unaccepted: VecDeque::new(),
            held: 0,
            window: limits::FORWARD_WINDOW_BYTES,
            connected: false,
            next: 1,
            sent: 0,
            starved: false,
        }
    }
}

impl Outbox {
    /// Takes a batch and numbers it; gives it back if there is no credit for it. An empty outbox takes any
    /// batch: otherwise one that is larger than the window would never go.
    ///
    /// # Errors
    /// The runs, untouched.
    pub fn push(&mut self, runs: Vec<Run>) -> Result<u64, Vec<Run>> {
        let cost = cost(&runs);
        if !self.unaccepted.is_empty() && self.held + cost > self.window {
            self.starved = true;
            return Err(runs);
        }
        self.last += 1;
        self.held += cost;
        self.unaccepted.push_back(Batch { seq: self.last, runs, cost });
        Ok(self.last)
    }

    /// The number of the first batch that is still held, or of the next one.
    pub fn first(&self) -> u64 {
        self.unaccepted.front().map_or(self.last + 1, |batch| batch.seq)
    }

    /// A stream is up and the receiver has said where it stands.
    ///
    /// # Errors
    /// [`Impossible`]; the outbox stays disconnected.
    pub fn on_connected(&mut self, reply: Reply) -> Result<Progress, Impossible> {
        if reply.received > self.sent {
            return Err(Impossible);
        }
        let progress = self.on_reply(reply)?;
        self.connected = true;
        self.next = self.first().max(reply.received + 1);
        Ok(Progress { resent: (self.sent + 1).saturating_sub(self.next), ..progress })
    }

    /// The stream is down.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
    }

    /// The receiver has got further.
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn on_reply(&mut self, reply: Reply) -> Result<Progress, Impossible> {
        if reply.accepted > self.sent {
            return Err(Impossible);
        }
        let before = self.first();
        while let Some(batch) = self.unaccepted.front().filter(|batch| batch.seq <= reply.accepted) {
            self.held -= batch.cost;
            self.unaccepted.pop_front();
        }
        self.window = reply.window.min(limits::FORWARD_WINDOW_BYTES);
        let room =
            self.starved && (self.unaccepted.is_empty() || self.held + limits::FORWARD_BATCH_BYTES <= self.window);
        self.starved &= !room;
        Ok(Progress { accepted: (self.first() > before).then_some(reply.accepted), room, resent: 0 })
    }

    /// The next batch for this connection.
    pub fn next_to_send(&mut self) -> Option<&Batch> {
        if !self.connected {
            return None;
        }
        let index = self.next.checked_sub(self.first())?;
        let batch = self.unaccepted.get(usize::try_from(index).ok()?)?;
        self.next += 1;
        self.sent = self.sent.max(batch.seq);
        Some(batch)
    }
}
