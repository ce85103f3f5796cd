use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{matches, validate_filter, validate_topic};
use super::Index;

fn found(index: &Index<u32, ()>, topic: &str) -> Vec<u32> {
    let mut keys = Vec::new();
    index.for_each_match(topic, |key, ()| keys.push(*key));
    keys.sort_unstable();
    keys
}

/// As the standard words it, level by level.
fn naive(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && naive(filter, topic),
        _ => false,
    }
}

fn naive_matches(filter: &str, topic: &str) -> bool {
    let hidden = topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    !hidden && naive(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

#[test]
fn entries_come_and_go() {
    let mut index = Index::new(1);
    assert!(index.is_empty());
    assert_eq!(index.insert("a/+/#", 1, "one"), None);
    assert_eq!(index.insert("a/+/#", 1, "uno"), Some("one"));
    assert_eq!(index.insert("a/+/#", 2, "two"), None);
    assert_eq!(index.insert("#", 1, "all"), None);
    assert_eq!(index.insert("a//", 3, "three"), None);
    assert_eq!(index.len(), 4);
    assert_eq!(index.filters(), ["#", "a/+/#", "a//"]);
    assert_eq!(index.get("a/+/#", &1), Some(&"uno"));
    assert_eq!(index.get("a/+", &1), None);
    assert_eq!(index.get("#", &1), Some(&"all"));
    assert_eq!(index.remove("a/+", &1), None);
    assert_eq!(index.remove("a/+/#", &7), None);
    assert_eq!(index.remove("a/+/#", &1), Some("uno"));
    assert_eq!(index.remove("a/+/#", &2), Some("two"));
    assert_eq!(index.remove("#", &1), Some("all"));
    assert_eq!(index.remove("a//", &3), Some("three"));
    assert!(index.is_empty());
    assert!(index.root.is_empty(), "empty nodes were pruned");
}

#[test]
fn a_key_comes_once_for_each_matching_filter() {
    let mut index = Index::new(1);
    for filter in ["a/b", "a/+", "a/#", "#", "+/b", "a/b/#", "b/#", "a"] {
        index.insert(filter, 1, ());
    }
    assert_eq!(found(&index, "a/b"), [1; 6]);
    assert_eq!(found(&index, "a"), [1; 3]);
    assert_eq!(found(&index, "$a/b"), [0; 0]);
}

#[test]
fn long_topics_cost_no_stack() {
    let mut index = Index::new(1);
    index.insert("#", 1, ());
    index.insert(&"/".repeat(199), 2, ());
    assert_eq!(found(&index, &"/".repeat(65_535)), [1]);
    assert_eq!(found(&index, &"/".repeat(199)), [1, 2]);
}

fn level(wild: bool) -> impl Strategy<Value = &'static str> {
    let names: &[&str] = if wild { &["", "a", "b", "$a", "$", "+", "+"] } else { &["", "a", "b", "$a", "$"] };
    proptest::sample::select(names.to_vec())
}

fn topic() -> impl Strategy<Value = String> {
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
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn index_agrees_with_naive_matching(
        steps in proptest::collection::vec((filter(), 0u32..4, any::<bool>()), 0..200),
        topics in proptest::collection::vec(topic(), 100),
        seed: u64,
    ) {
        let mut index = Index::new(seed);
        let mut model: BTreeMap<(String, u32), ()> = BTreeMap::new();
        for (filter, key, add) in steps {
            prop_assert_eq!(validate_filter(&filter).map(|f| f.filter), Ok(&*filter));
            if add {
                prop_assert_eq!(index.insert(&filter, key, ()), model.insert((filter, key), ()));
            } else {
                prop_assert_eq!(index.remove(&filter, &key), model.remove(&(filter, key)));
            }
        }
        prop_assert_eq!(index.len(), model.len());
        let mut filters: Vec<&str> = model.keys().map(|(filter, _)| &**filter).collect();
        filters.dedup();
        prop_assert_eq!(index.filters(), filters);
        for topic in topics {
            prop_assert_eq!(validate_topic(&topic), Ok(()));
            let mut expected: Vec<u32> =
                model.keys().filter(|(filter, _)| naive_matches(filter, &topic)).map(|(_, key)| *key).collect();
            expected.sort_unstable();
            prop_assert_eq!(found(&index, &topic), expected);
            for (filter, _) in model.keys() {
                prop_assert_eq!(matches(filter, &topic), naive_matches(filter, &topic));
            }
        }
        for (filter, key) in model.keys() {
            index.remove(filter, key);
        }
        prop_assert!(index.root.is_empty());
    }
}
