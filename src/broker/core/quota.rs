//! What is counted over all workers of a node: a broker's connections, and the subscribers of its filters.

use std::collections::BTreeMap;
use std::sync::Arc;

use rookery_cluster::ids::BrokerId;

/// Something of which a node has only so many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// A connection of the broker.
    Connection(BrokerId),
    /// A subscriber of the broker's filter, which is as it was sent.
    Subscriber(BrokerId, Arc<str>),
}

/// Where they are taken and given back. Its calls are short and never wait for others' work.
pub trait Quota: Send + std::fmt::Debug {
    /// Takes one if fewer than `most` are taken; 0: however many.
    fn take(&mut self, share: Share, most: u32) -> bool;
    /// Gives one back that was taken.
    fn give(&mut self, share: &Share);
}

/// The count. Its keys are bounded by connections and their subscriptions.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Share, u32>);

impl Quota for Tally {
    fn take(&mut self, share: Share, most: u32) -> bool {
        let taken = self.0.get(&share).copied().unwrap_or(0);
        let free = most == 0 || taken < most;
        if free {
            self.0.insert(share, taken.saturating_add(1));
        }
        free
    }

    fn give(&mut self, share: &Share) {
        if let Some(taken) = self.0.get_mut(share) {
            *taken -= 1;
            if *taken == 0 {
                self.0.remove(share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let mut tally = Tally::default();
        let one = || Share::Subscriber(BrokerId(1), "a".into());
        assert!(tally.take(one(), 2) && tally.take(one(), 2));
        assert!(!tally.take(one(), 2));
        assert!(tally.take(Share::Subscriber(BrokerId(1), "b".into()), 1));
        assert!(tally.take(Share::Subscriber(BrokerId(2), "a".into()), 1));
        assert!(tally.take(one(), 0), "0 is no limit");
        for _ in 0..3 {
            tally.give(&one());
        }
        tally.give(&one());
        assert!(tally.take(one(), 1));
        assert_eq!(tally.0.len(), 3, "nothing is kept of what nobody holds");
    }
}
