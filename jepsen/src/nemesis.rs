//! What is done to the cluster while the workload runs.

use crate::cluster::{Cluster, HarnessError, until};
use crate::history::{History, What};

/// Acknowledgements that each publisher must get before a cluster counts as serving.
const PROGRESS: u64 = 20;

/// Kills each node in turn, waits until every publisher is served again without it, and starts it again.
///
/// # Errors
/// The cluster does not come back.
pub async fn kill_each(cluster: &mut Cluster, history: &History) -> Result<(), HarnessError> {
    for id in cluster.nodes() {
        history.log(What::Fault(format!("kill node {id}")));
        cluster.kill(id).await?;
        progress(history, &format!("every publisher is served without node {id}")).await?;
        cluster.restart(id).await?;
        history.log(What::Fault(format!("node {id} is back")));
        progress(history, &format!("every publisher is served after the return of node {id}")).await?;
    }
    Ok(())
}

/// Waits until every publisher got further.
///
/// # Errors
/// One did not.
pub async fn progress(history: &History, what: &str) -> Result<(), HarnessError> {
    let before = history.acked();
    let further = |now: &std::collections::BTreeMap<u32, u64>| {
        now.iter().all(|(publisher, acked)| *acked >= before.get(publisher).copied().unwrap_or(0) + PROGRESS)
    };
    until(what, async || further(&history.acked())).await
}
