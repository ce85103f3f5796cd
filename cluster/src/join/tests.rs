#![expect(clippy::disallowed_methods, reason = "tasks of a test end with its runtime")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::service::Routes;

use super::*;
use crate::clock::UnixMillis;
use crate::net::{Net, PeerChannels, PeerServer, Purpose, TlsPeerChannels, TokioNet, serve_peers};
use crate::pki::tests::{CLUSTER, ca, clock, now, tls};
use crate::pki::{CaHash, ClusterCa, KeyAndRequest, NODE_CERT_LIFETIME, NodeTls};
use crate::rng::SystemRng;

/// Admits one node, as number 2.
struct Authority {
    ca: ClusterCa,
    token: Mutex<Option<[u8; 32]>>,
    secrets: ClusterSecrets,
    asked: Mutex<Vec<JoinRequest>>,
}

impl JoinAuthority for Authority {
    fn admit(&self, request: JoinRequest) -> BoxFuture<'_, Result<JoinReply, JoinRefusal>> {
        Box::pin(async move {
            self.asked.lock().push(request.clone());
            if request.name == "patient" && self.asked.lock().len() == 1 {
                return Err(JoinRefusal::Unavailable("no leader".to_owned()));
            }
            if request.version == "0" {
                return Err(JoinRefusal::Version("version 0 is too old".to_owned()));
            }
            if self.token.lock().take_if(|hash| *hash == request.secret_hash).is_none() {
                return Err(JoinRefusal::Token("the join token is unknown or used up".to_owned()));
            }
            Ok(JoinReply {
                node: NodeId(2),
                cluster: CLUSTER,
                certificate_pem: self.sign(NodeId(2), &request.request_pem, &request.hosts)?,
                ca_pem: self.ca.cert_pem().to_owned(),
                secrets: self.secrets.clone(),
                peers: BTreeMap::from([(NodeId(1), "one:1".to_owned())]),
            })
        })
    }

    fn standing(&self, node: NodeId) -> Standing {
        match node.0 {
            1 => Standing::Member { incarnation: Incarnation(4), live: true, address: "one:1".to_owned() },
            2..10 => Standing::Removed,
            _ => Standing::Unknown,
        }
    }

    fn renew(&self, node: NodeId, pem: String, hosts: Vec<String>) -> BoxFuture<'_, Result<String, JoinRefusal>> {
        Box::pin(async move { self.sign(node, &pem, &hosts) })
    }
}

#[tokio::test]
async fn anybody_may_ask_whether_a_node_was_removed() {
    let cluster = cluster().await;
    let ask = async |node| standing(&TokioNet, clock(), &cluster.at, cluster.token.ca, NodeId(node)).await;
    let member = Standing::Member { incarnation: Incarnation(4), live: true, address: "one:1".to_owned() };
    assert_eq!(ask(1).await.unwrap(), member);
    assert_eq!(ask(9).await.unwrap(), Standing::Removed);
    assert_eq!(ask(100).await.unwrap(), Standing::Unknown);
    let other = standing(&TokioNet, clock(), &cluster.at, CaHash([7; 32]), NodeId(9)).await.unwrap_err();
    assert!(matches!(other, JoinError::WrongAuthority { .. }), "only the own cluster is believed: {other}");
}

impl Authority {
    fn sign(&self, node: NodeId, pem: &str, hosts: &[String]) -> Result<String, JoinRefusal> {
        let signed = self.ca.issue_node_cert(pem, node, hosts, now(), &SystemRng);
        signed.map_err(|e| JoinRefusal::Invalid(e.to_string()))
    }
}

struct Open;

impl crate::net::Gate for Open {
    fn admits(&self, _: NodeId) -> bool {
        true
    }

    fn removed(&self, _: NodeId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Cluster {
    at: String,
    token: JoinToken,
    authority: Arc<Authority>,
    _stop: oneshot::Sender<()>,
}

async fn cluster() -> Cluster {
    let ca = ca(CLUSTER);
    let token = JoinToken::generate(ca.hash(), UnixMillis(now().0 + 60_000), &SystemRng);
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = TokioNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let tls = tls(&ca, CLUSTER, 1);
    let authority = Arc::new(Authority {
        ca,
        token: Mutex::new(Some(token.secret_hash())),
        secrets: ClusterSecrets::generate(&SystemRng),
        asked: Mutex::default(),
    });
    let server = PeerServer {
        data: tokio::runtime::Handle::current(),
        listener,
        tls,
        gate: Arc::new(Open),
        peers: Routes::new(certificate_service(authority.clone())),
        joins: Some(Routes::new(join_service(authority.clone()))),
    };
    tokio::spawn(serve_peers(server, async move { drop(stopped.await) }));
    Cluster { at: at.to_string(), token, authority, _stop: stop }
}

fn joining() -> Joining {
    Joining {
        name: "two".to_owned(),
        version: "1".to_owned(),
        hosts: vec!["two.example".to_owned()],
        ..Joining::default()
    }
}

async fn try_join(cluster: &Cluster, token: &JoinToken, joining: Joining) -> Result<NodeFiles, JoinError> {
    join(&TokioNet, clock(), &cluster.at, token, joining).await
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let unique = crate::rng::Rng::u64(&SystemRng);
        Directory(std::env::temp_dir().join(format!("rookery-join-{name}-{unique:016x}")))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_node_joins_keeps_its_files_and_is_then_a_peer() {
    let cluster = cluster().await;
    let files = try_join(&cluster, &cluster.token, joining()).await.unwrap();
    assert_eq!((files.node, files.cluster, files.name.as_str()), (NodeId(2), CLUSTER, "two"));
    assert_eq!(files.secrets, cluster.authority.secrets);
    let asked = cluster.authority.asked.lock()[0].clone();
    assert_eq!(asked.hosts, ["two.example"]);
    assert_eq!(asked.key_hash, crate::pki::public_key_hash(&der(&files.cert_pem)).unwrap());

    let data = Directory::new("files");
    assert_eq!(NodeFiles::load(&data.0).unwrap(), None);
    files.store(&data.0).unwrap();
    assert_eq!(NodeFiles::load(&data.0).unwrap(), Some(files.clone()));
    assert_eq!(files.store(&data.0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    for (path, mode) in [("", 0o700), ("pki", 0o700), ("pki/node.key", 0o600), ("secrets/cluster.key", 0o600)] {
        assert_eq!(std::fs::metadata(data.0.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }

    let channels = TlsPeerChannels::new(
        Arc::new(TokioNet),
        files.tls(clock()).unwrap(),
        clock(),
        tokio::runtime::Handle::current(),
    );
    channels.set_address(NodeId(1), cluster.at.clone());
    let channel = channels.channel(NodeId(1), Purpose::Control).unwrap();
    let request = KeyAndRequest::for_key(&files.key_pem).unwrap().request_pem;
    let renewed = renew_at(channel, request, Vec::new()).await.unwrap();
    assert_ne!(renewed, files.cert_pem);
    files.tls(clock()).unwrap().replace(&renewed, &files.key_pem).unwrap();
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[tokio::test]
async fn a_cluster_with_another_authority_learns_nothing() {
    let cluster = cluster().await;
    let token = JoinToken { ca: CaHash([7; 32]), ..cluster.token.clone() };
    let error = try_join(&cluster, &token, joining()).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongAuthority { .. }), "{error}");
    assert!(cluster.authority.asked.lock().is_empty());
}

#[tokio::test]
async fn a_client_facing_certificate_of_the_same_authority_admits_nobody() {
    let cluster = cluster().await;
    let issued = cluster.authority.ca.issue_server_cert(&["b.example".to_owned()], now(), &SystemRng).unwrap();
    let fake =
        NodeTls::new(CLUSTER, NodeId(1), cluster.authority.ca.cert_pem(), &issued.chain_pem, &issued.key_pem, clock());
    assert!(matches!(fake, Err(PkiError::WrongName { .. })));
}

#[tokio::test]
async fn each_refusal_has_its_own_error() {
    let cluster = cluster().await;
    let expired = JoinToken { expires: UnixMillis(1), ..cluster.token.clone() };
    assert!(matches!(try_join(&cluster, &expired, joining()).await, Err(JoinError::TokenExpired)));
    let guessed = JoinToken { secret: [0; 32], ..cluster.token.clone() };
    assert!(matches!(try_join(&cluster, &guessed, joining()).await, Err(JoinError::Refused(_))));
    let old = Joining { version: "0".to_owned(), ..joining() };
    assert!(matches!(try_join(&cluster, &cluster.token, old).await, Err(JoinError::Version { .. })));
    let greedy = Joining { hosts: vec!["node-1.x.rookery.internal".to_owned()], ..joining() };
    assert!(matches!(try_join(&cluster, &cluster.token, greedy).await, Err(JoinError::Refused(_))));
    // That one used the token up.
    assert!(matches!(try_join(&cluster, &cluster.token, joining()).await, Err(JoinError::Refused(_))));
    let nobody = join(&TokioNet, clock(), "127.0.0.1:1", &cluster.token, joining()).await;
    assert!(matches!(nobody, Err(JoinError::Unreachable { .. })));
}

#[tokio::test]
async fn a_join_is_tried_again_with_the_same_key() {
    let cluster = cluster().await;
    let patient = Joining { name: "patient".to_owned(), ..joining() };
    try_join(&cluster, &cluster.token, patient).await.unwrap();
    let asked = cluster.authority.asked.lock();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].key_hash, asked[1].key_hash);
}

#[tokio::test]
async fn a_port_that_is_no_cluster_is_told_apart() {
    let cluster = cluster().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let error = join(&TokioNet, clock(), &at, &cluster.token, joining()).await.unwrap_err();
    assert!(matches!(error, JoinError::Version { .. } | JoinError::Unreachable { .. }), "{error}");
}

#[test]
fn a_token_is_read_back_and_a_damaged_one_is_not() {
    let token = JoinToken::generate(CaHash([3; 32]), UnixMillis(99), &SystemRng);
    let text = token.to_string();
    assert_eq!(text.len(), 102);
    assert_eq!(text.parse(), Ok(token.clone()));
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    assert_eq!(text[..101].parse::<JoinToken>(), Err(BadToken::Malformed));
    assert_eq!("hello".parse::<JoinToken>(), Err(BadToken::Malformed));
    assert_eq!("rkj_AgAA".parse::<JoinToken>(), Err(BadToken::Version(2)));
    assert!(!format!("{token:?}").contains(&text[50..60]));
}

#[test]
fn a_founded_cluster_has_a_first_node_whose_files_fit_together() {
    let (files, ca) = NodeFiles::found("one", &[], now(), &SystemRng).unwrap();
    let tls = files.tls(clock()).unwrap();
    assert_eq!(tls.ca_hash(), ca.hash());
    assert_eq!(tls.name().node, NodeId(1));
    assert!(!tls.renewal_due(now()));
}

#[tokio::test]
async fn a_certificate_that_is_due_is_replaced_in_use_and_on_disk() {
    let third = UnixMillis(now().0 - 70 * 86_400_000);
    assert!(NODE_CERT_LIFETIME.as_secs() / 86_400 == 90);
    let (files, ca) = NodeFiles::found("one", &[], third, &SystemRng).unwrap();
    let data = Directory::new("renew");
    files.store(&data.0).unwrap();
    let tls = files.tls(clock()).unwrap();
    assert!(tls.renewal_due(now()));
    let ca = Arc::new(ca);
    let ask: AskForCertificate = Arc::new(move |pem| {
        let ca = ca.clone();
        Box::pin(async move { Ok(ca.issue_node_cert(&pem, NodeId(1), &[], now(), &SystemRng)?) })
    });
    let keeping = tokio::spawn(keep_renewed(tls.clone(), data.0.clone(), files.key_pem.clone(), ask, clock()));
    let renewed = || NodeFiles::load(&data.0).unwrap().unwrap();
    while renewed().cert_pem == files.cert_pem {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!tls.renewal_due(now()));
    renewed().tls(clock()).unwrap();
    keeping.abort();
}
