//! The settings as texts, each with where it came from; checked against the table as they are set.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::defaults::FIELDS;
use super::error::ConfigError;
use super::field::{Field, listed};
use super::network::Network;
use super::source::Source;

/// A value for every field of the table.
pub(super) struct Values(BTreeMap<&'static str, (String, Source)>);

impl Values {
    /// Every field's default.
    pub(super) fn defaults() -> Self {
        Self(FIELDS.iter().map(|field| (field.key, (field.default.to_owned(), Source::Default))).collect())
    }

    /// Sets `field`, if `text` is a value of it.
    pub(super) fn set(&mut self, field: &Field, text: String, source: Source) -> Result<(), ConfigError> {
        match field.check(&text) {
            Ok(()) => {
                self.0.insert(field.key, (text, source));
                Ok(())
            }
            Err(problem) => Err(ConfigError::Invalid { at: source, key: field.key, problem }),
        }
    }

    /// An error about `key`, naming where its value came from.
    pub(super) fn refuse(&self, key: &'static str, problem: String) -> ConfigError {
        let at = self.0.get(key).map_or(Source::Default, |(_, source)| source.clone());
        ConfigError::Invalid { at, key, problem }
    }

    pub(super) fn text(&self, key: &'static str) -> &str {
        self.0.get(key).map_or("", |(text, _)| text)
    }

    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    pub(super) fn integer(&self, key: &'static str) -> Result<u64, ConfigError> {
        self.text(key).parse().map_err(|_| self.refuse(key, "not a number".into()))
    }

    pub(super) fn address(&self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        self.text(key).parse().map_err(|_| self.refuse(key, "not an address".into()))
    }

    /// Of [`Kind::Listeners`](super::Kind::Listeners).
    pub(super) fn listeners(&self, key: &'static str) -> Result<Vec<SocketAddr>, ConfigError> {
        if self.text(key) == "off" { Ok(Vec::new()) } else { self.list(key) }
    }

    /// Of [`Kind::Networks`](super::Kind::Networks).
    pub(super) fn networks(&self, key: &'static str) -> Result<Vec<Network>, ConfigError> {
        if self.text(key).is_empty() { Ok(Vec::new()) } else { self.list(key) }
    }

    fn list<T: FromStr>(&self, key: &'static str) -> Result<Vec<T>, ConfigError> {
        let values = listed(self.text(key)).map(|value| value.parse().map_err(|_| value));
        values.collect::<Result<_, _>>().map_err(|value| self.refuse(key, format!("{value:?} is none")))
    }

    pub(super) fn listener(&self, key: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        if self.text(key) == "off" { Ok(None) } else { self.address(key).map(Some) }
    }
}
