//! The command line. A command does one thing, prints its result on standard output, and says on standard error
//! in one line what went wrong and what to do ([`Failure`], which has the exit codes).

mod bench;
mod config;
mod dev;
mod failure;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;

/// A clustered MQTT pub/sub service that you run yourself.
#[derive(Debug, Parser)]
#[command(name = "rookery", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong use or settings, 3 not reached, nothing done, \
                        4 outcome unknown."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a broker: throughput, cost, loss, order, latency.
    Bench(crate::bench::BenchOptions),
    /// Run a cluster on this machine to try things out.
    Dev(dev::DevCommand),
    /// Run a node.
    Serve(serve::ServeCommand),
    /// Check settings, or print their reference.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rookery: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Bench(options) => bench::run(&options),
        Command::Dev(command) => dev::run(command),
        Command::Serve(command) => serve::serve(&command),
        Command::Config(command) => config::run(command),
    }
}
