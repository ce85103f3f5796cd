//! What waits for one destination, by broker, and in which order it leaves: deficit round robin by bytes (R19), so that
//! what one broker floods with does not stand before what another one publishes. PURE.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookery_cluster::handle::Retained;
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::{FORWARD_QUANTUM_BYTES, FORWARD_WAITING_BYTES};
use slab::Slab;

use super::ConnKey;
use super::transfer::Transfer;

/// First capacity of a chunk, bytes; later ones begin with what the last one grew to.
const CHUNK_BYTES: usize = 512;

/// Publishes of one broker, back to back, that leave together.
#[derive(Debug)]
pub(super) struct Chunk {
    pub broker: BrokerId,
    pub count: u32,
    pub body: Transfer,
    /// What is to be kept of them.
    pub kept: Vec<Arc<Retained>>,
    kept_bytes: usize,
    /// Who waits for their acceptance: connection and number of the acknowledgement there.
    pub awaiting: Vec<(ConnKey, u64)>,
    /// Whether some of them are for members of shared subscriptions.
    pub directed: bool,
}

/// Where a publish was put, until anything is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

/// The queues of all brokers that have something waiting.
#[derive(Debug, Default)]
pub(super) struct Fair {
    queues: Slab<Queue>,
    queue_of: BTreeMap<BrokerId, usize>,
    /// Whose turn it is.
    ring: VecDeque<usize>,
    /// The queue of the last publish: the next one mostly is of the same broker.
    last: usize,
    bytes: usize,
    /// What the last full chunk grew to, at most a quantum.
    grown: usize,
}

#[derive(Debug)]
struct Queue {
    broker: BrokerId,
    /// None is empty.
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Bytes it may still send in this turn.
    deficit: usize,
}

impl Chunk {
    fn size(&self) -> usize {
        self.body.len() + self.kept_bytes
    }
}

impl Fair {
    /// Appends one publish of `broker`, as `write` encodes it.
    pub fn append(&mut self, broker: BrokerId, write: impl FnOnce(&mut Transfer)) -> Place {
        let at = self.queue(broker);
        let queue = &mut self.queues[at];
        if queue.chunks.back().is_none_or(|chunk| chunk.size() >= FORWARD_QUANTUM_BYTES) {
            let body = Transfer::with_capacity(self.grown.max(CHUNK_BYTES));
            queue.chunks.push_back(Chunk {
                broker,
                count: 0,
                body,
                kept: Vec::new(),
                kept_bytes: 0,
                awaiting: Vec::new(),
                directed: false,
            });
        }
        if let Some(chunk) = queue.chunks.back_mut() {
            let before = chunk.body.len();
            write(&mut chunk.body);
            chunk.count += 1;
            let added = chunk.body.len() - before;
            queue.bytes += added;
            self.bytes += added;
        }
        Place(at)
    }

    /// Appends what is to be kept of a publish: in one piece with the publish, if that was appended just before.
    pub fn keep(&mut self, broker: BrokerId, kept: Arc<Retained>) -> Place {
        let at = self.queue(broker);
        let queue = &mut self.queues[at];
        if queue.chunks.back().is_none_or(|chunk| chunk.size() >= 2 * FORWARD_QUANTUM_BYTES) {
            let body = Transfer::with_capacity(0);
            queue.chunks.push_back(Chunk {
                broker,
                count: 0,
                body,
                kept: Vec::new(),
                kept_bytes: 0,
                awaiting: Vec::new(),
                directed: false,
            });
        }
        if let Some(chunk) = queue.chunks.back_mut() {
            let added = kept.bytes();
            chunk.kept_bytes += added;
            chunk.kept.push(kept);
            queue.bytes += added;
            self.bytes += added;
        }
        Place(at)
    }

    fn queue(&mut self, broker: BrokerId) -> usize {
        if self.queues.get(self.last).is_some_and(|queue| queue.broker == broker) {
            return self.last;
        }
        self.last = *self.queue_of.entry(broker).or_insert_with(|| {
            let at = self.queues.insert(Queue { broker, chunks: VecDeque::new(), bytes: 0, deficit: 0 });
            self.ring.push_back(at);
            at
        });
        self.last
    }

    /// `conn`'s acknowledgement `ack` waits for the acceptance of the publish that was put at `place` last.
    pub fn await_acceptance(&mut self, place: Place, conn: ConnKey, ack: u64) {
        if let Some(chunk) = self.queues.get_mut(place.0).and_then(|queue| queue.chunks.back_mut()) {
            chunk.awaiting.push((conn, ack));
        }
    }

    /// The publish that was put at `place` last is for members of shared subscriptions.
    pub fn is_directed(&mut self, place: Place) {
        if let Some(chunk) = self.queues.get_mut(place.0).and_then(|queue| queue.chunks.back_mut()) {
            chunk.directed = true;
        }
    }

    /// The same for `conn`'s number 0 and all that waits of `broker`; `false` if nothing does.
    pub fn await_all(&mut self, broker: BrokerId, conn: ConnKey) -> bool {
        let last = self.queue_of.get(&broker).and_then(|&at| self.queues[at].chunks.back_mut());
        if let Some(chunk) = last {
            chunk.awaiting.push((conn, 0));
            return true;
        }
        false
    }

    /// Bytes that wait of each broker.
    pub fn by_broker(&self) -> impl Iterator<Item = (BrokerId, usize)> {
        self.queues.iter().map(|(_, queue)| (queue.broker, queue.bytes))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether `broker` has used its share up: as much as is left of `FORWARD_WAITING_BYTES` for all others, and a
    /// quantum in any case. So one broker alone may use half, two a third each, and whoever comes last has room.
    pub fn crowded(&self, broker: BrokerId) -> bool {
        if self.bytes < FORWARD_WAITING_BYTES / 2 {
            // No share can be more, and as much is left.
            return false;
        }
        let left = FORWARD_WAITING_BYTES.saturating_sub(self.bytes).max(FORWARD_QUANTUM_BYTES);
        let own = self.queue_of.get(&broker).map_or(0, |&at| self.queues[at].bytes);
        own >= left
    }

    /// Takes chunks for one batch of at most `most` bytes (of one chunk, if that is larger): of each broker in turn no
    /// more than its deficit, which grows by a quantum with each turn.
    pub fn take(&mut self, most: usize) -> (Vec<Chunk>, usize) {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(&at) = self.ring.front() {
            let queue = &mut self.queues[at];
            while let Some(chunk) = queue.chunks.front().filter(|chunk| chunk.size() <= queue.deficit) {
                let len = chunk.size();
                if bytes + len > most && !taken.is_empty() {
                    // It is still this broker's turn when the next batch begins.
                    return (taken, bytes);
                }
                bytes += len;
                queue.deficit -= len;
                queue.bytes -= len;
                self.bytes -= len;
                self.grown = len.min(FORWARD_QUANTUM_BYTES);
                taken.extend(queue.chunks.pop_front());
            }
            self.ring.pop_front();
            if queue.chunks.is_empty() {
                self.queue_of.remove(&queue.broker);
                self.queues.remove(at);
            } else {
                queue.deficit += FORWARD_QUANTUM_BYTES;
                self.ring.push_back(at);
            }
        }
        (taken, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: BrokerId = BrokerId(1);
    const QUIET: BrokerId = BrokerId(2);

    fn put(fair: &mut Fair, broker: BrokerId, bytes: usize) {
        fair.append(broker, |body| body.put_slice(&vec![broker.0 as u8; bytes]));
    }

    fn taken_of(fair: &mut Fair, most: usize) -> BTreeMap<u128, usize> {
        let (chunks, bytes) = fair.take(most);
        let mut by_broker = BTreeMap::new();
        for chunk in &chunks {
            assert!(chunk.body.as_slice().iter().all(|&byte| u128::from(byte) == chunk.broker.0));
            *by_broker.entry(chunk.broker.0).or_insert(0) += chunk.body.len();
        }
        assert_eq!(by_broker.values().sum::<usize>(), bytes);
        by_broker
    }

    #[test]
    fn a_flood_leaves_a_quiet_broker_its_share_of_the_next_batch() {
        let mut fair = Fair::default();
        for _ in 0..40 {
            put(&mut fair, FLOOD, 100_000);
        }
        put(&mut fair, QUIET, 500);
        let first = taken_of(&mut fair, 1 << 20);
        assert_eq!(first.get(&2), Some(&500), "{first:?}");
        assert!(first[&1] > 800_000, "the rest is the flood's: {first:?}");
    }

    #[test]
    fn two_floods_get_as_many_bytes_each_whatever_their_packets_sizes() {
        let mut fair = Fair::default();
        for _ in 0..4000 {
            put(&mut fair, FLOOD, 1000);
        }
        for _ in 0..4 {
            put(&mut fair, QUIET, 1_000_000);
        }
        let (mut flood, mut quiet) = (0, 0);
        for _ in 0..4 {
            let taken = taken_of(&mut fair, 1 << 20);
            flood += taken.get(&1).copied().unwrap_or_default();
            quiet += taken.get(&2).copied().unwrap_or_default();
        }
        assert!(flood.abs_diff(quiet) <= 1_100_000, "{flood} and {quiet}");
    }

    #[test]
    fn a_brokers_share_shrinks_with_what_others_have_waiting_and_all_have_a_bound() {
        let mut fair = Fair::default();
        for n in 0..50 {
            let broker = BrokerId(n);
            assert!(!fair.crowded(broker), "whoever comes new has room");
            while !fair.crowded(broker) {
                put(&mut fair, broker, 1000);
            }
        }
        let shares: BTreeMap<BrokerId, usize> = fair.by_broker().collect();
        assert!(shares[&BrokerId(0)] >= FORWARD_WAITING_BYTES / 2);
        assert!(shares[&BrokerId(49)] >= FORWARD_QUANTUM_BYTES);
        assert!(fair.bytes <= FORWARD_WAITING_BYTES + 50 * (FORWARD_QUANTUM_BYTES + 1000), "{}", fair.bytes);
        fair.take(usize::MAX);
        assert!(fair.is_empty() && !fair.crowded(BrokerId(0)));
    }

    #[test]
    fn what_one_broker_publishes_keeps_its_order() {
        let mut fair = Fair::default();
        let mut sent = 0_u32;
        let mut got = Vec::new();
        for round in 0..20 {
            for _ in 0..3000 {
                fair.append(FLOOD, |body| body.put_slice(&sent.to_be_bytes()));
                sent += 1;
                put(&mut fair, BrokerId(3 + round % 3), 100);
            }
            got.extend(fair.take(50_000).0);
        }
        got.extend(fair.take(usize::MAX).0);
        let bytes: Vec<u8> =
            got.iter().filter(|c| c.broker == FLOOD).flat_map(|c| c.body.as_slice().to_vec()).collect();
        let numbers = bytes.chunks(4).map(|b| u32::from_be_bytes(b.try_into().expect("four")));
        assert!(numbers.eq(0..sent));
    }
}
