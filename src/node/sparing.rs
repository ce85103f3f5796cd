//! Log lines that strangers cause: so many per second, and how many more there would have been.

use parking_lot::Mutex;
use rookery_cluster::clock::Moment;

/// Lines per second.
const LINES: u32 = 20;

/// Spares the log.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Moment,
    written: u32,
    left_out: u64,
}

impl Sparing {
    /// Whether to write one more line, and how many were left out since the last.
    pub fn line(&self, now: Moment) -> Option<u64> {
        let mut second = self.0.lock();
        if now.since(second.began).as_secs() >= 1 {
            (second.began, second.written) = (now, 0);
        }
        if second.written >= LINES {
            second.left_out += 1;
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_out_is_told() {
        let log = Sparing::default();
        let at = |ms| Moment(Duration::from_millis(ms));
        let written = (0..100).filter_map(|_| log.line(at(5000))).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(log.line(at(5999)), None);
        assert_eq!(log.line(at(6000)), Some(81));
        assert_eq!(log.line(at(6000)), Some(0));
    }
}
