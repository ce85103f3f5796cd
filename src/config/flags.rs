//! Flags for every setting, made from the table: `--listeners-mqtts ADDRESS`.

use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::defaults::FIELDS;
use super::error::ConfigError;
use super::field::Kind;
use super::source::Source;
use super::values::Values;

/// The flags' names, which clap borrows.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| FIELDS.iter().map(super::Field::flag).collect());

/// What was set by flags: (index into the table, value).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<(usize, String)>);

impl Flags {
    pub(super) fn apply(&self, values: &mut Values) -> Result<(), ConfigError> {
        for (index, text) in &self.0 {
            let field = &FIELDS[*index];
            values.set(field, text.clone(), Source::Flag(format!("--{}", field.flag())))?;
        }
        Ok(())
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        FIELDS.iter().zip(NAMES.iter()).fold(command, |command, (field, name)| {
            let placeholder = match field.kind {
                Kind::Text => "TEXT",
                Kind::Path => "PATH",
                Kind::Domain => "DOMAIN",
                Kind::Integer { .. } => "NUMBER",
                Kind::Address => "ADDRESS",
                Kind::Listener => "ADDRESS|off",
                Kind::Listeners => "ADDRESS,...|off",
                Kind::Networks => "NETWORK,...",
                Kind::Endpoint => "HOST:PORT",
                Kind::Choice(_) => "WORD",
            };
            let help = field.doc.split_once(". ").map_or(field.doc, |(first, _)| first).trim_end_matches('.');
            command.arg(
                Arg::new(field.key)
                    .long(name.as_str())
                    .value_name(placeholder)
                    .help(format!("{help} [{}]", if field.default.is_empty() { "empty" } else { field.default }))
                    .help_heading("Settings (rookery config reference has more on each)")
                    .hide_short_help(true),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(index, field): (usize, &super::field::Field)| {
            matches.get_one::<String>(field.key).map(|text| (index, text.clone()))
        };
        Ok(Self(FIELDS.iter().enumerate().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
