//! Filters and topic names: the index, the plain definition and the order among filters must agree.

use rookery_cluster::topics::{Index, ParsedFilter, covers, matches, validate_filter, validate_topic};

use super::{ensure, parts};

/// Most filters and most topics of one input that are looked at.
const MOST: usize = 12;

/// Texts between bytes 0xff: each is tried as a filter and as a topic.
pub fn run(input: &[u8]) -> Result<(), String> {
    let texts: Vec<&str> = parts(input).filter_map(|part| std::str::from_utf8(part).ok()).take(MOST).collect();
    let filters: Vec<ParsedFilter<'_>> = texts.iter().filter_map(|text| validate_filter(text).ok()).collect();
    let topics: Vec<&str> = texts.iter().copied().filter(|text| validate_topic(text).is_ok()).collect();
    let mut index = Index::new(7);
    for (key, filter) in filters.iter().enumerate() {
        index.insert(filter.filter, key, key);
    }
    ensure(index.len() == filters.len(), || format!("{} entries of {}", index.len(), filters.len()))?;
    for topic in &topics {
        let mut found = Vec::new();
        index.for_each_match(topic, |key, _| found.push(*key));
        found.sort_unstable();
        let expected: Vec<usize> = (0..filters.len()).filter(|key| matches(filters[*key].filter, topic)).collect();
        ensure(found == expected, || format!("{topic:?}: {found:?} found, {expected:?} match, of {filters:?}"))?;
        let exact = ParsedFilter { share: None, filter: topic };
        for filter in &filters {
            let (one, other) = (covers(filter.filter, &exact), matches(filter.filter, topic));
            ensure(one == other, || format!("{filter:?} and {topic:?}: covers {one}, matches {other}"))?;
        }
    }
    ordered(&filters, &topics)?;
    for (key, filter) in filters.iter().enumerate() {
        ensure(index.remove(filter.filter, &key) == Some(key), || format!("{filter:?} was not in the index"))?;
    }
    ensure(index.is_empty() && index.filters().is_empty(), || "the index is not empty".to_owned())
}

/// What a filter covers matches no more than it.
fn ordered(filters: &[ParsedFilter<'_>], topics: &[&str]) -> Result<(), String> {
    for outer in filters {
        for inner in filters.iter().filter(|inner| covers(outer.filter, inner)) {
            let wrong = topics.iter().find(|topic| matches(inner.filter, topic) && !matches(outer.filter, topic));
            ensure(wrong.is_none(), || format!("{outer:?} covers {inner:?} but does not match {wrong:?}"))?;
        }
    }
    Ok(())
}

/// Filters of every shape, with topics.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts =
        ["a/b/c\u{0}", "a", "a/b", "a//b", "/", "$SYS/x", "$share/g/a/+", "+", "#", "a/#", "+/b", "a/+/c", "$x/#"];
    let join = |texts: &[&str]| texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().join(&0xff);
    let long = [&"a/".repeat(198)[..], &"+/".repeat(199), &"/".repeat(300)];
    vec![join(&texts), join(&texts[5..]), join(&long), join(&["a/b", "+/+", "a/b/#", "a/#", "a/b/+", "#"])]
}
