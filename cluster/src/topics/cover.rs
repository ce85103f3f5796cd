//! Whether one filter includes another.

use super::grammar::ParsedFilter;

/// Whether every topic name that `inner` matches is matched by `outer` too. Both are valid filters; of `inner` what
/// counts is the filter without `$share/name/`, `outer` has no such prefix. A leading wildcard of `outer` never covers
/// what begins with `$` (MQTT-4.7.2-1). Allocates nothing.
pub fn covers(outer: &str, inner: &ParsedFilter<'_>) -> bool {
    let inner = inner.filter;
    if outer.starts_with(['+', '#']) && inner.starts_with('$') {
        return false;
    }
    // Alone, `#` stands for one level or more, as every topic has one; behind a level, for none or more.
    if inner == "#" {
        return outer == "#" || outer == "+/#";
    }
    // The level before this `#` is the empty text, which is no topic name by itself.
    if inner == "/#" {
        return matches!(outer, "#" | "+/#" | "+/+/#" | "/#" | "/+/#");
    }
    let mut levels = inner.split('/');
    for level in outer.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(within)) if within != "#" => {}
            // A `+` and a `#` equal no other text, so they are covered by themselves alone.
            (level, Some(within)) if level == within => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topics::{matches, validate_filter};

    fn covered(outer: &str, inner: &str) -> bool {
        covers(outer, &validate_filter(inner).unwrap())
    }

    #[test]
    fn by_hand() {
        for (outer, inner, expected) in [
            ("#", "a", true),
            ("#", "+/b", true),
            ("#", "#", true),
            ("+/#", "#", true),
            ("+/+", "#", false),
            ("+", "#", false),
            ("+", "+", true),
            ("a/#", "a", true),
            ("a/#", "a/+/#", true),
            ("a/+/#", "a/#", false),
            ("a/+", "a/#", false),
            ("a/+", "a/b", true),
            ("a/b", "a/+", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("+/b", "a/b", true),
            ("#", "$SYS/#", false),
            ("+/#", "$SYS/x", false),
            ("$SYS/#", "$SYS/+/x", true),
            ("$SYS/#", "#", false),
            ("$SYS/+", "$SYS/x", true),
            ("#", "$share/g/a/+", true),
            ("a/#", "$share/g/b", false),
            ("#", "$share/g/$SYS/x", false),
            ("$SYS/#", "$share/g/$SYS/x", true),
            ("+", "", false),
            ("a/", "a/", true),
            ("/+/#", "/#", true),
            ("+/+/#", "/#", true),
            ("/+", "/#", false),
            ("a/+", "a/", true),
        ] {
            if !inner.is_empty() {
                assert_eq!(covered(outer, inner), expected, "{outer} {inner}");
            }
        }
    }

    /// All topic names of up to four levels; `z` is in no filter, so it stands for all other texts.
    fn topics() -> Vec<String> {
        let levels = ["a", "b", "", "z", "$s"];
        let mut all: Vec<String> = Vec::new();
        let mut last: Vec<String> = levels.iter().map(ToString::to_string).collect();
        for _ in 0..4 {
            all.extend(last.iter().filter(|topic| !topic.is_empty()).cloned());
            last = last.iter().flat_map(|head| levels.map(|level| format!("{head}/{level}"))).collect();
        }
        all
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "+", "$s"]);
        (prop::collection::vec(level, 0..=3), any::<bool>())
            .prop_map(|(mut levels, all)| {
                if all || levels.is_empty() {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("not empty", |filter| !filter.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_matching_every_topic(outer in filters(), inner in filters()) {
            let all = topics();
            let naive = all.iter().filter(|topic| matches(&inner, topic)).all(|topic| matches(&outer, topic));
            prop_assert_eq!(covered(&outer, &inner), naive, "{} {}", outer, inner);
            let shared = format!("$share/g/{inner}");
            prop_assert_eq!(covered(&outer, &shared), naive);
        }
    }
}
