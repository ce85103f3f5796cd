use std::sync::Arc;

use super::*;
use crate::clock::{Clock, Moment, SharedClock, SystemClock, UnixMillis};
use crate::ids::{ClusterId, NodeId};
use crate::rng::SystemRng;

pub(crate) const CLUSTER: ClusterId = ClusterId(7);

pub(crate) fn now() -> UnixMillis {
    SystemClock.wall()
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

pub(crate) fn ca(cluster: ClusterId) -> ClusterCa {
    ClusterCa::generate(cluster, now(), &SystemRng).unwrap()
}

/// The TLS of `node`, signed by `ca` of `cluster`.
pub(crate) fn tls(ca: &ClusterCa, cluster: ClusterId, node: u64) -> Arc<NodeTls> {
    let made = KeyAndRequest::generate().unwrap();
    let cert = ca.issue_node_cert(&made.request_pem, NodeId(node), &[], now(), &SystemRng).unwrap();
    Arc::new(NodeTls::new(cluster, NodeId(node), ca.cert_pem(), &cert, &made.key_pem, clock()).unwrap())
}

fn leaf_der(pem: &str) -> Vec<u8> {
    ca::certificate(pem).unwrap().to_vec()
}

#[test]
fn a_node_certificate_names_its_node_and_hosts_and_lasts_90_days() {
    let (ca, made) = (ca(CLUSTER), KeyAndRequest::generate().unwrap());
    let hosts = ["10.0.0.5".to_owned(), "a.example".to_owned()];
    let pem = ca.issue_node_cert(&made.request_pem, NodeId(12), &hosts, now(), &SystemRng).unwrap();
    let der = leaf_der(&pem);
    assert_eq!(node_of(&der).unwrap(), Some(NodeName { node: NodeId(12), cluster: CLUSTER }));
    assert_eq!(
        names::dns_names(&der).unwrap(),
        ["node-12.00000000000000000000000000000007.rookery.internal", "node-12", "localhost", "a.example"]
    );
    let validity = validity_of(&der).unwrap();
    let day = 86_400_000;
    assert!(!validity.renewal_due(UnixMillis(now().0 + 59 * day)));
    assert!(validity.renewal_due(UnixMillis(now().0 + 61 * day)));
}

#[test]
fn names_are_read_strictly() {
    let good = "node-3.0000000000000000000000000000000a.rookery.internal";
    assert_eq!(NodeName::parse(good), Some(NodeName { node: NodeId(3), cluster: ClusterId(10) }));
    for bad in [
        "node-03.0000000000000000000000000000000a.rookery.internal",
        "node-+3.0000000000000000000000000000000a.rookery.internal",
        "node-3.0000000000000000000000000000000A.rookery.internal",
        "node-3.x.0000000000000000000000000000000a.rookery.internal",
        "node-3.rookery.internal",
        "node-3",
    ] {
        assert_eq!(NodeName::parse(bad), None, "{bad}");
    }
}

#[test]
fn no_one_gets_a_host_in_the_internal_domain() {
    let (ca, made) = (ca(CLUSTER), KeyAndRequest::generate().unwrap());
    for host in ["node-1.00000000000000000000000000000007.Rookery.Internal", "x.rookery.internal.", "", "ä.example"] {
        let issued = ca.issue_node_cert(&made.request_pem, NodeId(2), &[host.to_owned()], now(), &SystemRng);
        assert!(matches!(issued, Err(PkiError::HostRefused(_))), "{host}");
    }
}

#[test]
fn an_authority_read_back_signs_for_the_same_cluster() {
    let first = ca(CLUSTER);
    let again = ClusterCa::from_pem(CLUSTER, first.cert_pem(), &first.key_pem()).unwrap();
    assert_eq!(first.hash(), again.hash());
    assert_eq!(first.hash().to_string().parse(), Ok(again.hash()));
    tls(&again, CLUSTER, 1);
    let other = ca(CLUSTER);
    let mixed = ClusterCa::from_pem(CLUSTER, first.cert_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(PkiError::KeyMismatch)));
}

#[test]
fn a_certificate_of_another_node_or_key_is_not_taken() {
    let (ca, made) = (ca(CLUSTER), KeyAndRequest::generate().unwrap());
    let cert = ca.issue_node_cert(&made.request_pem, NodeId(1), &[], now(), &SystemRng).unwrap();
    let wrong = NodeTls::new(CLUSTER, NodeId(2), ca.cert_pem(), &cert, &made.key_pem, clock());
    assert!(matches!(wrong, Err(PkiError::WrongName { .. })));
    let tls = tls(&ca, CLUSTER, 1);
    let other = KeyAndRequest::generate().unwrap();
    assert!(matches!(tls.replace(&cert, &other.key_pem), Err(PkiError::KeyMismatch)));
    tls.replace(&cert, &made.key_pem).unwrap();
}

struct At(u64);
impl Clock for At {
    fn now(&self) -> Moment {
        Moment::default()
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(self.0)
    }
}

#[test]
fn the_resolver_signs_brokers_names_and_refuses_unknown_ones() {
    let judge = |name: &str| match name.strip_suffix(".mq.example") {
        Some("a.ns") => NameVerdict::Issue,
        Some(_) => NameVerdict::Refuse,
        None => NameVerdict::Default,
    };
    let ca = Arc::new(ca(CLUSTER));
    let resolver = DynamicResolver::new(Box::new(judge), vec!["localhost".to_owned()])
        .with_signer(ca, Arc::new(At(now().0)), Arc::new(SystemRng))
        .unwrap();
    let names = |host| resolver.certificate_for(host).map(|key| names::dns_names(&key.cert[0]).unwrap());
    assert_eq!(names(Some("A.ns.mq.example")), Some(vec!["a.ns.mq.example".to_owned()]));
    assert_eq!(names(Some("b.ns.mq.example")), None);
    assert_eq!(names(Some("lb.example")), Some(vec!["localhost".to_owned()]));
    assert_eq!(names(None), Some(vec!["localhost".to_owned()]));
    let (first, second) = (resolver.certificate_for(None).unwrap(), resolver.certificate_for(None).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn a_certificate_file_goes_before_signing() {
    let ca = Arc::new(ca(CLUSTER));
    let file = ca.issue_server_cert(&["*.ns.mq.example".to_owned()], now(), &SystemRng).unwrap();
    let resolver = DynamicResolver::new(Box::new(|_| NameVerdict::Issue), Vec::new())
        .with_signer(ca, clock(), Arc::new(SystemRng))
        .unwrap()
        .with_files(&file.chain_pem, &file.key_pem)
        .unwrap();
    let names = |host| names::dns_names(&resolver.certificate_for(Some(host)).unwrap().cert[0]).unwrap();
    assert_eq!(names("x.ns.mq.example"), ["*.ns.mq.example"]);
    assert_eq!(names("x.other.mq.example"), ["x.other.mq.example"]);
}

#[test]
fn a_replaced_certificate_file_is_used_and_a_bad_one_is_not() {
    let ca = Arc::new(ca(CLUSTER));
    let issue = |name: &str, at: UnixMillis| ca.issue_server_cert(&[name.to_owned()], at, &SystemRng).unwrap();
    let (first, second, foreign) = (issue("a.example", now()), issue("b.example", now()), issue("b.example", now()));
    let old = issue("c.example", UnixMillis(0));
    let resolver = DynamicResolver::new(Box::new(|_| NameVerdict::Default), Vec::new())
        .with_files(&first.chain_pem, &first.key_pem)
        .unwrap();
    let names = || names::dns_names(&resolver.certificate_for(None).unwrap().cert[0]).unwrap();
    let replace = |chain: &str, key: &str| resolver.replace_files(chain, key, now());
    assert!(matches!(replace("no certificate", &second.key_pem), Err(PkiError::Unreadable { .. })));
    assert!(matches!(replace(&second.chain_pem, &foreign.key_pem), Err(PkiError::KeyMismatch)));
    assert!(matches!(replace(&old.chain_pem, &old.key_pem), Err(PkiError::Expired)));
    assert_eq!(names(), ["a.example"]);
    replace(&second.chain_pem, &second.key_pem).unwrap();
    assert_eq!(names(), ["b.example"]);
}
