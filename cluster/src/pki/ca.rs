//! The cluster's certificate authority: signs nodes' requests and client-facing certificates.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::names::{INTERNAL_DOMAIN, NodeName};
use super::{CaHash, PkiError};
use crate::clock::UnixMillis;
use crate::ids::{ClusterId, NodeId};
use crate::rng::Rng;

/// How long a node's certificate holds. It renews itself after two thirds of that.
pub const NODE_CERT_LIFETIME: Duration = Duration::from_secs(90 * DAY);
/// How long a certificate for clients holds; it is made anew on demand.
pub const SERVER_CERT_LIFETIME: Duration = Duration::from_secs(30 * DAY);
const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY);
const DAY: u64 = 24 * 3600;
/// Nodes' clocks may be behind the signer's by this much and still take a new certificate.
const BACKDATE: Duration = Duration::from_secs(3600);
/// Hosts that one certificate may carry: more is a mistake, and every handshake would carry them.
const MAX_HOSTS: usize = 32;
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A new key and the request to sign it. The key does not leave the node.
pub struct KeyAndRequest {
    /// Private key, PKCS#8 PEM. Secret.
    pub key_pem: String,
    /// Certificate signing request, PEM.
    pub request_pem: String,
}

impl KeyAndRequest {
    /// Makes both. The names in the certificate are the signer's choice, so the request carries none.
    pub fn generate() -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        Ok(Self { request_pem: request_for(&key)?, key_pem: key.serialize_pem() })
    }

    /// A request for a key that exists: a renewal.
    pub fn for_key(key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::unreadable("private key", e))?;
        Ok(Self { request_pem: request_for(&key)?, key_pem: key_pem.to_owned() })
    }
}

/// A certificate with its key, made here (client-facing listeners).
pub struct IssuedKey {
    /// The leaf, then the authority, PEM.
    pub chain_pem: String,
    /// Private key, PKCS#8 PEM. Secret.
    pub key_pem: String,
}

/// The authority: its certificate and its private key.
pub struct ClusterCa {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl ClusterCa {
    /// Makes the authority of a new cluster.
    pub fn generate(cluster: ClusterId, now: UnixMillis, rng: &dyn Rng) -> Result<Self, PkiError> {
        let mut params = params(&format!("Rookery cluster {cluster}"), now, CA_LIFETIME, rng);
        // No further authority below it: it signs leaves only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { cluster, der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Reads an authority back from what [`ClusterCa::cert_pem`] and [`ClusterCa::key_pem`] gave.
    pub fn from_pem(cluster: ClusterId, cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let der = certificate(cert_pem)?;
        let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::unreadable("private key", e))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|e| PkiError::unreadable("certificate", e))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| PkiError::unreadable("certificate", e))?;
        Ok(Self { cluster, issuer, der, pem: cert_pem.to_owned() })
    }

    /// The authority's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.pem
    }

    /// The authority's private key, PKCS#8 PEM. Secret: stored encrypted, or in a file of mode 0600.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What join tokens pin.
    pub fn hash(&self) -> CaHash {
        CaHash::of(&self.der)
    }

    /// Signs `request_pem` for `node`, with its internal name, the local host, and `hosts` (names or
    /// addresses under which it is reached). Returns the certificate, PEM.
    ///
    /// # Errors
    /// An unreadable request or one not signed by its own key; a host that is not a name or address, or that
    /// lies in the internal domain.
    pub fn issue_node_cert(
        &self,
        request_pem: &str,
        node: NodeId,
        hosts: &[String],
        now: UnixMillis,
        rng: &dyn Rng,
    ) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|e| PkiError::unreadable("certificate signing request", e))?;
        let mut names = vec![NodeName { node, cluster: self.cluster }.to_string(), format!("node-{node}")];
        names.extend(LOCAL_HOSTS.map(str::to_owned));
        names.extend(checked_hosts(hosts)?);
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let params = leaf(&format!("node-{node}"), names, usages, now, NODE_CERT_LIFETIME, rng)?;
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// Makes a key and a certificate for a listener that clients connect to. It is not one that a node takes
    /// for a peer's.
    pub fn issue_server_cert(&self, names: &[String], now: UnixMillis, rng: &dyn Rng) -> Result<IssuedKey, PkiError> {
        let key = KeyPair::generate()?;
        let leaf = self.sign_server_key(names, &key, now, rng)?;
        Ok(IssuedKey { chain_pem: format!("{}{}", leaf.pem(), self.pem), key_pem: key.serialize_pem() })
    }

    pub(super) fn sign_server_key(
        &self,
        names: &[String],
        key: &KeyPair,
        now: UnixMillis,
        rng: &dyn Rng,
    ) -> Result<rcgen::Certificate, PkiError> {
        let names = checked_hosts(names)?;
        let common = names.first().cloned().unwrap_or_default();
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let params = leaf(&common, names, usages, now, SERVER_CERT_LIFETIME, rng)?;
        Ok(params.signed_by(key, &self.issuer)?)
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

impl std::fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterCa").field("cluster", &self.cluster).field("hash", &self.hash()).finish_non_exhaustive()
    }
}

/// SHA-256 of the public key that `request_pem` asks to have certified: equal to
/// [`super::public_key_hash`] of the certificate.
pub fn request_key_hash(request_pem: &str) -> Result<[u8; 32], PkiError> {
    let request = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|e| PkiError::unreadable("certificate signing request", e))?;
    Ok(CaHash::of(&request.public_key.subject_public_key_info()).0)
}

fn request_for(key: &KeyPair) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.pem()?)
}

/// Reads the first certificate of a PEM text.
pub(super) fn certificate(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::unreadable("certificate", e))
}

fn checked_hosts(hosts: &[String]) -> Result<Vec<String>, PkiError> {
    let internal = |host: &str| host.to_ascii_lowercase().trim_end_matches('.').ends_with(INTERNAL_DOMAIN);
    let fits = |host: &&String| !host.is_empty() && host.len() <= 253 && host.is_ascii() && !internal(host);
    match hosts.iter().find(|host| !fits(host)) {
        Some(host) => Err(PkiError::HostRefused(host.clone())),
        None if hosts.len() > MAX_HOSTS => Err(PkiError::HostRefused(format!("{} and more", hosts[MAX_HOSTS]))),
        None => Ok(hosts.to_vec()),
    }
}

fn leaf(
    common_name: &str,
    names: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    now: UnixMillis,
    lifetime: Duration,
    rng: &dyn Rng,
) -> Result<CertificateParams, PkiError> {
    let mut params = params(common_name, now, lifetime, rng);
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(common_name: &str, now: UnixMillis, lifetime: Duration, rng: &dyn Rng) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.seconds());
    params.not_before = now - BACKDATE;
    params.not_after = now + lifetime;
    params.serial_number = Some(serial(rng));
    params.distinguished_name = DistinguishedName::new();
    // RFC 5280, upper bound of a common name; clients read the subject alternative names.
    let common_name: String = common_name.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// 127 random bits: positive, as RFC 5280, 4.1.2.2 asks.
fn serial(rng: &dyn Rng) -> SerialNumber {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}
