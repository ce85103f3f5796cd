//! Certificates for client-facing listeners: from files, or signed on demand by the cluster's authority for
//! the host name that the client asks for (a wildcard cannot cover `broker.namespace.domain`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::names::{dns_names, validity_of};
use super::tls::certified_key;
use super::{ClusterCa, PkiError};
use crate::clock::{SharedClock, UnixMillis};
use crate::rng::SharedRng;

/// Certificates kept: each is some 2 kB, and making one anew costs one signature.
const CACHE: usize = 1024;

/// What to do about a host name that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameVerdict {
    /// A broker's: sign a certificate for it, if the authority is here.
    Issue,
    /// None of ours: counts as absent, so the default certificate answers.
    Default,
    /// Ours and naming no broker: the handshake is refused.
    Refuse,
}

type Judge = Box<dyn Fn(&str) -> NameVerdict + Send + Sync>;

/// Chooses the certificate for each TLS handshake with a client.
pub struct DynamicResolver {
    files: RwLock<Vec<FromFile>>,
    signer: Option<Signer>,
    judge: Judge,
    default_names: Vec<String>,
}

/// A certificate that was given, and the names that it is for.
type FromFile = (Vec<String>, Arc<CertifiedKey>);

struct Signer {
    ca: Arc<ClusterCa>,
    key: KeyPair,
    key_pem: String,
    clock: SharedClock,
    rng: SharedRng,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    by_name: BTreeMap<String, (Arc<CertifiedKey>, UnixMillis)>,
    order: VecDeque<String>,
}

impl DynamicResolver {
    /// `judge` says which names are brokers'; `default_names` are the names of the certificate for clients
    /// that send none of them. Without files and without a signer every handshake fails.
    pub fn new(judge: Judge, default_names: Vec<String>) -> Self {
        Self { files: RwLock::default(), signer: None, judge, default_names }
    }

    /// Adds a certificate chain with its key, PEM. Its own names decide when it is used, wildcards too; the
    /// first one added is also the default.
    pub fn with_files(mut self, chain_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        self.files.get_mut().push(from_file(chain_pem, key_pem)?);
        Ok(self)
    }

    /// Takes this chain and key into use instead of those that were added; open connections keep the old ones.
    ///
    /// # Errors
    /// They are unreadable, do not belong together or have expired by `now`: the old ones stay in use then.
    pub fn replace_files(&self, chain_pem: &str, key_pem: &str, now: UnixMillis) -> Result<(), PkiError> {
        let replacement = from_file(chain_pem, key_pem)?;
        let until = replacement.1.cert.first().map(|leaf| validity_of(leaf)).transpose()?.map(|v| v.until);
        if until.is_some_and(|until| until < now) {
            return Err(PkiError::Expired);
        }
        *self.files.write() = vec![replacement];
        Ok(())
    }

    /// Signs on demand with `ca` what the files do not cover.
    pub fn with_signer(mut self, ca: Arc<ClusterCa>, clock: SharedClock, rng: SharedRng) -> Result<Self, PkiError> {
        // One key for all names: they are served by the same process anyway.
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        self.signer = Some(Signer { ca, key, key_pem, clock, rng, cache: Mutex::default() });
        Ok(self)
    }

    /// The certificate for `name` (`None`: the client sent none); `None` refuses the handshake.
    pub fn certificate_for(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let verdict = name.as_deref().map_or(NameVerdict::Default, |n| (self.judge)(n));
        if verdict == NameVerdict::Refuse {
            return None;
        }
        let files = self.files.read();
        if let Some((_, found)) = name.as_deref().and_then(|n| files.iter().find(|(names, _)| covers(names, n))) {
            return Some(found.clone());
        }
        match (name, verdict) {
            (Some(name), NameVerdict::Issue) if self.signer.is_some() => self.sign(&[name]),
            _ => files.first().map(|(_, key)| key.clone()).or_else(|| self.sign(&self.default_names)),
        }
    }

    fn sign(&self, names: &[String]) -> Option<Arc<CertifiedKey>> {
        let signed = self.signer.as_ref()?.certificate(names);
        signed.inspect_err(|error| tracing::warn!(%error, ?names, "no certificate for a client's connection")).ok()
    }
}

fn from_file(chain_pem: &str, key_pem: &str) -> Result<FromFile, PkiError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| PkiError::unreadable("certificate", e))?;
    let leaf = chain.first().ok_or_else(|| PkiError::unreadable("certificate", "the file holds none"))?;
    let names = dns_names(leaf)?.iter().map(|name| name.to_ascii_lowercase()).collect();
    Ok((names, certified_key(chain, key_pem)?))
}

impl Signer {
    fn certificate(&self, names: &[String]) -> Result<Arc<CertifiedKey>, PkiError> {
        let (now, first) = (self.clock.wall(), names.first().cloned().unwrap_or_default());
        if let Some(cached) = self.cache.lock().get(&first, now) {
            return Ok(cached);
        }
        let leaf = self.ca.sign_server_key(names, &self.key, now, self.rng.as_ref())?;
        let until = validity_of(leaf.der())?.until;
        let made = certified_key(vec![leaf.der().clone(), self.ca.der().clone()], &self.key_pem)?;
        self.cache.lock().put(first, made.clone(), until);
        Ok(made)
    }
}

impl Cache {
    fn get(&self, name: &str, now: UnixMillis) -> Option<Arc<CertifiedKey>> {
        // A day early, so that no client meets one that ends during its handshake.
        self.by_name.get(name).filter(|(_, until)| now.0 + 86_400_000 < until.0).map(|(key, _)| key.clone())
    }

    fn put(&mut self, name: String, key: Arc<CertifiedKey>, until: UnixMillis) {
        if self.by_name.insert(name.clone(), (key, until)).is_none() {
            self.order.push_back(name);
        }
        if self.order.len() > CACHE
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_name.remove(&oldest);
        }
    }
}

/// Whether one of `names` is `host`, or a wildcard for its first label (RFC 6125, 6.4.3).
fn covers(names: &[String], host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(|rest| Some(rest) == parent))
}

impl ResolvesServerCert for DynamicResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate_for(hello.server_name())
    }
}

impl fmt::Debug for DynamicResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicResolver").field("files", &self.files.read().len()).finish_non_exhaustive()
    }
}
