//! Keep Alive (MQTT 5 §3.1.2.10).

use std::time::Duration;

use rookery_cluster::clock::Moment;

/// When a client was last heard, and how long it may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    patience: Option<Duration>,
    last: Moment,
}

impl KeepAlive {
    /// `interval` in seconds; 0 turns the mechanism off.
    pub fn new(interval: u16, now: Moment) -> Self {
        let patience = (interval != 0).then(|| Duration::from_millis(u64::from(interval) * 1500));
        Self { patience, last: now }
    }

    pub fn heard(&mut self, now: Moment) {
        self.last = now;
    }

    pub fn expired(&self, now: Moment) -> bool {
        self.patience.is_some_and(|patience| now.since(self.last) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_after_one_and_a_half_intervals_of_silence() {
        let t = |ms| Moment(Duration::from_millis(ms));
        let mut k = KeepAlive::new(10, t(0));
        assert!(!k.expired(t(14_999)));
        assert!(k.expired(t(15_000)));
        k.heard(t(15_000));
        assert!(!k.expired(t(29_999)));
        assert!(!KeepAlive::new(0, t(0)).expired(t(1 << 40)));
    }
}
