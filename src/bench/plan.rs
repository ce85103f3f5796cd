//! Who publishes what, who subscribes to it, and on which server.

use super::options::{BenchOptions, Scenario};

/// The clients of a run: subscribers first, then publishers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) subscribers: Vec<Place>,
    pub(super) publishers: Vec<Place>,
    /// Every subscriber gets everything of the one publisher.
    fanout: bool,
}

/// A client's server (by its place in the list) and topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) server: usize,
    pub(super) topic: String,
}

impl Plan {
    pub(super) fn new(options: &BenchOptions, servers: usize, run: u32) -> Self {
        let fanout = options.scenario == Scenario::Fanout;
        let topic = |n: usize| format!("bench/{run}/{n}");
        let place = |server: usize, topic: String| Place { server: server % servers, topic };
        let beside = usize::from(!options.local);
        let (subscribers, publishers) = match options.scenario {
            Scenario::Fanout => {
                ((0..options.subs).map(|n| place(n * beside, topic(0))).collect(), vec![place(0, topic(0))])
            }
            Scenario::Fanin => {
                (vec![place(0, topic(0))], (0..options.pubs).map(|n| place(n * beside, topic(0))).collect())
            }
            _ => (
                (0..options.pubs).map(|n| place(n + beside, topic(n))).collect(),
                (0..options.pubs).map(|n| place(n, topic(n))).collect(),
            ),
        };
        Self { subscribers, publishers, fanout }
    }

    /// How many (publisher, subscriber) flows there are.
    pub(super) fn flows(&self) -> usize {
        self.subscribers.len().max(self.publishers.len())
    }

    /// The flow of a message, if that subscriber is to get that publisher's.
    #[inline]
    pub(super) fn flow(&self, subscriber: usize, publisher: usize) -> Option<usize> {
        if self.fanout {
            return (publisher == 0).then_some(subscriber);
        }
        let wanted = publisher < self.publishers.len() && (self.subscribers.len() == 1 || subscriber == publisher);
        wanted.then_some(publisher)
    }

    /// The flows of a publisher.
    pub(super) fn flows_of(&self, publisher: usize) -> std::ops::Range<usize> {
        if self.fanout { 0..self.subscribers.len() } else { publisher..publisher + 1 }
    }
}
