//! How many connections there are, on which worker and from where. A seat is taken at accept and given back when the
//! socket is dropped, wherever that happens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The bits of an IPv6 address that one customer has of his own at least (RFC 6177): the others he can change at will.
const IPV6_SITE: u128 = u128::MAX << 64;

/// Whose connections are counted together: those of an IPv4 address, or of the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// That of `address`; an IPv4 address mapped into IPv6 counts as what it is.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & IPV6_SITE).into(),
            v4 => v4,
        })
    }
}

/// How much of something each source has, up to a bound. Holds as many entries as there are sources that have any.
#[derive(Debug)]
pub struct Tally {
    most: usize,
    by_source: Mutex<BTreeMap<Source, usize>>,
}

/// One that is counted; dropping it takes it off.
#[derive(Debug)]
pub struct Counted {
    tally: Arc<Tally>,
    source: Source,
}

impl Tally {
    /// Up to `most` for each source.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_source: Mutex::default() })
    }

    /// Counts one more of `source`; `None` if it has all that it may have.
    pub fn count(self: &Arc<Self>, source: Source) -> Option<Counted> {
        let mut by_source = self.by_source.lock();
        let count = by_source.entry(source).or_default();
        // The bound is at least 1, so what was just entered stays.
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted { tally: self.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_source = self.tally.by_source.lock();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// The seats of a node.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: AtomicUsize,
    by_worker: Box<[AtomicUsize]>,
    by_source: Arc<Tally>,
}

/// One connection's seat.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    worker: usize,
    counted: Option<Counted>,
}

impl Seats {
    /// `most` seats, spread over `workers` workers, and up to `per_source` of them (at least 1) for each source.
    pub fn new(workers: usize, most: usize, per_source: usize) -> Arc<Self> {
        let by_worker = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { most, taken: AtomicUsize::new(0), by_worker, by_source: Tally::new(per_source.max(1)) })
    }

    /// A seat at the worker that has the fewest connections; `None` if all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let (worker, connections) =
            self.by_worker.iter().enumerate().min_by_key(|(_, connections)| connections.load(Ordering::Relaxed))?;
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        connections.fetch_add(1, Ordering::Relaxed);
        Some(Seat { seats: self.clone(), worker, counted: None })
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

    /// Counts the seat as one of `source`; `false` if that has all that it may have.
    #[must_use]
    pub fn settle(&mut self, source: Source) -> bool {
        self.counted = self.seats.by_source.count(source);
        self.counted.is_some()
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

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn the_worker_with_the_fewest_connections_gets_the_next() {
        let seats = Seats::new(2, 4, 4);
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

    #[test]
    fn a_source_has_its_share_and_no_more() {
        let seats = Seats::new(1, 9, 2);
        let settled = |address| {
            let mut seat = seats.take().unwrap();
            seat.settle(source(address)).then_some(seat)
        };
        let (first, _second) = (settled("192.0.2.1").unwrap(), settled("::ffff:192.0.2.1").unwrap());
        assert!(settled("192.0.2.1").is_none());
        assert_eq!(seats.taken(), 2, "one that was refused has no seat");
        let _another = settled("192.0.2.2").unwrap();
        drop(first);
        let _third = settled("192.0.2.1").unwrap();
        let _site = [settled("2001:db8::1").unwrap(), settled("2001:db8::ffff:0:0:1").unwrap()];
        assert!(settled("2001:db8::2").is_none(), "of the same /64");
        assert!(settled("2001:db8:0:1::2").is_some());
    }

    #[test]
    fn sources_that_have_none_are_forgotten() {
        let seats = Seats::new(1, 1000, 1);
        for n in 0..100_u8 {
            let mut seat = seats.take().unwrap();
            assert!(seat.settle(Source::of([192, 0, 2, n].into())));
            assert_eq!(seats.by_source.by_source.lock().len(), 1);
        }
        assert!(seats.by_source.by_source.lock().is_empty());
    }
}
