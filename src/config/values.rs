//! The settings as texts, each with where it came from; checked against the table as they are set.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::defaults::FIELDS;
use super::error::ConfigError;
use super::field::Field;
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

    pub(super) fn listener(&self, key: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        if self.text(key) == "off" { Ok(None) } else { self.address(key).map(Some) }
    }
}
