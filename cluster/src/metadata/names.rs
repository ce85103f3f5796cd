//! Names of namespaces and brokers: they become labels of a hostname (RFC 1035 §2.3.1).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest label of a domain name, bytes (RFC 1035 §2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// A valid label in lower case: letters, digits and hyphens, from a letter, to a letter or digit. Names are
/// case-insensitive, so the lower-case form is the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`]. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing there.
    #[error("a name must not be empty")]
    Empty,
    /// More than 63 bytes.
    #[error("a name has at most 63 characters")]
    TooLong,
    /// The first character is not a letter.
    #[error("a name starts with a letter (RFC 1035)")]
    Start,
    /// The last character is a hyphen.
    #[error("a name ends with a letter or digit (RFC 1035)")]
    End,
    /// Something else than a letter, digit or hyphen.
    #[error("a name has only letters, digits and hyphens (RFC 1035), not {0:?}")]
    Character(char),
}

impl Name {
    /// Checks `text` and takes its lower-case form.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bad = |c: &char| !c.is_ascii_alphanumeric() && *c != '-';
        if let Some(c) = text.chars().find(bad) {
            return Err(BadName::Character(c));
        }
        if text.len() > MAX_LABEL_BYTES {
            return Err(BadName::TooLong);
        }
        let Some(first) = text.chars().next() else { return Err(BadName::Empty) };
        if !first.is_ascii_alphabetic() {
            return Err(BadName::Start);
        }
        if text.ends_with('-') {
            return Err(BadName::End);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Sorts before every name.
    pub(super) fn least() -> Self {
        Self("".into())
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_of_rfc_1035() {
        assert_eq!(Name::parse("My-Namespace").unwrap().as_str(), "my-namespace");
        assert_eq!(Name::parse("a").unwrap().as_str(), "a");
        assert_eq!(Name::parse(&"a".repeat(63)).map(|n| n.as_str().len()), Ok(63));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(BadName::TooLong));
        assert_eq!(Name::parse(""), Err(BadName::Empty));
        assert_eq!(Name::parse("1a"), Err(BadName::Start));
        assert_eq!(Name::parse("-a"), Err(BadName::Start));
        assert_eq!(Name::parse("a-"), Err(BadName::End));
        assert_eq!(Name::parse("a.b"), Err(BadName::Character('.')));
        assert_eq!(Name::parse("a_b"), Err(BadName::Character('_')));
        assert_eq!(Name::parse("ä"), Err(BadName::Character('ä')));
    }

    proptest! {
        #[test]
        fn parsing_agrees_with_the_grammar(text in "[a-cA-C0-1_.-]{0,6}|[a-z]{60,66}") {
            let valid = regex_like(&text);
            prop_assert_eq!(Name::parse(&text).is_ok(), valid);
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(name.as_str(), text.to_lowercase());
                prop_assert_eq!(Name::parse(name.as_str()), Ok(name));
            }
        }
    }

    fn regex_like(text: &str) -> bool {
        let b = text.as_bytes();
        (1..=63).contains(&b.len())
            && b[0].is_ascii_alphabetic()
            && b[b.len() - 1].is_ascii_alphanumeric()
            && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    }
}
