//! One row of the table of settings, and what its value may be.

use std::net::SocketAddr;
use std::str::FromStr;

use super::network::Network;

/// Values of one list.
pub const MAX_LISTED: usize = 32;

/// A section of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, as in `[name]`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// `section.key`.
    pub key: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// The value where no source sets one, as it would be written in the environment.
    pub default: &'static str,
    /// Meaning, relation to other settings, how to choose.
    pub doc: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text, also none.
    Text,
    /// A path; relative ones are relative to the working directory. Empty: none.
    Path,
    /// A DNS name in lower case (RFC 1035 §2.3.1, at most 128 bytes).
    Domain,
    /// A whole number in the bounds, in `unit`.
    Integer {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// `IP:port`.
    Address,
    /// `IP:port`, or `off`.
    Listener,
    /// Any number of `IP:port`, at most [`MAX_LISTED`], with commas between them; none is `off`.
    Listeners,
    /// Any number of [`Network`]s, at most [`MAX_LISTED`], with commas between them; none is the empty text.
    Networks,
    /// `host:port`, or empty.
    Endpoint,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Field {
    /// The section's name.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(section, _)| section)
    }

    /// The name inside the section.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("ROOKERY_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The flag that sets it, without the dashes before it.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Whether `text` is a value of this field; if not, what one is.
    pub fn check(&self, text: &str) -> Result<(), String> {
        let good = match self.kind {
            Kind::Text | Kind::Path => true,
            Kind::Domain => is_domain(text),
            Kind::Integer { min, max, .. } => text.parse().is_ok_and(|n: u64| (min..=max).contains(&n)),
            Kind::Address => text.parse::<SocketAddr>().is_ok(),
            Kind::Listener => text == "off" || text.parse::<SocketAddr>().is_ok(),
            Kind::Listeners => text == "off" || is_list::<SocketAddr>(text),
            Kind::Networks => text.is_empty() || is_list::<Network>(text),
            Kind::Endpoint => text.is_empty() || is_endpoint(text),
            Kind::Choice(words) => words.contains(&text),
        };
        if good { Ok(()) } else { Err(format!("{text:?} is not {}", self.kind.describe())) }
    }
}

/// The values of a list.
pub(super) fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn is_list<T: FromStr>(text: &str) -> bool {
    listed(text).count() <= MAX_LISTED && listed(text).all(|value| value.parse::<T>().is_ok())
}

impl Kind {
    /// Whether the value in a file may be a list.
    pub fn is_list(&self) -> bool {
        matches!(self, Kind::Listeners | Kind::Networks)
    }

    /// What a value is, for the reference and for errors.
    pub fn describe(&self) -> String {
        match self {
            Kind::Text => "a text".into(),
            Kind::Path => "a path".into(),
            Kind::Domain => "a domain name in lower case".into(),
            Kind::Integer { min, max, unit } => format!("a number of {unit} from {min} to {max}"),
            Kind::Address => "an address such as 127.0.0.1:7947 or [::]:7947".into(),
            Kind::Listener => "an address such as 0.0.0.0:8883 or [::]:8883, or \"off\"".into(),
            Kind::Listeners => format!(
                "up to {MAX_LISTED} addresses such as 0.0.0.0:8883 or [::]:8883 (a list, or with commas between them), or \
                 \"off\""
            ),
            Kind::Networks => {
                format!("up to {MAX_LISTED} networks such as 10.0.0.0/8 or 2001:db8::/32 (a list, or with commas)")
            }
            Kind::Endpoint => "a host and port such as node1.example.com:7946".into(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

fn is_domain(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 128 && text.split('.').all(label)
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}
