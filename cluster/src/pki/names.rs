//! What a certificate says of its owner. Used on certificates that a verifier has already found to be signed
//! by the authority, or that were read from this node's own files.

use std::fmt;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{CaHash, PkiError};
use crate::clock::UnixMillis;
use crate::ids::{ClusterId, NodeId};

/// The domain of nodes' own names. No other name below it is ever certified.
pub(super) const INTERNAL_DOMAIN: &str = ".rookery.internal";

/// A node's name among nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName {
    /// The node.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}.{}{INTERNAL_DOMAIN}", self.node, self.cluster)
    }
}

impl NodeName {
    /// Reads `node-<id>.<cluster id>.rookery.internal`, and nothing that is spelled differently.
    pub fn parse(text: &str) -> Option<NodeName> {
        let (node, cluster) = text.strip_suffix(INTERNAL_DOMAIN)?.strip_prefix("node-")?.split_once('.')?;
        let name = NodeName { node: NodeId(node.parse().ok()?), cluster: cluster.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub from: UnixMillis,
    /// Last moment.
    pub until: UnixMillis,
}

impl Validity {
    /// Whether two thirds of the lifetime are over.
    pub fn renewal_due(&self, now: UnixMillis) -> bool {
        now.0 >= self.from.0 + (self.until.0.saturating_sub(self.from.0)) / 3 * 2
    }
}

/// The node that `certificate` (DER) names; `None` if it names none, or several.
pub fn node_of(certificate: &[u8]) -> Result<Option<NodeName>, PkiError> {
    let names = dns_names(certificate)?;
    let mut nodes = names.iter().filter_map(|name| NodeName::parse(name));
    let first = nodes.next();
    Ok(if nodes.next().is_some() { None } else { first })
}

/// When `certificate` (DER) holds.
pub fn validity_of(certificate: &[u8]) -> Result<Validity, PkiError> {
    let parsed = parse(certificate)?;
    let millis = |seconds: i64| UnixMillis(u64::try_from(seconds).unwrap_or(0) * 1000);
    let validity = parsed.validity();
    Ok(Validity { from: millis(validity.not_before.timestamp()), until: millis(validity.not_after.timestamp()) })
}

/// SHA-256 of the public key (SubjectPublicKeyInfo, DER) of `certificate` (DER): by it the metadata knows a
/// node's key.
pub fn public_key_hash(certificate: &[u8]) -> Result<[u8; 32], PkiError> {
    Ok(CaHash::of(parse(certificate)?.public_key().raw).0)
}

/// The DNS names of `certificate` (DER).
pub(super) fn dns_names(certificate: &[u8]) -> Result<Vec<String>, PkiError> {
    let parsed = parse(certificate)?;
    let extension = parsed.subject_alternative_name().map_err(|e| PkiError::unreadable("certificate", e))?;
    let names = extension.map(|e| e.value.general_names.as_slice()).unwrap_or_default();
    Ok(names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(n) = name { Some(n.to_string()) } else { None })
        .collect())
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|e| PkiError::unreadable("certificate", e))
}
