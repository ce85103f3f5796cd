//! Reading settings from a file and from the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults::{FIELDS, SECTIONS};
use super::error::ConfigError;
use super::field::{Field, Kind};
use super::values::Values;

/// Variables that start like those of a section but belong to the command line.
const FOREIGN_VARIABLES: &[&str] = &["ROOKERY_API_TOKEN", "ROOKERY_API_TOKEN_FILE"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of settings.
    Default,
    /// A line of a file, from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(file, line) => write!(f, "{}:{line}", file.display()),
            Source::Variable(name) => write!(f, "environment variable {name}"),
            Source::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Sets what the TOML `text` of `file` holds.
pub(super) fn from_toml(values: &mut Values, file: &Path, text: &str) -> Result<(), ConfigError> {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1;
    let syntax = |at: usize, problem: &str| ConfigError::Syntax {
        file: file.to_owned(),
        line: line(at),
        problem: problem.lines().next().unwrap_or_default().to_owned(),
    };
    let table = DeTable::parse(text).map_err(|e| syntax(e.span().map_or(0, |s| s.start), e.message()))?;
    for (section, content) in table.get_ref() {
        let name: &str = section.get_ref();
        let at = Source::File(file.to_owned(), line(section.span().start));
        if !SECTIONS.iter().any(|s| s.name == name) {
            let nearest = nearest(name, SECTIONS.iter().map(|s| s.name));
            return Err(ConfigError::Unknown { at, key: format!("[{name}]"), nearest: format!("[{nearest}]") });
        }
        let DeValue::Table(keys) = content.get_ref() else {
            return Err(syntax(section.span().start, &format!("{name} is a section: write [{name}]")));
        };
        for (key, value) in keys {
            let at = Source::File(file.to_owned(), line(key.span().start));
            let field = find(&format!("{name}.{}", key.get_ref()), &at)?;
            values.set(field, toml_text(field, value, &at)?, at)?;
        }
    }
    Ok(())
}

/// Sets what `ROOKERY_SECTION_KEY` variables hold. Others are not ours, unless they begin like one of a section.
pub(super) fn from_environment(
    values: &mut Values,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, value) in environment {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        let Some(rest) = name.strip_prefix("ROOKERY_").map(str::to_ascii_lowercase) else { continue };
        let Some(section) = SECTIONS.iter().find(|s| rest.starts_with(&format!("{}_", s.name))) else { continue };
        if FOREIGN_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let at = Source::Variable(name);
        let field = find(&format!("{}.{}", section.name, &rest[section.name.len() + 1..]), &at)?;
        values.set(field, value, at)?;
    }
    Ok(())
}

fn find(key: &str, at: &Source) -> Result<&'static Field, ConfigError> {
    FIELDS.iter().find(|field| field.key == key).ok_or_else(|| ConfigError::Unknown {
        at: at.clone(),
        key: key.to_owned(),
        nearest: nearest(key, FIELDS.iter().map(|field| field.key)).to_owned(),
    })
}

/// The value as the environment would have it; numbers must be numbers in TOML, lists may be lists of texts, and
/// everything else is text.
fn toml_text(field: &Field, value: &Spanned<DeValue<'_>>, at: &Source) -> Result<String, ConfigError> {
    match (value.get_ref(), field.kind) {
        (DeValue::Integer(number), Kind::Integer { .. }) => Ok(number.as_str().replace('_', "")),
        (DeValue::String(text), kind) if !matches!(kind, Kind::Integer { .. }) => Ok(text.to_string()),
        (DeValue::Array(values), kind) if kind.is_list() && values.iter().all(|v| v.get_ref().is_str()) => {
            let texts: Vec<&str> = values.iter().filter_map(|value| value.get_ref().as_str()).collect();
            let none = if kind == Kind::Listeners { "off" } else { "" };
            Ok(if texts.is_empty() { none.to_owned() } else { texts.join(", ") })
        }
        (other, kind) => Err(ConfigError::Invalid {
            at: at.clone(),
            key: field.key,
            problem: {
                let (found, article) = (other.type_str(), if other.is_array() { "an" } else { "a" });
                format!("expected {}, found {article} {found}", kind.describe())
            },
        }),
    }
}

/// The one of `known` that needs the fewest changes to become `word`; the first of equals.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|candidate| distance(word, candidate)).unwrap_or_default()
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
