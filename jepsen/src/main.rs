//! Kill loops against a real cluster: `cargo run -p rookery-jepsen -- --program target/release/rookery --rounds 10`.
//! With `--failover 10`: how long administration writes wait when the leader of metadata is killed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rookery_jepsen::cluster::HarnessError;
use rookery_jepsen::report::Report;
use rookery_jepsen::workload::{Plan, Workload};
use rookery_jepsen::{Cluster, History, failover, nemesis};

/// Kills each node of a cluster in turn under load, and checks what its clients saw.
///
/// Exit codes: 0 every promise kept, 1 a promise broken, 2 the harness failed.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program `rookery`.
    #[arg(long, default_value = "target/debug/rookery")]
    program: PathBuf,
    /// Where the cluster keeps its data; removed at the end.
    #[arg(long, default_value = "target/jepsen")]
    data_dir: PathBuf,
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// How often each node is killed.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Instead: kill the leader of metadata that often, and measure how long administration writes wait. Exit code 1:
    /// longer than 3 s.
    #[arg(long, value_name = "KILLS")]
    failover: Option<u32>,
    /// Leave the data and the logs there.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(|error| HarnessError::Io { what: "runtime".to_owned(), error })
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok((report, kept)) => {
            print!("{report}");
            ExitCode::from(u8::from(!kept))
        }
        Err(error) => {
            eprintln!("harness failure: {error}");
            ExitCode::from(2)
        }
    }
}

/// What to print, and whether every promise was kept.
async fn run(arguments: &Arguments) -> Result<(String, bool), HarnessError> {
    let plan = Plan::default();
    let mut cluster = Cluster::start(&arguments.program, &arguments.data_dir, arguments.nodes).await?;
    if arguments.keep {
        cluster.keep();
    }
    if let Some(kills) = arguments.failover {
        let failovers = failover::kill_leaders(&mut cluster, kills).await?;
        return Ok((failovers.to_string(), failovers.in_time()));
    }
    let history = History::default();
    let workload = Workload::start(cluster.info(), plan, cluster.issue(plan.credentials()).await?, &history);
    for _ in 0..arguments.rounds {
        nemesis::kill_each(&mut cluster, &history).await?;
    }
    workload.finish().await?;
    let report = Report::of(&history);
    Ok((report.to_string(), report.violations.is_empty()))
}
