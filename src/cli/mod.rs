//! The command line. A command does one thing, prints its result on standard output, and says on standard error
//! in one line what went wrong and what to do ([`Failure`], which has the exit codes).

mod bench;
mod broker;
mod cluster;
mod config;
mod connect;
mod dev;
mod failure;
mod mqtt;
mod namespace;
mod output;
mod serve;
#[cfg(test)]
mod tests;
mod token;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use connect::{Api, ApiOptions};
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
    /// Run a cluster on this machine to try things out.
    Dev(dev::DevCommand),
    /// Run a node.
    Serve(serve::ServeCommand),
    /// Manage namespaces.
    Namespace(WithApi<namespace::NamespaceCommand>),
    /// Manage brokers and their clients' credentials.
    Broker(WithApi<broker::BrokerCommand>),
    /// Manage API tokens.
    Token(WithApi<token::TokenCommand>),
    /// Found, join and look at a cluster.
    Cluster(WithApi<cluster::ClusterCommand>),
    /// Publish a message.
    Pub(mqtt::PubCommand),
    /// Subscribe, and print what arrives.
    Sub(mqtt::SubCommand),
    /// Measure a broker: throughput, cost, loss, order, latency.
    Bench(crate::bench::BenchOptions),
    /// Check settings, or print their reference.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print completions for a shell.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

/// A command that asks the administration API.
#[derive(Debug, Args)]
struct WithApi<C: Subcommand> {
    #[command(flatten)]
    api: ApiOptions,
    #[command(subcommand)]
    command: C,
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
        Command::Dev(command) => dev::run(command),
        Command::Serve(command) => serve::serve(&command),
        Command::Namespace(with) => namespace::run(&Api::find(&with.api)?, with.command),
        Command::Broker(with) => broker::run(&Api::find(&with.api)?, with.command),
        Command::Token(with) => token::run(&Api::find(&with.api)?, with.command),
        Command::Cluster(with) => cluster::run(&with.api, with.command),
        Command::Pub(command) => mqtt::publish(&command),
        Command::Sub(command) => mqtt::subscribe(&command),
        Command::Bench(options) => bench::run(&options),
        Command::Config(command) => config::run(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "rookery", &mut std::io::stdout());
            Ok(())
        }
    }
}
