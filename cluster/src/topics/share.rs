//! Which member of a shared subscription gets a message (MQTT 5.0 §4.8.2).

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

/// How a broker chooses among the members of a shared subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ShareStrategy {
    /// One near the publisher: of its worker, else of its node, else of the cluster; in turns among equals.
    #[default]
    Local,
    /// All in turns. Members elsewhere count as one for each worker of this node and each other node.
    RoundRobin,
    /// One publisher's messages go to one member, as long as that one can take them.
    HashClient,
    /// Messages of one topic go to one member, as long as that one can take them.
    HashTopic,
}

impl ShareStrategy {
    /// The number by which other nodes know it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Local => 0,
            Self::RoundRobin => 1,
            Self::HashClient => 2,
            Self::HashTopic => 3,
        }
    }

    /// The strategy of a number. One that this version does not know is as [`ShareStrategy::Local`]: some member gets
    /// the message.
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::RoundRobin,
            2 => Self::HashClient,
            3 => Self::HashTopic,
            _ => Self::Local,
        }
    }
}

/// Where a candidate is, seen from the worker that chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A member at this worker.
    Worker,
    /// Another worker of this node, which has members.
    Node,
    /// Another node, which has members.
    Cluster,
}

/// How well a candidate can take a message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readiness {
    /// It gets it at once, or there is credit towards it.
    Open,
    /// It has room where the message waits.
    Waiting,
    /// Only once others made room.
    Crowded,
    /// It waits there for its client to come back.
    Offline,
    /// It would be dropped there.
    Full,
}

/// Somebody who could get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<T> {
    /// Who it is.
    pub who: T,
    /// Where.
    pub place: Place,
    /// How well.
    pub readiness: Readiness,
    /// Node, worker (0 for another node) and client (0 but for a member), hashed with [`mix`]: the same for whoever
    /// chooses, so that all who choose by hash agree.
    pub names: [u64; 3],
}

/// What a choice rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How.
    pub strategy: ShareStrategy,
    /// What is hashed: the publisher or the topic.
    pub key: u64,
}

/// The best of `candidates`, which come in the order in which it is their turn. Those within `scope` come first: who was
/// told to choose for its node looks further only when nobody is there any more. `turn` is a counter: round robin goes
/// by it between members and the rest, of which there are `members` and `others`.
pub fn choose<T: Copy>(
    choice: Choice,
    scope: Place,
    (members, others, turn): (usize, usize, usize),
    candidates: impl Iterator<Item = Candidate<T>>,
) -> Option<T> {
    let own_turn = turn.checked_rem(members + others).is_none_or(|turn| turn < members);
    let rank = |candidate: &Candidate<T>| match choice.strategy {
        ShareStrategy::Local => near(candidate.place, candidate.readiness),
        ShareStrategy::RoundRobin => in_turn(candidate.place, candidate.readiness, own_turn),
        ShareStrategy::HashClient | ShareStrategy::HashTopic => match candidate.readiness {
            Readiness::Full => 2,
            Readiness::Offline => 1,
            _ => 0,
        },
    };
    let hashed = matches!(choice.strategy, ShareStrategy::HashClient | ShareStrategy::HashTopic);
    let mut best: Option<(bool, u8, Reverse<[u64; 3]>, T)> = None;
    for candidate in candidates {
        let score = if hashed {
            candidate.names.map(|name| if name == 0 { 0 } else { mix(name ^ choice.key) })
        } else {
            [0; 3]
        };
        let order = (candidate.place > scope, rank(&candidate), Reverse(score));
        if best.as_ref().is_none_or(|(outside, rank, score, _)| order < (*outside, *rank, *score)) {
            best = Some((order.0, order.1, order.2, candidate.who));
        }
        if !hashed && (order.0, order.1) == (false, 0) {
            break;
        }
    }
    best.map(|(.., who)| who)
}

/// A member that can take it, else the node's others, else a member whose queue has room, else another node.
fn near(place: Place, readiness: Readiness) -> u8 {
    match (place, readiness) {
        (Place::Worker, Readiness::Open) => 0,
        (Place::Node, Readiness::Open) => 1,
        (Place::Worker, Readiness::Waiting) => 2,
        (Place::Node, Readiness::Waiting) => 3,
        (Place::Cluster, Readiness::Open) => 4,
        (Place::Cluster, Readiness::Waiting) => 5,
        (_, Readiness::Crowded) => 6,
        (_, Readiness::Offline) => 7,
        (Place::Worker, Readiness::Full) => 8,
        (_, Readiness::Full) => 9,
    }
}

fn in_turn(place: Place, readiness: Readiness, own_turn: bool) -> u8 {
    let others = u8::from((place == Place::Worker) != own_turn);
    match readiness {
        Readiness::Open => others,
        Readiness::Waiting => 2 + others,
        Readiness::Crowded => 4,
        Readiness::Offline => 5,
        Readiness::Full => 6,
    }
}

/// Spreads `x` over all 64 bits, the same on every node (not secret: do not use it for a table of clients' names).
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A text's hash, the same on every node; not 0.
pub fn name_hash(text: &str) -> u64 {
    let bytes = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(bytes) | 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(who: u32, place: Place, readiness: Readiness) -> Candidate<u32> {
        Candidate { who, place, readiness, names: [1, 1, u64::from(who) + 1] }
    }

    fn pick(strategy: ShareStrategy, scope: Place, turn: usize, candidates: &[Candidate<u32>]) -> Option<u32> {
        let members = candidates.iter().filter(|c| c.place == Place::Worker).count();
        let counts = (members, candidates.len() - members, turn);
        choose(Choice { strategy, key: 7 }, scope, counts, candidates.iter().copied())
    }

    #[test]
    fn local_goes_outward_and_only_when_it_must() {
        use Place::{Cluster, Node, Worker};
        use Readiness::{Crowded, Full, Open, Waiting};
        let local = |candidates: &[Candidate<u32>]| pick(ShareStrategy::Local, Cluster, 0, candidates);
        assert_eq!(local(&[at(1, Cluster, Open), at(2, Node, Open), at(3, Worker, Open)]), Some(3));
        assert_eq!(local(&[at(1, Cluster, Open), at(2, Node, Open), at(3, Worker, Waiting)]), Some(2));
        assert_eq!(local(&[at(1, Cluster, Open), at(2, Node, Crowded), at(3, Worker, Waiting)]), Some(3));
        assert_eq!(local(&[at(1, Cluster, Open), at(2, Node, Crowded), at(3, Worker, Full)]), Some(1));
        assert_eq!(local(&[at(1, Cluster, Crowded), at(3, Worker, Full)]), Some(1));
        assert_eq!(local(&[at(1, Cluster, Full), at(3, Worker, Full)]), Some(3));
        assert_eq!(local(&[]), None);
    }

    #[test]
    fn who_chooses_for_its_node_looks_further_only_when_nobody_is_there() {
        use Place::{Cluster, Node, Worker};
        use Readiness::{Full, Open};
        for strategy in [ShareStrategy::Local, ShareStrategy::RoundRobin, ShareStrategy::HashClient] {
            for turn in 0..3 {
                let all = [at(1, Cluster, Open), at(2, Node, Open), at(3, Worker, Full)];
                assert_eq!(pick(strategy, Worker, turn, &all), Some(3), "{strategy:?}");
                assert_eq!(pick(strategy, Node, turn, &all), Some(2), "{strategy:?}");
                assert_eq!(pick(strategy, Worker, turn, &all[..1]), Some(1), "{strategy:?}");
            }
        }
    }

    #[test]
    fn round_robin_gives_each_of_the_places_its_turn() {
        use Readiness::Open;
        let all = [at(1, Place::Worker, Open), at(2, Place::Cluster, Open), at(3, Place::Node, Open)];
        let got: Vec<_> =
            (0..3).filter_map(|turn| pick(ShareStrategy::RoundRobin, Place::Cluster, turn, &all)).collect();
        assert_eq!(got, [1, 2, 2], "the order among the others is the caller's");
    }

    proptest! {
        #[test]
        fn a_hash_moves_only_what_the_leaver_had(keys in proptest::collection::vec(any::<u64>(), 100), n in 2u32..9) {
            let all: Vec<_> = (0..n).map(|who| at(who, Place::Worker, Readiness::Open)).collect();
            for key in keys {
                let choice = Choice { strategy: ShareStrategy::HashTopic, key };
                let with = choose(choice, Place::Cluster, (all.len(), 0, 0), all.iter().copied());
                let without = choose(choice, Place::Cluster, (all.len() - 1, 0, 0), all[1..].iter().copied());
                prop_assert!(with == without || with == Some(0));
            }
        }
    }
}
