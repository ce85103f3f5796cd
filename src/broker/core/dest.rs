//! What goes to other workers and nodes: batches under construction, credit, and who waits for acceptance.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Holder, Retained, Run};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::{FORWARD_BATCH_BYTES, FORWARD_WINDOW_BYTES, PUBLISH_TIMEOUT};

use super::ConnKey;
use super::fair::{Fair, Place};
use super::transfer::Transfer;

/// A sealed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number on this worker's stream to the destination, from 1.
    pub seq: u64,
    /// Its publishes.
    pub runs: Vec<Run>,
    /// Their size.
    pub bytes: usize,
}

/// A publish whose acknowledgement waits for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaiting {
    /// The batch that carries it.
    pub seq: u64,
    /// The publisher's connection.
    pub conn: ConnKey,
    /// The number of the acknowledgement there.
    pub ack: u64,
}

/// Publishes of one broker, some of them for members of shared subscriptions.
pub type Directed = (BrokerId, Bytes);

/// One destination of this worker: a peer node, another worker of this node, or its store of retained messages.
#[derive(Debug)]
pub struct Destination {
    /// Who it is.
    pub holder: Holder,
    /// Publishes that are in no batch yet.
    waiting: Fair,
    /// Sequence number of the next batch.
    next_seq: u64,
    /// Sealed batches without credit.
    pending: VecDeque<Batch>,
    /// Sent and not accepted: number and size. Empty for peers, whose credit the stream keeps.
    outstanding: VecDeque<(u64, usize)>,
    outstanding_bytes: usize,
    awaiting: VecDeque<Awaiting>,
    /// What is for members of shared subscriptions and in a batch that is not accepted. The stream keeps the same bytes.
    directed: VecDeque<(u64, Directed)>,
    /// Up to which batch everything is accepted.
    accepted: u64,
    congested_since: Option<Moment>,
    /// Whether publishers wait because it was crowded.
    pub paused: bool,
    /// Whether it stands in the list of destinations that the next flush looks at.
    pub touched: bool,
}

impl Destination {
    /// An empty destination.
    pub fn new(holder: Holder) -> Self {
        Self {
            holder,
            waiting: Fair::default(),
            next_seq: 1,
            pending: VecDeque::new(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            awaiting: VecDeque::new(),
            directed: VecDeque::new(),
            accepted: 0,
            congested_since: None,
            paused: false,
            touched: false,
        }
    }

    /// Appends one publish of `broker`, as `write` encodes it.
    pub fn append(&mut self, broker: BrokerId, write: impl FnOnce(&mut Transfer)) -> Place {
        self.waiting.append(broker, write)
    }

    /// Appends what is to be kept of a publish, after the publish itself if that goes there too.
    pub fn keep(&mut self, broker: BrokerId, kept: Arc<Retained>) -> Place {
        self.waiting.keep(broker, kept)
    }

    /// The publish that [`Destination::append`] put at `place` is for members of shared subscriptions there.
    pub fn is_directed(&mut self, place: Place) {
        self.waiting.is_directed(place);
    }

    /// Whether publishers of `broker` shall wait before they add to what waits here (R10, R19). Other brokers'
    /// publishers go on.
    pub fn crowded(&self, broker: BrokerId, now: Moment) -> bool {
        self.waiting.crowded(broker) && !self.stuck(now)
    }

    /// Whether there is no credit towards it.
    pub fn congested(&self) -> bool {
        self.congested_since.is_some()
    }

    /// Whether it has been without credit for longer than publishers wait (R10).
    pub fn stuck(&self, now: Moment) -> bool {
        self.congested_since.is_some_and(|since| now.since(since) >= PUBLISH_TIMEOUT)
    }

    /// Bytes of each broker that wait here and are in no batch yet.
    pub fn by_broker(&self) -> impl Iterator<Item = (BrokerId, usize)> {
        self.waiting.by_broker()
    }

    /// Notes that `conn`'s acknowledgement `ack` waits for the publish that [`Destination::append`] put at `place`.
    pub fn await_acceptance(&mut self, place: Place, conn: ConnKey, ack: u64) {
        self.waiting.await_acceptance(place, conn, ack);
    }

    /// Notes that `drain` waits until everything of `broker` that came so far is accepted; `false` if it is.
    pub fn await_drained(&mut self, broker: BrokerId, drain: ConnKey) -> bool {
        if self.waiting.await_all(broker, drain) {
            return true;
        }
        let seq = self.made();
        let waits = seq > self.accepted;
        if waits {
            self.awaiting.push_back(Awaiting { seq, conn: drain, ack: 0 });
        }
        waits
    }

    /// The next batch that may be sent now, if any: all brokers' publishes in turns. While there is no credit, nothing
    /// is put into batches, so that what comes later still has its turn.
    pub fn next(&mut self, now: Moment) -> Option<Batch> {
        if self.congested_since.is_some() {
            return None;
        }
        if self.pending.is_empty() && !self.waiting.is_empty() {
            self.seal();
        }
        let bytes = self.pending.front()?.bytes;
        let counts = !matches!(self.holder, Holder::Peer(_));
        if counts {
            if self.outstanding_bytes > 0 && self.outstanding_bytes + bytes > FORWARD_WINDOW_BYTES {
                self.congested_since = Some(now);
                return None;
            }
            self.outstanding_bytes += bytes;
        }
        let batch = self.pending.pop_front()?;
        if counts {
            self.outstanding.push_back((batch.seq, bytes));
        }
        Some(batch)
    }

    /// How many batches were made.
    pub fn made(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether publishes wait that are in no batch yet.
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether anything waits that was not sent.
    pub fn holds_back(&self) -> bool {
        self.has_more() || !self.pending.is_empty()
    }

    fn seal(&mut self) {
        let (chunks, bytes) = self.waiting.take(FORWARD_BATCH_BYTES);
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut runs = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            self.awaiting.extend(chunk.awaiting.into_iter().map(|(conn, ack)| Awaiting { seq, conn, ack }));
            let body = chunk.body.into_body().freeze();
            if chunk.directed && matches!(self.holder, Holder::Peer(_)) {
                self.directed.push_back((seq, (chunk.broker, body.clone())));
            }
            runs.push(Run { broker: chunk.broker, count: chunk.count, body, retained: chunk.kept });
        }
        self.pending.push_back(Batch { seq, runs, bytes });
    }

    /// The stream to the peer had no credit for `batch`: it waits here, in its place.
    pub fn refused(&mut self, batch: Batch, now: Moment) {
        let at = self.pending.partition_point(|waiting| waiting.seq < batch.seq);
        self.pending.insert(at, batch);
        self.congested_since.get_or_insert(now);
    }

    /// There is credit again.
    pub fn room(&mut self) {
        self.congested_since = None;
    }

    /// Everything up to batch `through` was accepted; calls `done` for each publish that waited for it.
    pub fn accepted(&mut self, through: u64, mut done: impl FnMut(Awaiting)) {
        self.accepted = self.accepted.max(through);
        while let Some(&(_, bytes)) = self.outstanding.front().filter(|(seq, _)| *seq <= through) {
            self.outstanding.pop_front();
            self.outstanding_bytes -= bytes;
            self.congested_since = None;
        }
        while self.directed.front().is_some_and(|(seq, _)| *seq <= through) {
            self.directed.pop_front();
        }
        while let Some(&awaiting) = self.awaiting.front().filter(|a| a.seq <= through) {
            self.awaiting.pop_front();
            done(awaiting);
        }
    }

    /// The destination's life is over: nothing is owed to it. Its next life starts a new stream. Returns how
    /// many publishes that waited for credit were dropped, and what it did not accept for members of shared subscriptions.
    pub fn expired(&mut self, mut done: impl FnMut(Awaiting)) -> (u64, Vec<Directed>) {
        while !self.waiting.is_empty() {
            self.seal();
        }
        let dropped = self.pending.iter().flat_map(|b| &b.runs).map(|r| u64::from(r.count)).sum::<u64>();
        for awaiting in mem::take(&mut self.awaiting) {
            done(awaiting);
        }
        let directed = mem::take(&mut self.directed).into_iter().map(|(_, directed)| directed).collect();
        let (holder, paused, touched) = (self.holder, self.paused, self.touched);
        *self = Self { paused, touched, ..Self::new(holder) };
        (dropped, directed)
    }
}

#[cfg(test)]
mod tests {
    use rookery_cluster::ids::{NodeId, WorkerId};

    use super::*;

    const B: BrokerId = BrokerId(1);
    const KEY: ConnKey = ConnKey { index: 0, generation: 0 };

    fn run(broker: BrokerId, count: u32, body: &'static [u8]) -> Run {
        Run { broker, count, body: bytes::Bytes::from_static(body), retained: Vec::new() }
    }

    fn put(d: &mut Destination, body: &'static [u8]) -> Place {
        d.append(B, |b| b.put_slice(body))
    }

    #[test]
    fn a_turn_makes_one_batch_and_acceptance_frees_in_order() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        put(&mut d, b"a");
        let place = put(&mut d, b"b");
        d.await_acceptance(place, KEY, 7);
        let batch = d.next(Moment::default()).expect("sealed");
        assert_eq!(batch, Batch { seq: 1, runs: vec![run(B, 2, b"ab")], bytes: 2 });
        let place = put(&mut d, b"c");
        d.await_acceptance(place, KEY, 8);
        assert_eq!(d.next(Moment::default()).map(|batch| batch.seq), Some(2));
        let mut done = Vec::new();
        d.accepted(1, |a| done.push(a.ack));
        assert_eq!(done, [7]);
    }

    #[test]
    fn a_refused_batch_stays_first_and_later_ones_gather() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let now = Moment::default();
        put(&mut d, b"a");
        let batch = d.next(now).expect("sealed");
        d.refused(batch.clone(), now);
        put(&mut d, b"b");
        assert_eq!(d.next(now), None);
        put(&mut d, b"c");
        assert!(d.congested());
        assert!(d.stuck(now + PUBLISH_TIMEOUT));
        d.room();
        assert_eq!(d.next(now), Some(batch));
        assert_eq!(d.next(now), Some(Batch { seq: 2, runs: vec![run(B, 2, b"bc")], bytes: 2 }));
    }

    #[test]
    fn no_batch_is_larger_than_its_bound_and_none_is_built_for_ever() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let now = Moment::default();
        let mut packets = 0;
        while !d.crowded(B, now) {
            d.append(B, |b| b.put_slice(&[0; 100_000]));
            packets += 1;
        }
        assert_eq!(packets, FORWARD_WINDOW_BYTES / 100_000 + 1);
        let mut sent = 0;
        while let Some(batch) = d.next(now) {
            assert!(batch.bytes <= FORWARD_BATCH_BYTES);
            sent += batch.bytes;
        }
        assert_eq!(sent, packets * 100_000);
        assert!(!d.crowded(B, now));
    }

    #[test]
    fn what_another_broker_publishes_during_congestion_is_in_the_next_batch() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let now = Moment::default();
        put(&mut d, b"a");
        let batch = d.next(now).expect("sealed");
        d.refused(batch, now);
        while !d.crowded(B, now) {
            d.append(B, |b| b.put_slice(&[0; 10_000]));
        }
        let quiet = BrokerId(2);
        assert!(!d.crowded(quiet, now), "its own share is untouched");
        let place = d.append(quiet, |b| b.put_slice(b"q"));
        d.await_acceptance(place, KEY, 9);
        d.room();
        assert_eq!(d.next(now).map(|batch| batch.seq), Some(1));
        let next = d.next(now).expect("sealed");
        assert!(next.runs.contains(&run(quiet, 1, b"q")), "{next:?}");
        let mut done = Vec::new();
        d.accepted(2, |a| done.push(a.ack));
        assert_eq!(done, [9]);
    }

    #[test]
    fn batches_that_are_refused_together_keep_their_order() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let now = Moment::default();
        let batches: Vec<Batch> = (1..=3).map(|seq| Batch { seq, runs: vec![run(B, 1, b"a")], bytes: 1 }).collect();
        for batch in &batches {
            d.refused(batch.clone(), now);
        }
        d.room();
        for batch in batches {
            assert_eq!(d.next(now), Some(batch));
        }
    }

    #[test]
    fn a_sibling_gets_no_more_than_its_window() {
        let mut d = Destination::new(Holder::Worker(WorkerId(1)));
        let now = Moment::default();
        let mut sent = 0;
        for _ in 0..6 {
            d.append(B, |b| b.put_slice(&vec![0; 1 << 20]));
            while let Some(b) = d.next(now) {
                sent = b.seq;
            }
        }
        assert_eq!(sent, 4);
        assert!(d.congested());
        d.accepted(2, |_| {});
        assert_eq!(d.next(now).map(|b| b.seq), Some(5));
    }

    #[test]
    fn it_is_drained_once_all_that_came_of_the_broker_is_accepted() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let now = Moment::default();
        let drain = ConnKey { index: 7, generation: 7 };
        assert!(!d.await_drained(B, drain), "nothing came");
        put(&mut d, b"a");
        assert_eq!(d.next(now).map(|batch| batch.seq), Some(1));
        assert!(d.await_drained(B, drain), "it is on its way");
        put(&mut d, b"b");
        let other = ConnKey { index: 8, ..drain };
        assert!(d.await_drained(B, other), "it is in no batch yet");
        assert!(d.await_drained(BrokerId(2), ConnKey { index: 9, ..drain }), "as above: batches are all brokers'");
        assert_eq!(d.next(now).map(|batch| batch.seq), Some(2));
        let mut done = Vec::new();
        d.accepted(1, |a| done.push(a.conn.index));
        assert_eq!(done, [7, 9]);
        d.accepted(2, |a| done.push(a.conn.index));
        assert_eq!(done, [7, 9, 8]);
        assert!(!d.await_drained(B, drain));
        put(&mut d, b"c");
        assert!(d.await_drained(B, drain));
        d.expired(|a| done.push(a.conn.index));
        assert_eq!(done[3..], [7]);
        assert!(!d.await_drained(B, drain), "its next life has had nothing yet");
    }

    #[test]
    fn expiry_voids_what_waited() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        let place = put(&mut d, b"a");
        d.await_acceptance(place, KEY, 3);
        let mut done = Vec::new();
        assert_eq!(d.expired(|a| done.push(a.ack)), (1, Vec::new()));
        assert_eq!(done, [3]);
        put(&mut d, b"b");
        assert_eq!(d.next(Moment::default()).map(|b| b.seq), Some(1), "the next life's stream starts at 1");
    }
}
