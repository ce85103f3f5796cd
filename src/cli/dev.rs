//! `rookery dev`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::Output;
use super::serve::{control_plane, stop_signal};
use crate::dev::{self, DevOptions, PortChoice};

#[derive(Debug, Args)]
pub(super) struct DevCommand {
    /// How many nodes, 1 to 5.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Where everything is kept.
    #[arg(long, default_value = "rookery-data")]
    data_dir: PathBuf,
    /// Which ports: the standard ones (node n: + 10000 n), or any free ones.
    #[arg(long, value_enum, default_value = "standard")]
    ports: PortChoice,
    /// Lines for people, or one line of JSON.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(command: DevCommand) -> Result<(), Failure> {
    let options = DevOptions {
        nodes: command.nodes,
        data_dir: command.data_dir,
        ports: command.ports,
        json: command.output == Output::Json,
    };
    control_plane()?.block_on(async { dev::run(options, stop_signal()?).await.map_err(Failure::refused) })
}
