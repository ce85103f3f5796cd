//! `rookery serve`, and what comes before it: `rookery cluster init` and `rookery cluster join`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rookery_cluster::clock::{SharedClock, SystemClock};
use rookery_cluster::rng::SystemRng;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::config::{Config, Flags};
use crate::node::{self, NodeError, found};

/// Threads of the control plane (R18): Raft, SWIM, leases, gRPC, handshakes and token checks.
const CONTROL_THREADS: usize = 2;

#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// The node's settings, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Flags,
    /// Stop when the process that started this one is gone.
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Runs a node until SIGINT or SIGTERM.
pub(super) fn serve(command: &ServeCommand) -> Result<(), Failure> {
    let config = load(command.config.as_deref(), &command.settings)?;
    crate::telemetry::start_log(&config.log);
    if command.with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(Failure::refused)?;
    }
    let runtime = control_plane()?;
    let served = runtime.block_on(async {
        let stop = stop_signal()?;
        node::serve(config, stop).await.map_err(failure)
    });
    // What still runs there has been told to end; blocking file work is not waited for.
    runtime.shutdown_background();
    served
}

/// Founds a cluster; returns what its founder must keep.
pub(super) fn init(file: Option<&Path>, settings: &Flags) -> Result<found::Founded, Failure> {
    rookery_cluster::pki::install_crypto();
    let config = load(file, settings)?;
    let clock: SharedClock = Arc::new(SystemClock);
    found::init(&config, &clock, &SystemRng).map_err(failure)
}

/// Joins the cluster of the node at `at`.
pub(super) fn join(file: Option<&Path>, settings: &Flags, at: &str, token: &str) -> Result<u64, Failure> {
    rookery_cluster::pki::install_crypto();
    let config = load(file, settings)?;
    let joined = control_plane()?.block_on(found::join(&config, Arc::new(SystemClock), at, token));
    joined.map(|files| files.node.0).map_err(failure)
}

fn load(file: Option<&Path>, settings: &Flags) -> Result<Config, Failure> {
    Config::load(file, std::env::vars_os(), settings).map_err(Failure::usage)
}

pub(super) fn control_plane() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(Failure::refused)
}

/// Resolves at the first SIGINT or SIGTERM.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::refused)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

pub(super) fn failure(error: NodeError) -> Failure {
    match error {
        NodeError::NoMember(_) | NodeError::Member(_) => Failure::usage(error),
        NodeError::Join(_) => Failure::unreachable(error),
        NodeError::Removed { .. } | NodeError::Superseded { .. } => Failure::gone(error),
        other => Failure::refused(other),
    }
}
