//! The node's byte accountant: what all workers keep for all brokers, and who may keep more (R19).
//!
//! Workers tell it of steps of `limits::ACCOUNT_STEP_BYTES` and of everything at each tick, so that nothing is locked on
//! the way of a message; what is not told yet is at most a step for each worker and broker, and one turn's.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rookery_cluster::ids::{BrokerId, WorkerId};
use rookery_cluster::limits::ACCOUNT_STEP_BYTES;

use super::core::{Full, Usage};

/// Adds up what the workers of a node keep. Shared by them.
#[derive(Debug)]
pub struct Accountant {
    /// Bytes of all brokers together.
    most: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    total: usize,
    brokers: BTreeMap<BrokerId, Book>,
}

#[derive(Debug, Default)]
struct Book {
    bytes: usize,
    /// By worker; those with nothing are left out.
    workers: BTreeMap<WorkerId, usize>,
}

impl Accountant {
    /// An accountant of a node that may keep `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, books: Mutex::default() }
    }

    /// `worker` keeps as much as `usage` says; whether the broker may keep no more. The node's bytes are shared as those
    /// of a destination are: a broker may use as much as is left to the others, and a step in any case.
    pub fn report(&self, worker: WorkerId, usage: Usage) -> Option<Full> {
        let mut books = self.books.lock();
        let book = books.brokers.entry(usage.broker).or_default();
        let before = match usage.bytes {
            0 => book.workers.remove(&worker),
            bytes => book.workers.insert(worker, bytes),
        };
        let before = before.unwrap_or_default();
        book.bytes = book.bytes + usage.bytes - before;
        let bytes = book.bytes;
        if bytes == 0 {
            books.brokers.remove(&usage.broker);
        }
        books.total = books.total + usage.bytes - before;
        let left = self.most.saturating_sub(books.total).max(ACCOUNT_STEP_BYTES);
        if bytes > usage.budget {
            return Some(Full::Broker);
        }
        (bytes > left).then_some(Full::Node)
    }

    /// Bytes of all brokers.
    pub fn total(&self) -> usize {
        self.books.lock().total
    }

    /// Brokers that keep `ACCOUNT_STEP_BYTES` or more, and how many: no more than the node's bytes have steps.
    pub fn large(&self) -> Vec<(BrokerId, usize)> {
        let books = self.books.lock();
        let large = books.brokers.iter().filter(|(_, book)| book.bytes >= ACCOUNT_STEP_BYTES);
        large.map(|(broker, book)| (*broker, book.bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn usage(broker: u128, mib: usize) -> Usage {
        Usage { broker: BrokerId(broker), bytes: mib * MIB, budget: 40 * MIB }
    }

    #[test]
    fn a_brokers_budget_holds_over_all_workers() {
        let accountant = Accountant::new(1000 * MIB);
        assert_eq!(accountant.report(WorkerId(0), usage(1, 30)), None);
        assert_eq!(accountant.report(WorkerId(1), usage(1, 11)), Some(Full::Broker));
        assert_eq!(accountant.report(WorkerId(0), usage(1, 20)), None);
        assert_eq!((accountant.total(), accountant.large()), (31 * MIB, vec![(BrokerId(1), 31 * MIB)]));
    }

    #[test]
    fn a_full_node_refuses_whoever_fills_it_and_not_the_others() {
        let accountant = Accountant::new(50 * MIB);
        assert_eq!(accountant.report(WorkerId(0), usage(1, 25)), None);
        assert_eq!(accountant.report(WorkerId(0), usage(1, 26)), Some(Full::Node));
        assert_eq!(accountant.report(WorkerId(1), usage(2, 10)), None);
        assert_eq!(accountant.report(WorkerId(0), usage(3, 14)), Some(Full::Node));
        assert_eq!(accountant.report(WorkerId(1), usage(4, 1)), None, "a step is everybody's");
        for (worker, broker) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            accountant.report(WorkerId(worker), usage(broker, 0));
        }
        assert_eq!((accountant.total(), accountant.large()), (0, vec![]));
    }
}
