//! How what a peer has is copied: what to ask it next, as its answers come.

use std::collections::VecDeque;

use super::{Digests, differing};
use crate::ids::BrokerId;

/// What to ask the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The digests of the brokers after this one.
    Digests(Option<BrokerId>),
    /// Records of one broker.
    Records {
        /// The broker.
        broker: BrokerId,
        /// The buckets, as a mask.
        buckets: u64,
        /// After this topic.
        after: Option<String>,
    },
}

/// What a peer had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its word that it has all that it ever promised, at every answer.
    pub sound: bool,
    /// What became of its records.
    pub took: Took,
}

/// What became of copied records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// None was a message that a tombstone here removes.
    pub agrees: bool,
    /// One was a message that this node lacked.
    pub gained: bool,
}

/// What follows an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another question.
    Ask(Ask),
    /// The peer has nothing more.
    Done(Copied),
}

/// A comparison with one peer, from the first question to the last answer. Whoever fails to get an answer, or refuses a
/// record of it, begins another.
#[derive(Debug)]
pub struct Comparison {
    copied: Copied,
    /// Brokers of the last answer that differ, and where: the first one is asked for.
    differ: VecDeque<(BrokerId, u64)>,
    /// Where the next digests begin, if there are more.
    more: Option<BrokerId>,
}

impl Comparison {
    /// A comparison, and the first question.
    pub fn begin() -> (Self, Ask) {
        let copied = Copied { sound: true, took: Took { agrees: true, gained: false } };
        (Self { copied, differ: VecDeque::new(), more: None }, Ask::Digests(None))
    }

    /// Digests came; `more` brokers follow, and `sound` is the peer's word. `ours` gives those of this node.
    pub fn on_digests(
        &mut self,
        theirs: &[(BrokerId, Digests)],
        more: bool,
        sound: bool,
        ours: impl Fn(BrokerId) -> Digests,
    ) -> Next {
        self.copied.sound &= sound;
        self.more = theirs.last().map(|(last, _)| *last).filter(|_| more);
        let masks = theirs.iter().map(|(broker, digests)| (*broker, differing(&ours(*broker), digests)));
        self.differ.extend(masks.filter(|(_, mask)| *mask != 0));
        self.next(None)
    }

    /// Records came, and `took` says what became of them. `after`: where the next ones begin, if there are more.
    pub fn on_records(&mut self, took: Took, after: Option<String>) -> Next {
        self.copied.took.agrees &= took.agrees;
        self.copied.took.gained |= took.gained;
        if after.is_none() {
            self.differ.pop_front();
        }
        self.next(after)
    }

    fn next(&mut self, after: Option<String>) -> Next {
        if let Some((broker, buckets)) = self.differ.front().copied() {
            return Next::Ask(Ask::Records { broker, buckets, after });
        }
        match self.more.take() {
            Some(broker) => Next::Ask(Ask::Digests(Some(broker))),
            None => Next::Done(self.copied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retained::BUCKETS;

    fn sums(at: usize) -> Digests {
        let mut sums = [0; BUCKETS];
        sums[at] = 9;
        sums
    }

    #[test]
    fn it_asks_for_all_that_differs_page_by_page() {
        let ours = |broker: BrokerId| if broker == BrokerId(2) { sums(2) } else { [0; BUCKETS] };
        let of = |broker, buckets, after: Option<&str>| {
            Next::Ask(Ask::Records { broker: BrokerId(broker), buckets, after: after.map(str::to_owned) })
        };
        let (mut it, first) = Comparison::begin();
        assert_eq!(first, Ask::Digests(None));
        let page = [(BrokerId(1), sums(0)), (BrokerId(2), sums(2)), (BrokerId(3), sums(5))];
        assert_eq!(it.on_digests(&page, true, true, ours), of(1, 1, None));
        let took = |agrees, gained| Took { agrees, gained };
        assert_eq!(it.on_records(took(true, true), Some("t".into())), of(1, 1, Some("t")));
        assert_eq!(it.on_records(took(false, false), None), of(3, 32, None));
        assert_eq!(it.on_records(took(true, false), None), Next::Ask(Ask::Digests(Some(BrokerId(3)))));
        let done = Next::Done(Copied { sound: false, took: took(false, true) });
        assert_eq!(
            it.on_digests(&[], true, false, ours),
            done,
            "a peer that has no more and says it does is not asked for ever"
        );
    }

    #[test]
    fn equal_tables_ask_once() {
        let (mut it, _) = Comparison::begin();
        let done = Next::Done(Copied { sound: true, took: Took { agrees: true, gained: false } });
        assert_eq!(it.on_digests(&[(BrokerId(1), sums(3))], false, true, |_| sums(3)), done);
    }
}
