//! The namespace, the broker and the credentials of `dev`, made through the administration API as anybody would.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_proto::admin::brokers_client::BrokersClient;
use rookery_proto::admin::namespaces_client::NamespacesClient;
use rookery_proto::admin::{CreateBrokerRequest, CreateNamespaceRequest, IssueRequest};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{BROKER, CREDENTIALS, NAMESPACE};

/// A call waits for an election at most.
const CALL: Duration = Duration::from_secs(15);
/// While the cluster has no leader.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Makes what is missing; returns the credentials, those `known` if there are any.
pub async fn ensure(
    grpc: &str,
    token: &str,
    known: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).map_err(|error| error.to_string())?;
    let channel = endpoint.timeout(CALL).connect().await.map_err(|error| error.to_string())?;
    let namespace = CreateNamespaceRequest { name: NAMESPACE.to_owned(), ..Default::default() };
    exists(
        call(token, namespace, |request| {
            let mut client = NamespacesClient::new(channel.clone());
            async move { client.create(request).await.map(drop) }
        })
        .await,
    )?;
    let broker = CreateBrokerRequest { namespace: NAMESPACE.to_owned(), name: BROKER.to_owned(), ..Default::default() };
    exists(
        call(token, broker, |request| {
            let mut client = BrokersClient::new(channel.clone());
            async move { client.create(request).await.map(drop) }
        })
        .await,
    )?;
    if !known.is_empty() {
        return Ok(known);
    }
    issue(token, channel).await.map_err(|status| status.message().to_owned())
}

async fn issue(token: &str, channel: Channel) -> Result<BTreeMap<String, String>, Status> {
    let request = IssueRequest {
        namespace: NAMESPACE.to_owned(),
        broker: BROKER.to_owned(),
        number: CREDENTIALS,
        topic_acl: "#".to_owned(),
        ..Default::default()
    };
    let reply = call(token, request, |request| {
        let mut client = BrokersClient::new(channel.clone());
        async move { client.issue(request).await }
    });
    let credentials = reply.await?.into_inner().credentials;
    Ok(credentials.into_iter().map(|credential| (credential.client_id, credential.token)).collect())
}

fn exists(result: Result<(), Status>) -> Result<(), String> {
    match result {
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        other => other.map_err(|status| status.message().to_owned()),
    }
}

async fn call<M, R, F>(token: &str, message: M, send: impl Fn(Request<M>) -> F) -> Result<R, Status>
where
    M: Clone,
    F: Future<Output = Result<R, Status>>,
{
    let mut tries = 1;
    loop {
        match send(authorized(token, message.clone())?).await {
            Err(status) if status.code() == Code::Unavailable && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// `message` with the API token.
pub fn authorized<M>(token: &str, message: M) -> Result<Request<M>, Status> {
    let mut request = Request::new(message);
    let bearer: MetadataValue<_> =
        format!("Bearer {token}").parse().map_err(|_| Status::invalid_argument("the api token is not text"))?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}
