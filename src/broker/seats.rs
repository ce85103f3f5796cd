//! How many connections there are, and on which worker. A seat is taken at accept and given back when the socket
//! is dropped, wherever that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The seats of a node.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
}

/// One connection's seat.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    worker: usize,
}

impl Seats {
    /// `most` seats, spread over `workers` workers.
    pub fn new(workers: usize, most: usize) -> Arc<Self> {
        let by_worker = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { most, taken: AtomicUsize::new(0), by_worker })
    }

    /// A seat at the worker that has the fewest connections; `None` if all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let (worker, connections) =
            self.by_worker.iter().enumerate().min_by_key(|(_, connections)| connections.load(Ordering::Relaxed))?;
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        connections.fetch_add(1, Ordering::Relaxed);
        Some(Seat { seats: self.clone(), worker })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Seat {
    /// Index of the worker.
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.by_worker[self.worker].fetch_sub(1, Ordering::Relaxed);
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_with_the_fewest_connections_gets_the_next() {
        let seats = Seats::new(2, 4);
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        assert_eq!((first.worker(), second.worker()), (0, 1));
        drop(second);
        let second = seats.take().unwrap();
        let third = seats.take().unwrap();
        assert_eq!((second.worker(), third.worker(), seats.taken()), (1, 0, 3));
        let _fourth = seats.take().unwrap();
        assert!(seats.take().is_none());
        drop(first);
        assert_eq!(seats.take().map(|seat| seat.worker()), Some(0));
    }
}
