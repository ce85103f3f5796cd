//! P3, P4, P7: each node is killed in turn under load, and comes back.

use rookery_jepsen::report::Report;
use rookery_jepsen::workload::{Plan, Workload};
use rookery_jepsen::{History, nemesis};

use crate::harness::three;

/// How often each node is killed; `scripts/test --all` asks for more.
fn rounds() -> u32 {
    std::env::var("ROOKERY_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t30_each_node_is_killed_in_turn_under_load() {
    let plan = Plan::default();
    let mut cluster = three().await;
    let history = History::default();
    let credentials = cluster.issue(plan.credentials()).await.expect("issues credentials");
    let workload = Workload::start(cluster.info(), plan, credentials, &history);
    for _ in 0..rounds() {
        nemesis::kill_each(&mut cluster, &history).await.expect("the cluster comes back");
    }
    workload.finish().await.expect("the last messages are acknowledged");
    let report = Report::of(&history);
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.delivered > 0 && report.claims > 1, "the workload did nothing: {report}");
}
