//! How fast a client may send: a bucket for each rate, filled as time passes, holding a second's worth.

use std::time::Duration;

use rookery_cluster::clock::Moment;

/// What a bucket holds.
const BURST: Duration = Duration::from_secs(1);
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A token bucket. The rate is an argument, as it may change while the bucket is in use; it is above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be full.
    full_at: Moment,
}

impl Bucket {
    /// Takes a token, if one is left.
    pub fn take(&mut self, now: Moment, rate: u32) -> bool {
        let full_at = self.full_at.max(now) + worth(1, rate);
        let left = full_at.since(now) <= BURST;
        if left {
            self.full_at = full_at;
        }
        left
    }

    /// Puts `n` tokens back that were taken for what has not happened after all.
    pub fn put_back(&mut self, rate: u32, n: u64) {
        self.full_at = Moment(self.full_at.0.saturating_sub(worth(n, rate)));
    }

    /// Takes `n` tokens, be they there or not.
    pub fn owe(&mut self, now: Moment, rate: u32, n: u64) {
        self.full_at = self.full_at.max(now) + worth(n, rate);
    }

    /// Whether more was taken than was there.
    pub fn in_debt(&self, now: Moment) -> bool {
        self.full_at.since(now) > BURST
    }
}

/// How long it takes to fill `n` tokens in.
fn worth(n: u64, rate: u32) -> Duration {
    Duration::from_nanos(n.saturating_mul(NANOS_PER_SECOND) / u64::from(rate.max(1)))
}

/// A client's buckets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Packets.
    pub packets: Bucket,
    /// Bytes.
    pub bytes: Bucket,
    /// PUBLISH packets.
    pub publishes: Bucket,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    #[test]
    fn a_second_s_worth_at_once_then_at_the_rate() {
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, ms| (0..100).take_while(|_| bucket.take(at(ms), 10)).count();
        assert_eq!(taken(&mut bucket, 5000), 10);
        assert_eq!(taken(&mut bucket, 5099), 0);
        assert_eq!(taken(&mut bucket, 5100), 1);
        assert_eq!(taken(&mut bucket, 5400), 3);
        assert_eq!(taken(&mut bucket, 60_000), 10, "it holds no more than a second's worth");
        bucket.put_back(10, 1);
        assert_eq!(taken(&mut bucket, 60_000), 1);
    }

    #[test]
    fn debts_are_paid_by_waiting() {
        let mut bucket = Bucket::default();
        bucket.owe(at(0), 1000, 1000);
        assert!(!bucket.in_debt(at(0)));
        bucket.owe(at(0), 1000, 2000);
        assert!(bucket.in_debt(at(1999)));
        assert!(!bucket.in_debt(at(2000)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_burst(rate in 1_u32..1000, gaps in prop::collection::vec(0_u64..300, 1..300)) {
            let mut bucket = Bucket::default();
            let (mut now, mut taken) = (0, 0_u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(bucket.take(at(now), rate));
                prop_assert!(taken * 1000 <= (now + 1000) * u64::from(rate));
            }
        }
    }
}
