//! How long administration writes wait when the leader of metadata dies.

use std::fmt;
use std::time::Duration;

use rookery_cluster::clock::{Clock, SystemClock};
use rookery_cluster::rng::{Rng as _, SystemRng};
use rookery_proto::admin::UpdateBrokerRequest;
use rookery_proto::admin::brokers_client::BrokersClient;
use serde_json::Value;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{Cluster, HarnessError, until};

/// Within this a write through another node is to succeed.
const BAR: Duration = Duration::from_secs(3);
/// Between two tries of a write.
const RETRY: Duration = Duration::from_millis(10);
/// For one call: longer than the server waits for a leader.
const CALL: Duration = Duration::from_secs(10);

/// How long it took, kill by kill: from the kill to the first write that another node confirmed.
#[derive(Clone, Debug, Default)]
pub struct Failovers(pub Vec<Duration>);

impl Failovers {
    /// All were within the bar.
    pub fn in_time(&self) -> bool {
        self.0.iter().all(|took| *took <= BAR)
    }
}

impl fmt::Display for Failovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        let outcome = if self.in_time() { "ok" } else { "FAIL" };
        let p50 = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let max = sorted.last().copied().unwrap_or_default();
        writeln!(f, "{outcome}: {} kills of the leader, p50 {p50:.2?}, max {max:.2?}, bar {BAR:?}", sorted.len())
    }
}

/// Kills the leader of metadata `kills` times, starting it again after each.
///
/// # Errors
/// The cluster does not come back.
pub async fn kill_leaders(cluster: &mut Cluster, kills: u32) -> Result<Failovers, HarnessError> {
    let mut took = Failovers::default();
    for kill in 1..=kills {
        let leader = settled(cluster).await?;
        let writer = Writer::to(cluster, cluster.nodes().into_iter().filter(|id| *id != leader))?;
        // Connections are there already: a caller's would be.
        until("a write before the kill", async || writer.write(0).await).await?;
        let began = SystemClock.now();
        cluster.kill(leader).await?;
        until("a write after the kill", async || writer.write(kill as usize).await).await?;
        let waited = SystemClock.now().since(began);
        eprintln!("kill {kill}: node {leader} led, {waited:.2?}");
        took.0.push(waited);
        cluster.restart(leader).await?;
    }
    Ok(took)
}

/// The leader of metadata, once every node sees the same one.
async fn settled(cluster: &Cluster) -> Result<u64, HarnessError> {
    let mut leader = 0;
    until("every node sees the same leader of metadata", async || {
        let mut seen = Vec::new();
        for id in cluster.nodes() {
            let said = cluster.cli(id, &["cluster", "status", "--output", "json"]).await.unwrap_or_default();
            seen.push(leader_in(&said).unwrap_or(0));
        }
        leader = seen[0];
        leader != 0 && seen.iter().all(|one| *one == leader)
    })
    .await?;
    Ok(leader)
}

fn leader_in(status: &str) -> Option<u64> {
    let status: Value = serde_json::from_str(status).ok()?;
    let metadata = status["groups"].as_array()?.iter().find(|group| group["group"] == 0)?;
    metadata["leader"].as_u64()
}

/// Writes through some nodes.
struct Writer {
    channels: Vec<Channel>,
    bearer: String,
    namespace: String,
    broker: String,
}

impl Writer {
    fn to(cluster: &Cluster, nodes: impl Iterator<Item = u64>) -> Result<Self, HarnessError> {
        let info = cluster.info();
        let token = std::fs::read_to_string(&info.api_token_file)
            .map_err(|error| HarnessError::Io { what: "api token".to_owned(), error })?;
        let channel = |id| {
            let endpoint = Endpoint::from_shared(format!("http://{}", info.node(id).grpc));
            endpoint.map(|endpoint| endpoint.timeout(CALL).connect_lazy())
        };
        let channels = nodes.map(channel).collect::<Result<_, _>>();
        Ok(Self {
            channels: channels.map_err(|error| HarnessError::Dev(format!("an address that is none: {error}")))?,
            bearer: format!("Bearer {}", token.trim()),
            namespace: info.namespace.clone(),
            broker: info.broker.clone(),
        })
    }

    /// One write through each node until one succeeds, beginning with the one at `first`.
    async fn write(&self, first: usize) -> bool {
        let request_id = format!("{:032x}", SystemRng.u128());
        for at in 0..self.channels.len() {
            let mut request = Request::new(UpdateBrokerRequest {
                namespace: self.namespace.clone(),
                broker: self.broker.clone(),
                description: Some(request_id.clone()),
                expiration: None,
                request_id: request_id.clone(),
                ..Default::default()
            });
            let Ok(bearer) = self.bearer.parse() else { return false };
            request.metadata_mut().insert("authorization", bearer);
            let channel = self.channels[(first + at) % self.channels.len()].clone();
            if BrokersClient::new(channel).update(request).await.is_ok() {
                return true;
            }
            tokio::time::sleep(RETRY).await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_leader_of_metadata() {
        let said = r#"{"groups": [{"group": 1, "leader": 2}, {"group": 0, "leader": 3}]}"#;
        assert_eq!(leader_in(said), Some(3));
        assert_eq!(leader_in(r#"{"groups": [{"group": 0, "leader": null}]}"#), None);
    }
}
