//! Section `log`.

use tracing_subscriber::EnvFilter;

use super::error::ConfigError;
use super::values::Values;

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.level`: directives of `tracing_subscriber::EnvFilter`, checked.
    pub level: String,
    /// `log.format`.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl LogConfig {
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let level = values.text("log.level");
        EnvFilter::try_new(level).map_err(|error| values.refuse("log.level", error.to_string()))?;
        let format = if values.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Text };
        Ok(Self { level: level.to_owned(), format })
    }
}
