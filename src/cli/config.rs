//! `rookery config`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use crate::config::{Config, Flags, reference};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read a file as a node would, and say what is wrong with it.
    Check {
        /// The TOML file.
        file: PathBuf,
    },
    /// Print the reference page of all settings, in Markdown.
    Reference,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => {
            Config::load(Some(&file), std::env::vars_os(), &Flags::default()).map_err(Failure::usage)?;
            println!("{}: good", file.display());
        }
        ConfigCommand::Reference => print!("{}", reference()),
    }
    Ok(())
}
