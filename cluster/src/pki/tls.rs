//! TLS configurations: between nodes (mutual), for joining (the authority pinned by its hash), and for
//! clients.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

use super::ca::certificate;
use super::names::{NodeName, node_of, validity_of};
use super::{CaHash, PkiError};
use crate::clock::{SharedClock, UnixMillis};
use crate::ids::{ClusterId, NodeId};

/// What nodes speak to each other: HTTP/2 with this version of the messages. A node offers the versions it
/// knows, so that TLS settles on one, or refuses with `no_application_protocol`, before any message is sent.
pub const ALPN_PEER: &[u8] = b"rookery/1";
/// As [`ALPN_PEER`], on connections that carry publishes only: the far side serves them on threads of their own (R18).
pub const ALPN_DATA: &[u8] = b"rookery-data/1";
/// The join protocol: HTTP/2, the only one open to a caller without a certificate.
pub const ALPN_JOIN: &[u8] = b"rookery-join/1";

/// This node's key and certificate, which can be replaced while in use, and the TLS configurations that use
/// them.
pub struct NodeTls {
    name: NodeName,
    ca: CertificateDer<'static>,
    current: Arc<Current>,
    client: Arc<ClientConfig>,
    data_client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl NodeTls {
    /// From the PEM texts of the authority's certificate, the node's, and the node's private key.
    ///
    /// # Errors
    /// Where one is unreadable, they do not belong together, or they are another node's or cluster's.
    pub fn new(
        cluster: ClusterId,
        node: NodeId,
        ca_pem: &str,
        cert_pem: &str,
        key_pem: &str,
        clock: SharedClock,
    ) -> Result<Self, PkiError> {
        let name = NodeName { node, cluster };
        let ca = certificate(ca_pem)?;
        let current = Arc::new(Current(RwLock::new(certified(name, &ca, cert_pem, key_pem)?)));
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let (roots, time) = (Arc::new(roots), Arc::new(Time(clock)));
        let client = client_config(default_provider(), roots.clone(), current.clone(), time.clone())?;
        let mut data_client = client_config(data_provider(), roots.clone(), current.clone(), time.clone())?;
        data_client.alpn_protocols = vec![ALPN_DATA.to_vec()];
        let server = server_config(roots, current.clone(), time)?;
        let (client, data_client) = (Arc::new(client), Arc::new(data_client));
        Ok(Self { name, ca, current, client, data_client, server: Arc::new(server) })
    }

    /// Takes a renewed certificate into use; open connections keep the old one.
    pub fn replace(&self, cert_pem: &str, key_pem: &str) -> Result<(), PkiError> {
        let renewed = certified(self.name, &self.ca, cert_pem, key_pem)?;
        *self.current.0.write() = renewed;
        Ok(())
    }

    /// Whether the certificate in use should be replaced.
    pub fn renewal_due(&self, now: UnixMillis) -> bool {
        let current = self.current.0.read().clone();
        // One that cannot be read was never taken into use.
        current.cert.first().is_some_and(|c| validity_of(c).is_ok_and(|v| v.renewal_due(now)))
    }

    /// For connecting to peers.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// For connecting to peers to send publishes.
    pub fn data_client_config(&self) -> Arc<ClientConfig> {
        self.data_client.clone()
    }

    /// For accepting peers and joining nodes. A caller without a certificate passes the handshake: whoever
    /// accepts looks at the protocol it asked for.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For administrators, who have no certificate: the node's own certificate, HTTP/2.
    pub fn admin_config(&self, clock: SharedClock) -> Result<Arc<ServerConfig>, PkiError> {
        server_config_for_clients(self.current.clone(), &[b"h2"], clock)
    }

    /// This node.
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// The name under which TLS knows `node`.
    pub fn server_name(&self, node: NodeId) -> Result<ServerName<'static>, PkiError> {
        let name = NodeName { node, cluster: self.name.cluster }.to_string();
        ServerName::try_from(name).map_err(|e| PkiError::unreadable("server name", e))
    }

    /// The hash of the authority's certificate.
    pub fn ca_hash(&self) -> CaHash {
        CaHash::of(&self.ca)
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// For a node that has no certificate yet: takes any node's certificate whose authority hashes to `pin`.
pub fn join_client_config(pin: CaHash, clock: SharedClock) -> Result<Arc<ClientConfig>, PkiError> {
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// For listeners that MQTT clients connect to: TLS 1.2 and 1.3, no client certificates, `alpn` as offered.
pub fn server_config_for_clients(
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: &[&[u8]],
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = ServerConfig::builder_with_details(Arc::new(default_provider()), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Prefers the cipher that costs least for a stream of publishes; the server takes the caller's order.
fn data_provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn client_config(
    provider: CryptoProvider,
    roots: Arc<RootCertStore>,
    own: Arc<Current>,
    time: Arc<Time>,
) -> Result<ClientConfig, PkiError> {
    let mut config = ClientConfig::builder_with_details(Arc::new(provider), time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(own);
    config.alpn_protocols = vec![ALPN_PEER.to_vec()];
    // Each connection proves the peer's certificate afresh; connections are few and long.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(roots: Arc<RootCertStore>, own: Arc<Current>, time: Arc<Time>) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| PkiError::unreadable("authority", e))?;
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_DATA.to_vec(), ALPN_JOIN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certified(
    name: NodeName,
    ca: &CertificateDer<'static>,
    cert_pem: &str,
    key_pem: &str,
) -> Result<Arc<CertifiedKey>, PkiError> {
    let leaf = certificate(cert_pem)?;
    match node_of(&leaf)? {
        Some(found) if found == name => {}
        found => {
            let found = found.map_or("no node".to_owned(), |n| n.to_string());
            return Err(PkiError::WrongName { found, wanted: name.to_string() });
        }
    }
    // The authority goes along for joining nodes, which know only its hash.
    certified_key(vec![leaf, ca.clone()], key_pem)
}

pub(super) fn certified_key(chain: Vec<CertificateDer<'static>>, key_pem: &str) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| PkiError::unreadable("private key", e))?;
    let pair = CertifiedKey::new(chain, any_supported_type(&key)?);
    pair.keys_match().map_err(|_| PkiError::KeyMismatch)?;
    Ok(Arc::new(pair))
}

/// The wall clock, as rustls takes it.
struct Time(SharedClock);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall().0)))
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Trusts the one authority whose hash the join token carries. The address that was dialled proves nothing
/// here, so the name checked is the node's own: any node of that cluster is a right one to join at.
#[derive(Debug)]
struct Pinned {
    pin: CaHash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|c| CaHash::of(c) == self.pin).ok_or(CertificateError::UnknownIssuer)?;
        let name = node_of(end_entity)
            .ok()
            .flatten()
            .and_then(|name| ServerName::try_from(name.to_string()).ok())
            .ok_or(CertificateError::ApplicationVerificationFailure)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, &[], &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
