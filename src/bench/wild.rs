//! Who gets what with wildcards: 10,000 topics of four one-digit levels and 5,000 different filters, of which each
//! topic matches five, at five subscribers.
//!
//! A publisher goes through the topics in rounds of 100 in which every subscriber gets exactly one message, so that
//! each subscriber can tell what is missing from a publisher's numbers.

/// Subscribers among whom each topic is wanted by `COPIES`; their number is a multiple of it.
pub(super) const SUBSCRIBERS: usize = 500;
/// Filters of a subscriber.
const FILTERS: u64 = 10;
/// How many of `SUBSCRIBERS` get a message.
pub(super) const COPIES: usize = 5;
/// Messages of a round. There are as many different rounds.
pub(super) const ROUND: u64 = 100;
/// Publishers begin this many rounds apart, so that they do not march on the same topics.
const APART: u64 = 37;

/// A subscriber's filters below `prefix`. One of five kinds: a `+` at one of the levels, or a `#` at the last. Two
/// of the other digits are the subscriber's, the third goes from 0 to 9.
pub(super) fn filters(prefix: &str, subscriber: usize) -> Vec<String> {
    let (kind, x, y) = seat(subscriber);
    let filter = |k| match kind {
        0 => format!("{prefix}/+/{x}/{y}/{k}"),
        1 => format!("{prefix}/{x}/+/{y}/{k}"),
        2 => format!("{prefix}/{x}/{y}/+/{k}"),
        3 => format!("{prefix}/{x}/{y}/{k}/+"),
        _ => format!("{prefix}/{x}/{k}/{y}/#"),
    };
    (0..FILTERS).map(filter).collect()
}

/// The levels of the topic of a publisher's message, ASCII digits.
#[inline]
pub(super) fn levels(publisher: u32, number: u64) -> [u8; 4] {
    let (a, b) = round(publisher, number / ROUND);
    let (u, v) = (number % ROUND / 10, number % 10);
    [u, v, (u + v + a) % 10, (v + b) % 10].map(|digit| b'0' + digit as u8)
}

/// Which message of a publisher's round (by its number in the round) a subscriber gets: the one whose levels have
/// the subscriber's two digits in their places.
#[inline]
pub(super) fn position(subscriber: usize, publisher: u32, number_of_round: u64) -> u64 {
    let (kind, x, y) = seat(subscriber);
    let (a, _) = round(publisher, number_of_round);
    let rest = (20 + y - x - a) % 10;
    match kind {
        0 => rest * 10 + x,
        2 | 3 => x * 10 + y,
        _ => x * 10 + rest,
    }
}

fn seat(subscriber: usize) -> (u64, u64, u64) {
    let n = (subscriber % SUBSCRIBERS) as u64;
    (n / 100, n / 10 % 10, n % 10)
}

fn round(publisher: u32, number_of_round: u64) -> (u64, u64) {
    let n = number_of_round + APART * u64::from(publisher);
    (n / 10 % 10, n % 10)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rookery_cluster::topics::matches;

    use super::*;

    #[test]
    fn every_filter_and_every_topic_of_a_cycle_is_different() {
        let all: BTreeSet<_> = (0..SUBSCRIBERS).flat_map(|subscriber| filters("w", subscriber)).collect();
        assert_eq!(all.len(), 5_000);
        for publisher in [0, 9] {
            let topics: BTreeSet<_> = (700..10_700).map(|number| levels(publisher, number)).collect();
            assert_eq!(topics.len(), 10_000);
        }
    }

    #[test]
    fn a_topic_matches_the_filters_of_those_whose_turn_it_is() {
        for (publisher, number) in (0..10_000).step_by(331).map(|n| (n as u32 % 10, n)) {
            let [a, b, c, d] = levels(publisher, number).map(char::from);
            let topic = format!("w/{a}/{b}/{c}/{d}");
            let wanted: Vec<usize> = (0..SUBSCRIBERS)
                .flat_map(|subscriber| filters("w", subscriber).into_iter().map(move |filter| (subscriber, filter)))
                .filter_map(|(subscriber, filter)| matches(&filter, &topic).then_some(subscriber))
                .collect();
            let turn = |&subscriber: &usize| position(subscriber, publisher, number / ROUND) == number % ROUND;
            assert_eq!(wanted, (0..SUBSCRIBERS).filter(turn).collect::<Vec<_>>(), "{topic}");
            assert_eq!(wanted.len(), COPIES);
        }
    }
}
