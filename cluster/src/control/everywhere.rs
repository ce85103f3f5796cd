//! P2: an acknowledged change that restricts is in force everywhere, or its node's lease is over.

use std::time::Duration;

use futures_util::future::join_all;

use super::{AppliedPort, SharedControl, SharedMeta, service};
use crate::ids::{LogIndex, NodeId, NodeLife};
use crate::limits::{LEASE, LEASE_DRIFT_MARGIN};

/// A node that does not answer has ended by then: its lease, both margins, and time to commit its end, which may
/// need a new leader first.
const LIMIT: Duration = LEASE.saturating_mul(2).saturating_add(LEASE_DRIFT_MARGIN.saturating_mul(2));
/// One attempt at one node.
const ATTEMPT: Duration = Duration::from_millis(1000);
/// Pause after an attempt that failed at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Not every node answered or ended in time. The change is committed and reaches the others as they catch up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change is committed, but nodes {0:?} have neither applied it nor ended")]
pub struct NotEverywhere(pub Vec<NodeLife>);

/// Resolves when every live node acts by the metadata of `index`, or its life has ended. A life that registers
/// later knows `index` before it serves.
pub async fn await_everywhere(
    me: NodeId,
    meta: &SharedMeta,
    control: &SharedControl,
    workers: &dyn AppliedPort,
    index: LogIndex,
) -> Result<(), NotEverywhere> {
    let local = tokio::time::timeout(LIMIT, service::applied(meta, workers, index)).await.is_ok();
    let live = meta.live();
    let waits = live.into_iter().map(|life| async move {
        let done = match life.node == me {
            true => local,
            false => tokio::time::timeout(LIMIT, one(meta, control, life, index)).await.is_ok(),
        };
        (!done).then_some(life)
    });
    let missing: Vec<NodeLife> = join_all(waits).await.into_iter().flatten().collect();
    if missing.is_empty() { Ok(()) } else { Err(NotEverywhere(missing)) }
}

async fn one(meta: &SharedMeta, control: &SharedControl, life: NodeLife, index: LogIndex) {
    tokio::select! {
        () = answered(control, life, index) => {}
        () = ended(meta, life) => {}
    }
}

async fn answered(control: &SharedControl, life: NodeLife, index: LogIndex) {
    while !control.wait_applied(life.node, index, ATTEMPT).await.is_ok_and(|other| other >= life) {
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ended(meta: &SharedMeta, life: NodeLife) {
    loop {
        let seen = meta.applied();
        if meta.has_ended(life) {
            return;
        }
        meta.changed(seen).await;
    }
}
