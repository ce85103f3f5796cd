//! From a filter to the topics that it matches, among sorted ones.
//!
//! Topics are sorted with `/` as U+0000, which no topic contains: then a topic stands right before all that is below
//! it, and what is below it stands together. So wherever a topic does not match, the filter tells the first one after
//! it that might, and all between are skipped: a filter costs about as many steps as there are topics that match and
//! levels that `+` stands for, not as many as there are topics.

/// What a separator is in a key. Lower than any character of a level.
const SEPARATOR: char = '\0';

/// A topic as it is sorted.
pub(super) fn key(topic: &str) -> String {
    topic.replace('/', "\0")
}

/// The topic of a key.
pub(super) fn topic(key: &str) -> String {
    key.replace(SEPARATOR, "/")
}

/// A valid filter, without a `$share` prefix, taken apart.
pub(super) struct Filter<'a> {
    levels: Vec<&'a str>,
    /// Whether it ends with `#`.
    multi: bool,
}

/// What a key is to a filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Match,
    /// It does not match, nor does anything between it and this (inclusive) key.
    Seek(String),
    /// Nothing from here on matches.
    End,
}

impl<'a> Filter<'a> {
    pub(super) fn new(filter: &'a str) -> Self {
        let mut levels: Vec<&str> = filter.split('/').collect();
        let multi = levels.last() == Some(&"#");
        if multi {
            levels.pop();
        }
        Self { levels, multi }
    }

    /// Where matching topics begin: after the levels before the first wildcard.
    pub(super) fn start(&self) -> String {
        let literal: Vec<&str> = self.levels.iter().copied().take_while(|level| *level != "+").collect();
        literal.join("\0")
    }

    pub(super) fn judge(&self, key: &str) -> Verdict {
        // §4.7.2: a leading wildcard does not match a topic that begins with `$`.
        if key.starts_with('$') && self.levels.first().is_none_or(|first| *first == "+") {
            return Verdict::Seek("%".into());
        }
        // The end of the part of the key that the last `+` and all before it have matched.
        let mut plus = None;
        let mut at = 0;
        for (depth, level) in self.levels.iter().enumerate() {
            if at > key.len() {
                // The key ends before the filter does: what might match is below it.
                let next = if *level == "+" { "" } else { *level };
                return Verdict::Seek(format!("{key}{SEPARATOR}{next}"));
            }
            let rest = &key[at..];
            let len = rest.find(SEPARATOR).unwrap_or(rest.len());
            if *level == "+" {
                plus = Some(at + len);
            } else if rest[..len] != **level {
                return match below(&rest[..len], level) {
                    true => Verdict::Seek(format!("{}{level}", &key[..at])),
                    false => after(key, plus),
                };
            }
            at += len + 1;
            debug_assert!(depth < self.levels.len());
        }
        if at > key.len() || self.multi { Verdict::Match } else { after(key, plus) }
    }
}

/// Whether a level comes before another in the order of keys: no level contains the separator, so the order of bytes.
fn below(level: &str, other: &str) -> bool {
    level < other
}

/// The first key after all below the part of `key` that ends at `plus`: the next one that `+` may stand for.
fn after(key: &str, plus: Option<usize>) -> Verdict {
    match plus {
        Some(end) => Verdict::Seek(format!("{}\u{1}", &key[..end])),
        None => Verdict::End,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::topics;

    fn found(keys: &BTreeSet<String>, filter: &str) -> (Vec<String>, usize) {
        let (filter, mut out, mut steps) = (Filter::new(filter), Vec::new(), 0);
        let mut from = filter.start();
        let mut inclusive = true;
        loop {
            let bound = if inclusive {
                std::ops::Bound::Included(from.clone())
            } else {
                std::ops::Bound::Excluded(from.clone())
            };
            let Some(key) = keys.range((bound, std::ops::Bound::Unbounded)).next() else { break };
            steps += 1;
            match filter.judge(key) {
                Verdict::Match => {
                    out.push(topic(key));
                    (from, inclusive) = (key.clone(), false);
                }
                Verdict::Seek(next) => {
                    assert!(next > *key, "it gets further");
                    (from, inclusive) = (next, true);
                }
                Verdict::End => break,
            }
        }
        (out, steps)
    }

    fn level(wild: bool) -> impl Strategy<Value = &'static str> {
        let names: &[&str] = if wild {
            &["", "a", "b", "a-", "$", "é", "+", "+", "+"]
        } else {
            &["", "a", "b", "a-", "$", "é", "\u{1}", "%"]
        };
        proptest::sample::select(names.to_vec())
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(level(false), 1..5).prop_map(|l| l.join("/")).prop_filter("empty", |t| !t.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        (proptest::collection::vec(level(true), 0..5), any::<bool>())
            .prop_map(|(mut levels, multi)| {
                if multi || levels.is_empty() {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("empty", |f| !f.is_empty())
    }

    proptest! {
        #[test]
        fn agrees_with_matching_each(names in proptest::collection::vec(name(), 0..60), filter in filter()) {
            let keys: BTreeSet<String> = names.iter().map(|t| key(t)).collect();
            let expected: Vec<String> = keys.iter().map(|k| topic(k)).filter(|t| topics::matches(&filter, t)).collect();
            prop_assert_eq!(found(&keys, &filter).0, expected);
        }
    }

    #[test]
    fn what_cannot_match_is_skipped() {
        let mut keys = BTreeSet::new();
        for a in 0..50 {
            for b in 0..200 {
                keys.insert(key(&format!("house/{a}/room/{b}")));
            }
        }
        let (got, steps) = found(&keys, "house/+/room/7");
        assert_eq!(got.len(), 50);
        assert!(steps <= 250, "{steps}");
        assert!(found(&keys, "house/7/room/7").1 <= 3);
        assert!(found(&keys, "barn/#").1 <= 1);
        assert!(found(&keys, "house/3").1 <= 2);
    }
}
