//! What one subscriber got of one publisher's messages: in order, doubled, missing.

use std::collections::BTreeSet;

/// Missing numbers that are remembered per flow, so that a late message is told from a doubled one. Further
/// ones are counted as lost and, if they come after all, as duplicates.
const MISSING_MEMORY: usize = 100_000;

/// Numbers begin at 0, without gaps.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// One more than the highest number seen.
    next: u64,
    missing: BTreeSet<u64>,
    forgotten: u64,
    out_of_order: u64,
    duplicates: u64,
}

impl Flow {
    /// A message arrived; whether it is new.
    pub(super) fn on_message(&mut self, number: u64) -> bool {
        if number == self.next {
            self.next += 1;
            return true;
        }
        self.on_surprise(number)
    }

    #[cold]
    fn on_surprise(&mut self, number: u64) -> bool {
        if number > self.next {
            let gap = self.next..number;
            let room = MISSING_MEMORY.saturating_sub(self.missing.len()) as u64;
            self.forgotten += (number - self.next).saturating_sub(room);
            self.missing.extend(gap.take(room as usize));
            self.next = number + 1;
            true
        } else if self.missing.remove(&number) {
            self.out_of_order += 1;
            true
        } else {
            self.duplicates += 1;
            false
        }
    }

    /// One more than the highest number seen: what is before it is received or late.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Messages among the first `sent` that never came.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + sent.saturating_sub(self.next)
    }

    /// Messages that came after a later one.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    /// Messages that came again.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_late_doubled_and_lost_apart() {
        let mut flow = Flow::default();
        let new: Vec<bool> = [0, 1, 4, 2, 2, 0, 6].into_iter().map(|n| flow.on_message(n)).collect();
        assert_eq!(new, [true, true, true, true, false, false, true]);
        assert_eq!((flow.out_of_order(), flow.duplicates(), flow.next()), (1, 2, 7));
        assert_eq!(flow.lost(9), 2 + 2);
    }
}
