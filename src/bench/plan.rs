//! Who publishes what, who subscribes to it, and on which server.

use super::flow::Flow;
use super::options::{BenchOptions, Scenario};
use super::wild;
use super::wire::Stamp;

/// The clients of a run: subscribers first, then publishers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) subscribers: Vec<Reader>,
    pub(super) publishers: Vec<Writer>,
    shape: Shape,
}

/// A subscriber's server (by its place in the list) and filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) server: usize,
    pub(super) filters: Vec<String>,
}

/// A publisher's server and topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) server: usize,
    pub(super) topic: String,
}

/// Who gets whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Every subscriber gets everything of the one publisher.
    Fanout,
    /// The one subscriber gets everything.
    Fanin,
    /// Every subscriber gets everything of its own publisher.
    Pairs,
    /// Every subscriber gets one message of each publisher's round.
    Wild,
    /// Whichever subscriber it is: one of them gets a message.
    Shared,
}

impl Plan {
    pub(super) fn new(options: &BenchOptions, servers: usize, run: u32) -> Self {
        let topic = |n: usize| format!("bench/{run}/{n}");
        let beside = usize::from(!options.local);
        let reader = |n: usize, filters| Reader { server: n % servers, filters };
        let writer = |n: usize, topic| Writer { server: n % servers, topic };
        let (subs, pubs) = (options.subscribers(), options.publishers());
        let (shape, subscribers, publishers) = match options.scenario {
            Scenario::Fanout => (
                Shape::Fanout,
                (0..subs).map(|n| reader(n * beside, vec![topic(0)])).collect(),
                vec![writer(0, topic(0))],
            ),
            Scenario::Fanin => (
                Shape::Fanin,
                vec![reader(0, vec![topic(0)])],
                (0..pubs).map(|n| writer(n * beside, topic(0))).collect(),
            ),
            Scenario::Wild => (
                Shape::Wild,
                (0..subs).map(|n| reader(n * beside, wild::filters(&format!("bench/{run}"), n))).collect(),
                (0..pubs).map(|n| writer(n * beside, format!("bench/{run}/0/0/0/0"))).collect(),
            ),
            Scenario::Shared => (
                Shape::Shared,
                (0..subs).map(|n| reader(n * beside, vec![format!("$share/g/{}", topic(0))])).collect(),
                (0..pubs).map(|n| writer(n * beside, topic(0))).collect(),
            ),
            _ => (
                Shape::Pairs,
                (0..pubs).map(|n| reader(n + beside, vec![topic(n)])).collect(),
                (0..pubs).map(|n| writer(n, topic(n))).collect(),
            ),
        };
        Self { subscribers, publishers, shape }
    }

    /// How many flows there are: of publisher to subscriber, or of publisher to all subscribers (shared).
    pub(super) fn flows(&self) -> usize {
        match self.shape {
            Shape::Wild => self.subscribers.len() * self.publishers.len(),
            Shape::Fanout => self.subscribers.len(),
            Shape::Fanin | Shape::Pairs | Shape::Shared => self.publishers.len(),
        }
    }

    /// The flow of a message and its number there, if that subscriber is to get it.
    #[inline]
    pub(super) fn flow(&self, subscriber: usize, stamp: Stamp) -> Option<(usize, u64)> {
        let publisher = stamp.publisher as usize;
        if publisher >= self.publishers.len() || subscriber >= self.subscribers.len() {
            return None;
        }
        match self.shape {
            Shape::Fanout => Some((subscriber, stamp.number)),
            Shape::Fanin | Shape::Shared => Some((publisher, stamp.number)),
            Shape::Pairs => (publisher == subscriber).then_some((publisher, stamp.number)),
            Shape::Wild => {
                let (round, at) = (stamp.number / wild::ROUND, stamp.number % wild::ROUND);
                let its = wild::position(subscriber, stamp.publisher, round) == at;
                its.then_some((publisher * self.subscribers.len() + subscriber, round))
            }
        }
    }

    /// The flows of a publisher.
    pub(super) fn flows_of(&self, publisher: usize) -> std::ops::Range<usize> {
        match self.shape {
            Shape::Fanout => 0..self.subscribers.len(),
            Shape::Fanin | Shape::Pairs | Shape::Shared => publisher..publisher + 1,
            Shape::Wild => publisher * self.subscribers.len()..(publisher + 1) * self.subscribers.len(),
        }
    }

    /// How many messages of a publisher's first `sent` belong into a flow of its.
    fn due(&self, publisher: usize, flow: usize, sent: u64) -> u64 {
        if self.shape != Shape::Wild {
            return sent;
        }
        let (round, more) = (sent / wild::ROUND, sent % wild::ROUND);
        let position = wild::position(flow % self.subscribers.len(), publisher as u32, round);
        round + u64::from(position < more)
    }

    /// Deliveries of a publisher's first `sent` messages that never came.
    pub(super) fn lost(&self, publisher: usize, sent: u64, flows: &[Flow]) -> u64 {
        self.flows_of(publisher).map(|flow| flows[flow].lost(self.due(publisher, flow, sent))).sum()
    }

    /// How many subscribers get a message, where the window is counted in deliveries (wild, shared): there the
    /// numbers that one subscriber has seen say nothing of the others'.
    pub(super) fn copies(&self) -> Option<u64> {
        match self.shape {
            Shape::Wild => Some((self.subscribers.len() / wild::SUBSCRIBERS * wild::COPIES) as u64),
            Shape::Shared => Some(1),
            Shape::Fanout | Shape::Fanin | Shape::Pairs => None,
        }
    }

    /// The last levels of a message's topic, where they change from one to the next.
    #[inline]
    pub(super) fn levels(&self, publisher: u32, number: u64) -> Option<[u8; 4]> {
        (self.shape == Shape::Wild).then(|| wild::levels(publisher, number))
    }

    /// Whether one publisher's messages have an order at all: those of a group of subscribers have none.
    pub(super) fn is_ordered(&self) -> bool {
        self.shape != Shape::Shared
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: BenchOptions,
    }

    fn plan(line: &str) -> Plan {
        let options = Line::parse_from(format!("bench {line}").split_whitespace()).options;
        options.check().unwrap();
        Plan::new(&options, 2, 7)
    }

    fn stamp(publisher: u32, number: u64) -> Stamp {
        Stamp { publisher, number, sent: 0 }
    }

    /// Delivers everything that the plan wants; what is left over.
    fn deliver(plan: &Plan, sent: u64) -> (u64, u64) {
        let mut flows: Vec<Flow> = (0..plan.flows()).map(|_| Flow::default()).collect();
        let mut deliveries = 0;
        for number in 0..sent {
            for subscriber in 0..plan.subscribers.len() {
                if let Some((flow, number)) = plan.flow(subscriber, stamp(1, number)) {
                    assert!(plan.flows_of(1).contains(&flow));
                    assert!(flows[flow].on_message(number));
                    deliveries += 1;
                }
            }
        }
        assert_eq!(flows.iter().map(Flow::out_of_order).sum::<u64>(), 0);
        assert_eq!(plan.lost(1, sent, &flows), 0);
        (deliveries, plan.lost(1, sent + 1, &flows))
    }

    #[test]
    fn wild_delivers_five_of_each_in_order() {
        let plan = plan("wild");
        assert_eq!((plan.subscribers.len(), plan.publishers.len(), plan.copies()), (500, 10, Some(5)));
        assert_eq!(deliver(&plan, 1_234), (1_234 * 5, 5));
    }

    #[test]
    fn shared_has_one_flow_for_a_publisher_whoever_gets_it() {
        let plan = plan("shared --subs 3");
        assert_eq!(plan.subscribers[2].filters, ["$share/g/bench/7/0"]);
        assert_eq!(plan.flow(0, stamp(4, 9)), plan.flow(2, stamp(4, 9)));
        assert_eq!((plan.copies(), plan.is_ordered()), (Some(1), false));
    }

    #[test]
    fn pairs_have_their_own() {
        let plan = plan("pairs --pubs 3 --qos 2");
        assert_eq!((plan.subscribers[1].server, plan.publishers[1].server), (0, 1));
        assert_eq!(deliver(&plan, 9), (9, 1));
        assert_eq!(plan.flow(2, stamp(1, 0)), None);
        assert_eq!(plan.flow(2, stamp(3, 0)), None);
    }
}
