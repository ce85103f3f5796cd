//! What goes to other workers and nodes: batches under construction, credit, and who waits for acceptance.

use std::collections::VecDeque;
use std::mem;

use bytes::BytesMut;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Holder, Run};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::{FORWARD_BATCH_BYTES, FORWARD_WINDOW_BYTES, MAX_PACKET_BYTES, PUBLISH_TIMEOUT};

use super::ConnKey;

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

/// One destination of this worker: a peer node, or another worker of this node.
#[derive(Debug)]
pub struct Destination {
    /// Who it is.
    pub holder: Holder,
    /// Runs of the batch under construction.
    building: Vec<(BrokerId, u32, BytesMut)>,
    building_bytes: usize,
    /// Sequence number of the batch under construction.
    next_seq: u64,
    /// Sealed batches without credit.
    pending: VecDeque<Batch>,
    /// Sent and not accepted: number and size. Empty for peers, whose credit the stream keeps.
    outstanding: VecDeque<(u64, usize)>,
    outstanding_bytes: usize,
    awaiting: VecDeque<Awaiting>,
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
            building: Vec::new(),
            building_bytes: 0,
            next_seq: 1,
            pending: VecDeque::new(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            awaiting: VecDeque::new(),
            congested_since: None,
            paused: false,
            touched: false,
        }
    }

    /// Appends one publish of `broker`, as `write` encodes it; returns the number of the batch that carries it.
    pub fn append(&mut self, broker: BrokerId, write: impl FnOnce(&mut BytesMut)) -> u64 {
        if self.full() {
            self.seal();
        }
        if self.building.last().is_none_or(|(b, ..)| *b != broker) {
            self.building.push((broker, 0, BytesMut::new()));
        }
        if let Some((_, count, body)) = self.building.last_mut() {
            let before = body.len();
            write(body);
            *count += 1;
            self.building_bytes += body.len() - before;
        }
        self.next_seq
    }

    /// Whether the batch under construction must be sealed before anything more is appended: with one packet more
    /// it might be too large.
    fn full(&self) -> bool {
        self.building_bytes >= FORWARD_BATCH_BYTES - MAX_PACKET_BYTES
    }

    /// Whether publishers shall wait before they add to what waits here.
    pub fn crowded(&self, now: Moment) -> bool {
        self.waiting_bytes() >= FORWARD_WINDOW_BYTES && !self.stuck(now)
    }

    /// Whether there is no credit towards it.
    pub fn congested(&self) -> bool {
        self.congested_since.is_some()
    }

    /// Whether it has been without credit for longer than publishers wait (R10).
    pub fn stuck(&self, now: Moment) -> bool {
        self.congested_since.is_some_and(|since| now.since(since) >= PUBLISH_TIMEOUT)
    }

    /// Bytes that wait here for the next flush or for credit.
    fn waiting_bytes(&self) -> usize {
        self.building_bytes + self.pending.iter().map(|b| b.bytes).sum::<usize>()
    }

    /// Notes that `conn`'s acknowledgement `ack` waits for batch `seq`.
    pub fn await_acceptance(&mut self, seq: u64, conn: ConnKey, ack: u64) {
        self.awaiting.push_back(Awaiting { seq, conn, ack });
    }

    /// Seals what was built and returns the next batch that may be sent now, if any. While there is no credit,
    /// small steps gather in one batch.
    pub fn next(&mut self, now: Moment) -> Option<Batch> {
        if !self.building.is_empty() && (self.congested_since.is_none() || self.full()) {
            self.seal();
        }
        if self.congested_since.is_some() {
            return None;
        }
        let bytes = self.pending.front()?.bytes;
        if matches!(self.holder, Holder::Worker(_)) {
            if self.outstanding_bytes > 0 && self.outstanding_bytes + bytes > FORWARD_WINDOW_BYTES {
                self.congested_since = Some(now);
                return None;
            }
            self.outstanding_bytes += bytes;
        }
        let batch = self.pending.pop_front()?;
        if matches!(self.holder, Holder::Worker(_)) {
            self.outstanding.push_back((batch.seq, bytes));
        }
        Some(batch)
    }

    fn seal(&mut self) {
        let runs = mem::take(&mut self.building)
            .into_iter()
            .map(|(broker, count, body)| Run { broker, count, body: body.freeze() })
            .collect();
        let bytes = mem::take(&mut self.building_bytes);
        self.pending.push_back(Batch { seq: self.next_seq, runs, bytes });
        self.next_seq += 1;
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
        while let Some(&(_, bytes)) = self.outstanding.front().filter(|(seq, _)| *seq <= through) {
            self.outstanding.pop_front();
            self.outstanding_bytes -= bytes;
            self.congested_since = None;
        }
        while let Some(&awaiting) = self.awaiting.front().filter(|a| a.seq <= through) {
            self.awaiting.pop_front();
            done(awaiting);
        }
    }

    /// The destination's life is over: nothing is owed to it. Its next life starts a new stream. Returns how
    /// many publishes that waited for credit were dropped.
    pub fn expired(&mut self, mut done: impl FnMut(Awaiting)) -> u64 {
        let dropped = self.pending.iter().flat_map(|b| &b.runs).map(|r| u64::from(r.count)).sum::<u64>()
            + self.building.iter().map(|(_, n, _)| u64::from(*n)).sum::<u64>();
        for awaiting in mem::take(&mut self.awaiting) {
            done(awaiting);
        }
        let (holder, paused, touched) = (self.holder, self.paused, self.touched);
        *self = Self { paused, touched, ..Self::new(holder) };
        dropped
    }
}

#[cfg(test)]
mod tests {
    use rookery_cluster::ids::{NodeId, WorkerId};

    use super::*;

    const B: BrokerId = BrokerId(1);
    const KEY: ConnKey = ConnKey { index: 0, generation: 0 };

    fn run(broker: BrokerId, count: u32, body: &'static [u8]) -> Run {
        Run { broker, count, body: bytes::Bytes::from_static(body) }
    }

    fn put(d: &mut Destination, body: &'static [u8]) -> u64 {
        d.append(B, |b| b.extend_from_slice(body))
    }

    #[test]
    fn a_turn_makes_one_batch_and_acceptance_frees_in_order() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        assert_eq!(put(&mut d, b"a"), 1);
        assert_eq!(put(&mut d, b"b"), 1);
        d.await_acceptance(1, KEY, 7);
        let batch = d.next(Moment::default()).expect("sealed");
        assert_eq!(batch, Batch { seq: 1, runs: vec![run(B, 2, b"ab")], bytes: 2 });
        assert_eq!(put(&mut d, b"c"), 2);
        d.await_acceptance(2, KEY, 8);
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
        while !d.crowded(now) {
            d.append(B, |b| b.extend_from_slice(&[0; 100_000]));
            packets += 1;
        }
        assert_eq!(packets, FORWARD_WINDOW_BYTES / 100_000 + 1);
        let mut sent = 0;
        while let Some(batch) = d.next(now) {
            assert!(batch.bytes <= FORWARD_BATCH_BYTES);
            sent += batch.bytes;
        }
        assert_eq!(sent, packets * 100_000);
        assert!(!d.crowded(now));
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
            d.append(B, |b| b.extend_from_slice(&vec![0; 1 << 20]));
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
    fn expiry_voids_what_waited() {
        let mut d = Destination::new(Holder::Peer(NodeId(2)));
        put(&mut d, b"a");
        d.await_acceptance(1, KEY, 3);
        let mut done = Vec::new();
        assert_eq!(d.expired(|a| done.push(a.ack)), 1);
        assert_eq!(done, [3]);
        assert_eq!(put(&mut d, b"b"), 1, "the next life's stream starts at 1");
    }
}
