//! The joining side.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rookery_proto::join as proto;
use rookery_proto::join::join_client::JoinClient;
use rookery_proto::join::standing_reply::Standing as Wire;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use super::{JoinError, JoinToken, NodeFiles, Standing};
use crate::clock::SharedClock;
use crate::ids::{Incarnation, NodeId};
use crate::net::{BoxStream, Net};
use crate::pki::{ALPN_JOIN, CaHash, ClusterSecrets, KeyAndRequest, join_client_config};

/// Until the far side has proved who it is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A join costs a commit, which may wait for an election.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// While the cluster is there and cannot decide.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What a node says of itself when it asks to join.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    /// What people call it; unique in the cluster.
    pub name: String,
    /// Where it listens, by purpose ([`super::PEER_ADDRESS`] and others): `host:port`.
    pub addresses: BTreeMap<String, String>,
    /// Names and IP addresses for its certificate.
    pub hosts: Vec<String>,
    /// The program's version.
    pub version: String,
    /// From its configuration.
    pub region: String,
    /// From its configuration.
    pub zone: String,
}

type Tls = TlsStream<BoxStream>;

/// Asks the node at `at` (`host:port` of its peer port) to admit this one. Writes nothing: the caller stores
/// what is returned ([`NodeFiles::store`]).
pub async fn join(
    net: &dyn Net,
    clock: SharedClock,
    at: &str,
    token: &JoinToken,
    joining: Joining,
) -> Result<NodeFiles, JoinError> {
    if token.expires <= clock.wall() {
        return Err(JoinError::TokenExpired);
    }
    // One key for all tries: by it the cluster knows a repeated request, whose first answer was lost.
    let own = KeyAndRequest::generate()?;
    let request = request(token, &own, joining);
    let mut tries = 1;
    let reply = loop {
        match ask(net, &clock, at, token.ca, request.clone()).await {
            Err(JoinError::Unavailable(why)) if tries < TRIES => {
                tracing::warn!(at, why, "the cluster cannot answer now, trying again");
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => break answer?,
        }
    };
    let files = take(reply, request.name, own.key_pem)?;
    // The authority that signs must be the one that was pinned, and the certificate ours.
    if files.tls(clock)?.ca_hash() != token.ca {
        return Err(JoinError::BadReply("its authority is not the one that the token names".to_owned()));
    }
    Ok(files)
}

async fn ask(
    net: &dyn Net,
    clock: &SharedClock,
    at: &str,
    pin: CaHash,
    request: proto::JoinRequest,
) -> Result<proto::JoinReply, JoinError> {
    let channel = open(net, clock, at, pin).await?;
    match timeout(CALL_TIMEOUT, JoinClient::new(channel).join(request)).await {
        Ok(answer) => Ok(answer.map_err(|status| refused(at, &status))?.into_inner()),
        Err(_) => Err(JoinError::Unavailable("no answer in time".to_owned())),
    }
}

/// Asks the node at `at`, which must be of the cluster whose authority hashes to `pin`, what it knows of `node`.
pub async fn standing(
    net: &dyn Net,
    clock: SharedClock,
    at: &str,
    pin: CaHash,
    node: NodeId,
) -> Result<Standing, JoinError> {
    let channel = open(net, &clock, at, pin).await?;
    let mut client = JoinClient::new(channel);
    match timeout(CONNECT_TIMEOUT, client.standing(proto::StandingRequest { node: node.0 })).await {
        Ok(Ok(answer)) => {
            let reply = answer.into_inner();
            Ok(match reply.standing() {
                Wire::Member => {
                    let incarnation = Incarnation(reply.incarnation);
                    Standing::Member { incarnation, live: reply.live, address: reply.address }
                }
                Wire::Removed => Standing::Removed,
                Wire::Unknown | Wire::Unspecified => Standing::Unknown,
            })
        }
        Ok(Err(status)) => Err(refused(at, &status)),
        Err(_) => Err(JoinError::Unavailable("no answer in time".to_owned())),
    }
}

async fn open(net: &dyn Net, clock: &SharedClock, at: &str, pin: CaHash) -> Result<Channel, JoinError> {
    let stream = match timeout(CONNECT_TIMEOUT, connect(net, clock.clone(), at, pin)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(unreachable(at, "no answer in time")),
    };
    channel_over(stream).await.map_err(|e| version(at, e))
}

async fn connect(net: &dyn Net, clock: SharedClock, at: &str, pin: CaHash) -> Result<Tls, JoinError> {
    let config = join_client_config(pin, clock)?;
    let tcp = net.connect(at).await.map_err(|e| unreachable(at, e))?;
    // The pin decides, not the name.
    let name = ServerName::try_from("joining.rookery.internal").map_err(|e| unreachable(at, e))?;
    let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(|e| handshake_failed(at, &e))?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_JOIN) {
        return Err(version(at, "it does not know the join protocol"));
    }
    Ok(stream)
}

fn handshake_failed(at: &str, error: &io::Error) -> JoinError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => unreachable(at, "its certificate has expired, or this machine's clock is wrong"),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => unreachable(at, "its certificate is not valid yet: this machine's clock is behind"),
        Some(rustls::Error::InvalidCertificate(_)) => JoinError::WrongAuthority { at: at.to_owned() },
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            version(at, "it speaks another version of the join protocol")
        }
        Some(other) => version(at, other),
        None => unreachable(at, error),
    }
}

/// gRPC over one connection that exists already. It is not made anew: the pin was checked on this one.
async fn channel_over(stream: Tls) -> Result<Channel, tonic::transport::Error> {
    let stream = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = stream.lock().take().map(TokioIo::new);
        async move { taken.ok_or_else(|| io::Error::other("the connection was closed")) }
    });
    Endpoint::from_static("http://joining.rookery.internal").connect_with_connector(connector).await
}

fn request(token: &JoinToken, own: &KeyAndRequest, joining: Joining) -> proto::JoinRequest {
    proto::JoinRequest {
        secret: token.secret.to_vec().into(),
        name: joining.name,
        request_pem: own.request_pem.clone(),
        addresses: joining.addresses.into_iter().collect(),
        hosts: joining.hosts,
        version: joining.version,
        region: joining.region,
        zone: joining.zone,
    }
}

fn take(reply: proto::JoinReply, name: String, key_pem: String) -> Result<NodeFiles, JoinError> {
    let key =
        |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|_| JoinError::BadReply("a key of another size".into()));
    Ok(NodeFiles {
        cluster: reply.cluster.parse().map_err(|_| JoinError::BadReply("no cluster id".to_owned()))?,
        node: NodeId(reply.node),
        name,
        peers: reply.peers.into_iter().map(|(id, at)| (NodeId(id), at)).collect(),
        ca_pem: reply.ca_pem,
        cert_pem: reply.certificate_pem,
        key_pem,
        secrets: ClusterSecrets {
            cluster_key: key(&reply.cluster_key)?,
            key_encryption_key: key(&reply.key_encryption_key)?,
        },
    })
}

pub(super) fn refused(at: &str, status: &Status) -> JoinError {
    let why = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::InvalidArgument | Code::PermissionDenied => JoinError::Refused(why),
        Code::FailedPrecondition | Code::Unimplemented => version(at, why),
        _ => JoinError::Unavailable(if why.is_empty() { status.code().to_string() } else { why }),
    }
}

fn unreachable(at: &str, why: impl ToString) -> JoinError {
    JoinError::Unreachable { at: at.to_owned(), why: why.to_string() }
}

fn version(at: &str, why: impl ToString) -> JoinError {
    JoinError::Version { at: at.to_owned(), why: why.to_string() }
}
