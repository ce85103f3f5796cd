//! What is a topic name, what is a topic filter, and which of them match.

/// Longest topic name or filter, bytes: what a UTF-8 string of MQTT can hold (§1.5.4).
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Most levels of a filter. MQTT sets no bound; the index walks one call deeper for each level, so a filter of
/// 65,535 slashes would exhaust the stack. Topic names are not bounded: the walk ends where the filters end.
pub const MAX_FILTER_LEVELS: usize = 200;

/// Why a text is no topic name or filter. Always the sender's fault; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is required (MQTT-4.7.3-1).
    #[error("the topic is empty")]
    Empty,
    /// Longer than [`MAX_TOPIC_BYTES`] (MQTT-4.7.3-3).
    #[error("the topic is longer than 65535 bytes")]
    TooLong,
    /// U+0000 occurs (MQTT-4.7.3-2).
    #[error("the topic contains a null character")]
    Nul,
    /// `+` or `#` in a topic name (MQTT-3.3.2-2).
    #[error("a topic name contains a wildcard")]
    WildcardInName,
    /// `#` that is not the whole last level, or `+` that is not a whole level (MQTT-4.7.1-1, MQTT-4.7.1-2).
    #[error("a wildcard is not a whole level, or # is not the last")]
    MisplacedWildcard,
    /// `$share` without a name and a filter, or with a wildcard in the name (MQTT-4.8.2-1, MQTT-4.8.2-2).
    #[error("a shared subscription is not $share/name/filter")]
    BadShare,
    /// More than [`MAX_FILTER_LEVELS`] levels: a bound of this service.
    #[error("the filter has more than 200 levels")]
    TooManyLevels,
}

/// A filter of a SUBSCRIBE, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedFilter<'a> {
    /// The group of a shared subscription.
    pub share: Option<&'a str>,
    /// The filter that topic names are matched against, without the `$share` prefix.
    pub filter: &'a str,
}

/// Checks the topic name of a PUBLISH or a will.
///
/// # Errors
/// Names the rule that `topic` breaks.
pub fn validate_topic(topic: &str) -> Result<(), TopicError> {
    bounded(topic)?;
    if topic.bytes().any(|b| b == b'+' || b == b'#') {
        return Err(TopicError::WildcardInName);
    }
    Ok(())
}

/// Checks the topic filter of a SUBSCRIBE or UNSUBSCRIBE and splits off `$share/name/`.
///
/// # Errors
/// Names the rule that `filter` breaks.
pub fn validate_filter(filter: &str) -> Result<ParsedFilter<'_>, TopicError> {
    bounded(filter)?;
    let parsed = split_share(filter)?;
    let mut levels = 0;
    let mut ended = false;
    for level in parsed.filter.split('/') {
        levels += 1;
        let wild = level.bytes().any(|b| b == b'+' || b == b'#');
        if ended || (wild && level.len() != 1) {
            return Err(TopicError::MisplacedWildcard);
        }
        ended = level == "#";
    }
    if levels > MAX_FILTER_LEVELS {
        return Err(TopicError::TooManyLevels);
    }
    Ok(parsed)
}

/// Whether a valid `filter` (no `$share` prefix) matches a valid topic name.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) | ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
        if level == "#" {
            return true;
        }
    }
    names.next().is_none()
}

fn bounded(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    if text.bytes().any(|b| b == 0) {
        return Err(TopicError::Nul);
    }
    Ok(())
}

fn split_share(text: &str) -> Result<ParsedFilter<'_>, TopicError> {
    let Some(rest) = text.strip_prefix("$share") else {
        return Ok(ParsedFilter { share: None, filter: text });
    };
    // `$shared` and the like are ordinary first levels.
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() {
            Err(TopicError::BadShare)
        } else {
            Ok(ParsedFilter { share: None, filter: text })
        };
    };
    let (name, filter) = rest.split_once('/').ok_or(TopicError::BadShare)?;
    if name.is_empty() || name.contains(['+', '#']) || filter.is_empty() {
        return Err(TopicError::BadShare);
    }
    Ok(ParsedFilter { share: Some(name), filter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        for good in ["a", "/", "//", "a/b c/é", "$SYS/x", "/finance", "a/"] {
            assert_eq!(validate_topic(good), Ok(()), "{good}");
        }
        assert_eq!(validate_topic(""), Err(TopicError::Empty));
        assert_eq!(validate_topic("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(validate_topic("a#"), Err(TopicError::WildcardInName));
        assert_eq!(validate_topic("a\0b"), Err(TopicError::Nul));
        assert_eq!(validate_topic(&"a".repeat(65_535)), Ok(()));
        assert_eq!(validate_topic(&"a".repeat(65_536)), Err(TopicError::TooLong));
    }

    #[test]
    fn filters() {
        for good in ["#", "+", "a/#", "+/+", "/+", "+/", "a//b", "sport/+/player1", "$SYS/#", "$shared/x", "$sharex"] {
            assert_eq!(validate_filter(good), Ok(ParsedFilter { share: None, filter: good }), "{good}");
        }
        for bad in ["a#", "#a", "a/#/b", "#/", "##", "sport+", "a/+b", "a/b+/c", "++"] {
            assert_eq!(validate_filter(bad), Err(TopicError::MisplacedWildcard), "{bad}");
        }
        assert_eq!(validate_filter(""), Err(TopicError::Empty));
        assert_eq!(validate_filter("a/\0"), Err(TopicError::Nul));
        assert!(validate_filter(&"/".repeat(199)).is_ok());
        assert_eq!(validate_filter(&"/".repeat(200)), Err(TopicError::TooManyLevels));
    }

    #[test]
    fn shared_filters() {
        assert_eq!(validate_filter("$share/g/a/+"), Ok(ParsedFilter { share: Some("g"), filter: "a/+" }));
        assert_eq!(validate_filter("$share/g//"), Ok(ParsedFilter { share: Some("g"), filter: "/" }));
        assert_eq!(validate_filter("$share/g/$SYS/#"), Ok(ParsedFilter { share: Some("g"), filter: "$SYS/#" }));
        for bad in ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"] {
            assert_eq!(validate_filter(bad), Err(TopicError::BadShare), "{bad}");
        }
        assert_eq!(validate_filter("$share/g/a#"), Err(TopicError::MisplacedWildcard));
    }

    #[test]
    fn examples_of_the_standard() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/#", "ab", false),
            ("a", "A", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
