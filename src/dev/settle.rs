//! Waiting until the cluster is where it is to be: every node has its lease, every group its replicas and a leader.

use std::time::Duration;

use rookery_proto::admin::StatusRequest;
use rookery_proto::admin::cluster_client::ClusterClient;
use tonic::transport::Endpoint;

use super::demo::authorized;

/// A cluster on an idle machine takes a few seconds; a loaded one more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// One answer.
const CALL: Duration = Duration::from_secs(5);

/// Waits until each of the nodes, by the addresses of their administration API, is ready, knows of as many live leases
/// as there are nodes, and finds nothing missing.
///
/// # Errors
/// What was missing at the end of the patience. It may still come.
pub async fn settled(nodes: &[(u64, String)], token: &str) -> Result<(), String> {
    let mut missing = String::new();
    let all = async {
        for (id, grpc) in nodes {
            while let Err(why) = look(grpc, token, nodes.len()).await {
                missing = format!("node {id}: {why}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, all).await.is_ok();
    if done { Ok(()) } else { Err(missing) }
}

async fn look(grpc: &str, token: &str, nodes: usize) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).map_err(|error| error.to_string())?;
    let channel = endpoint.timeout(CALL).connect().await.map_err(|error| error.to_string())?;
    let request = authorized(token, StatusRequest::default()).map_err(|status| status.message().to_owned())?;
    let status = ClusterClient::new(channel).status(request).await.map_err(|status| status.message().to_owned())?;
    let status = status.into_inner();
    if !status.ready {
        return Err(status.not_ready_because);
    }
    let live = status.leases.iter().filter(|lease| lease.state == "live").count();
    if live < nodes {
        return Err(format!("knows of {live} live leases of {nodes}"));
    }
    if status.settled { Ok(()) } else { Err(status.not_settled_because) }
}
