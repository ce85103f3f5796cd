//! Certificates renew themselves (R20).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rookery_proto::join::RenewRequest;
use rookery_proto::join::certificates_client::CertificatesClient;
use tonic::transport::Channel;

use super::client::refused;
use super::{JoinError, NodeFiles};
use crate::clock::SharedClock;
use crate::consensus::BoxFuture;
use crate::pki::{KeyAndRequest, NodeTls};

/// How often it is looked whether the certificate is due: a month remains at that time.
const CHECK_EVERY: Duration = Duration::from_secs(3600);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Has a request (PEM) signed for this node and returns the certificate (PEM): by this node's own authority,
/// or at a peer by [`renew_at`].
pub type AskForCertificate = Arc<dyn Fn(String) -> BoxFuture<'static, Result<String, JoinError>> + Send + Sync>;

/// Asks the peer behind `channel` to sign `request_pem` for this node.
pub async fn renew_at(channel: Channel, request_pem: String, hosts: Vec<String>) -> Result<String, JoinError> {
    let request = RenewRequest { request_pem, hosts };
    match tokio::time::timeout(CALL_TIMEOUT, CertificatesClient::new(channel).renew(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner().certificate_pem),
        Ok(Err(status)) => Err(refused("the peer", &status)),
        Err(_) => Err(JoinError::Unavailable("no answer in time".to_owned())),
    }
}

/// Replaces the certificate, in use and in the data directory, whenever two thirds of its life are over. The
/// key stays, so that the file changes in one step. Runs until aborted; failures are logged and tried again.
pub async fn keep_renewed(
    tls: Arc<NodeTls>,
    data: PathBuf,
    key_pem: String,
    ask: AskForCertificate,
    clock: SharedClock,
) {
    loop {
        if tls.renewal_due(clock.wall()) {
            match renew(&tls, data.clone(), &key_pem, &ask).await {
                Ok(()) => tracing::info!("renewed this node's certificate"),
                Err(error) => tracing::warn!(%error, "could not renew this node's certificate, trying again later"),
            }
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

async fn renew(tls: &NodeTls, data: PathBuf, key_pem: &str, ask: &AskForCertificate) -> Result<(), JoinError> {
    let request_pem = KeyAndRequest::for_key(key_pem)?.request_pem;
    let cert_pem = ask(request_pem).await?;
    // Checks that it is this node's and fits the key, before the file that works is replaced.
    tls.replace(&cert_pem, key_pem)?;
    let stored = tokio::task::spawn_blocking(move || NodeFiles::store_certificate(&data, &cert_pem)).await;
    stored.map_err(std::io::Error::other)?.map_err(JoinError::Files)
}
