//! A node's clock: runs a little fast or slow, and may change its mind, but over one lease no two differ by more
//! than `limits::LEASE_DRIFT_MARGIN`, which is what leases assume.

use std::time::Duration;

use rookery_cluster::clock::Moment;

/// How far off a clock's rate may be, parts in a thousand: two clocks at the two ends are 0.24 s apart after 4 s.
pub const MOST_DRIFT: i64 = 30;

#[derive(Clone, Debug)]
pub struct LocalClock {
    /// True time at which the rate was set, and what the clock showed then.
    since: Duration,
    shown: Duration,
    /// Thousandths by which it runs fast.
    drift: i64,
}

impl LocalClock {
    pub fn new(shown: Duration, drift: i64) -> Self {
        Self { since: Duration::ZERO, shown, drift }
    }

    pub fn now(&self, truth: Duration) -> Moment {
        let passed = (truth - self.since).as_nanos() as i128;
        Moment(self.shown + Duration::from_nanos((passed * i128::from(1000 + self.drift) / 1000) as u64))
    }

    /// True time that passes while the clock runs for `local`; a little more rather than less.
    pub fn truth_of(&self, local: Duration) -> Duration {
        Duration::from_nanos((local.as_nanos() as i128 * 1000 / i128::from(1000 + self.drift)) as u64 + 1000)
    }

    pub fn set_drift(&mut self, truth: Duration, drift: i64) {
        self.shown = self.now(truth).0;
        self.since = truth;
        self.drift = drift.clamp(-MOST_DRIFT, MOST_DRIFT);
    }
}
