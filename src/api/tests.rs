use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_cluster::clock::SystemClock;
use rookery_cluster::consensus::{Applied, BoxFuture, Consensus, GroupStatus, ProposeError, Replicated};
use rookery_cluster::ids::{AccountId, ClusterId, GroupId, Incarnation, LogIndex, NodeId, TokenId};
use rookery_cluster::membership::Member;
use rookery_cluster::metadata::handle::machine;
use rookery_cluster::metadata::{CommandBody, Metadata, MetadataMachine, NodeCard, Scope};
use rookery_cluster::rng::SystemRng;
use rookery_proto::admin;
use rookery_proto::admin::brokers_client::BrokersClient;
use rookery_proto::admin::cluster_client::ClusterClient;
use rookery_proto::admin::namespaces_client::NamespacesClient;
use rookery_proto::admin::tokens_client::TokensClient;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::serve::{BOUNDS, Bounds, serve_within};
use super::*;
use crate::auth::{Sealer, Verifier, new_api_token};

mod port;
mod retries;

/// A group of one, in memory.
struct Alone(Mutex<(MetadataMachine, u64)>);

impl Consensus for Alone {
    fn propose(&self, _: GroupId, command: Bytes) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        let mut inner = self.0.lock();
        inner.1 += 1;
        let index = LogIndex(inner.1);
        let outcome = inner.0.apply(index, &command).map_err(|e| ProposeError::Stopped(e.0));
        inner.0.applied(index);
        Box::pin(async move { Ok(Applied { index, outcome: outcome? }) })
    }
    fn linearize(&self, _: GroupId) -> BoxFuture<'_, Result<LogIndex, ProposeError>> {
        let index = LogIndex(self.0.lock().1);
        Box::pin(async move { Ok(index) })
    }
    fn confirm_leadership(&self, _: GroupId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Ok(()) })
    }
    fn status(&self, _: GroupId) -> GroupStatus {
        GroupStatus { leader: Some(NodeId(1)), voters: vec![NodeId(1)], ..GroupStatus::default() }
    }
    fn changed(&self, _: GroupId, _: GroupStatus) -> BoxFuture<'_, GroupStatus> {
        Box::pin(std::future::pending())
    }
    fn change_membership(&self, _: GroupId, _: Vec<NodeId>, _: Vec<NodeId>) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Err(ProposeError::Unavailable) })
    }
    fn transfer_leader(&self, _: GroupId, _: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(async { Err(ProposeError::Unavailable) })
    }
}

/// Counts what was waited for; the other nodes are as told.
#[derive(Default)]
struct Others {
    waited: AtomicU64,
    deaf: Mutex<bool>,
    /// They never answer, nor is it ever given up.
    stuck: AtomicBool,
}

impl Everywhere for Others {
    fn everywhere(&self, _: LogIndex) -> BoxFuture<'_, Result<(), Vec<NodeId>>> {
        self.waited.fetch_add(1, Ordering::Relaxed);
        if self.stuck.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        let answer = if *self.deaf.lock() { Err(vec![NodeId(2)]) } else { Ok(()) };
        Box::pin(async { answer })
    }
}

struct OneNode;

impl ClusterView for OneNode {
    fn me(&self) -> NodeId {
        NodeId(1)
    }
    fn ready(&self) -> Readiness {
        Err("starting".into())
    }
    fn settled(&self) -> Readiness {
        Err("group 3 has no leader".into())
    }
    fn groups(&self) -> Vec<(GroupId, GroupStatus)> {
        let status = GroupStatus { leader: Some(NodeId(1)), term: 3, voters: vec![NodeId(1)], ..<_>::default() };
        vec![(GroupId::METADATA, status)]
    }
    fn members(&self) -> Vec<Member> {
        Vec::new()
    }
}

struct World {
    channel: Channel,
    token: String,
    metadata: Metadata,
    others: Arc<Others>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Ends with this.
    server: JoinSet<std::io::Result<()>>,
}

impl World {
    async fn new() -> Self {
        Self::start(BOUNDS, None).await
    }

    async fn start(bounds: Bounds, tls: Option<(Arc<ServerConfig>, ClientTlsConfig)>) -> Self {
        let (machine, view) = machine();
        let consensus = Arc::new(Alone(Mutex::new((machine, 0))));
        let metadata = Metadata::new(consensus, view, Arc::new(SystemClock), Arc::new(SystemRng));
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        let init = CommandBody::InitCluster {
            id: ClusterId(1),
            ca_pem: ca.cert.pem(),
            sealed_ca_key: Vec::new(),
            sealed_secrets: Vec::new(),
            shards: 16,
        };
        let account =
            |n, name: &str| CommandBody::CreateAccount { id: AccountId(n), name: name.into(), max_namespaces: 3 };
        for body in [init, account(1, "default"), account(2, "other")] {
            metadata.propose(body).await.unwrap().1.into_result().unwrap();
        }
        let others = Arc::new(Others::default());
        let tools = Tools {
            metadata: metadata.clone(),
            sealer: Sealer::new([7; 32], &[]),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            everywhere: others.clone(),
            cluster: Arc::new(OneNode),
            place: Place { domain: "example.com".into(), mqtts_port: 8883 },
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, endpoint) = match tls {
            None => (None, Endpoint::from_shared(format!("http://{address}")).unwrap()),
            Some((config, client)) => {
                let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
                (Some(config), endpoint.tls_config(client).unwrap())
            }
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let mut server = JoinSet::new();
        server.spawn(serve_within(bounds, Service::new(tools), listener, config, stopped));
        let channel = endpoint.connect_lazy();
        let token = Self::token_of(&metadata, Scope::All).await;
        Self { channel, token, metadata, others, address, stop, server }
    }

    async fn token_of(metadata: &Metadata, scope: Scope) -> String {
        let new = new_api_token(&SystemRng);
        let (id, hash) = (new.id, new.hash);
        let body = CommandBody::CreateToken { id, hash, name: "test".into(), scope, expires: None };
        metadata.propose(body).await.unwrap().1.into_result().unwrap();
        new.text
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        ask_as(&self.token, message)
    }

    fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.channel.clone())
    }

    fn brokers(&self) -> BrokersClient<Channel> {
        BrokersClient::new(self.channel.clone())
    }

    fn tokens(&self) -> TokensClient<Channel> {
        TokensClient::new(self.channel.clone())
    }

    async fn create_namespace(&self, name: &str, request_id: &str) -> Result<admin::Namespace, Status> {
        let (name, request_id) = (name.to_owned(), request_id.to_owned());
        let message = admin::CreateNamespaceRequest { name, request_id, ..<_>::default() };
        self.namespaces().create(self.ask(message)).await.map(tonic::Response::into_inner)
    }

    async fn create_broker(&self, namespace: &str, name: &str) -> Result<admin::Broker, Status> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let message = admin::CreateBrokerRequest { namespace, name, expiration: Some(3600), ..<_>::default() };
        self.brokers().create(self.ask(message)).await.map(tonic::Response::into_inner)
    }

    async fn with_broker() -> Self {
        let world = Self::new().await;
        world.create_namespace("demo", "").await.unwrap();
        world.create_broker("demo", "hello").await.unwrap();
        world
    }
}

fn ask_as<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let world = World::new().await;
    let listing = admin::ListNamespacesRequest::default();
    let none = world.namespaces().list(Request::new(listing.clone())).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    let other = new_api_token(&SystemRng).text;
    let unknown = world.namespaces().list(ask_as(&other, listing)).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::Unauthenticated, "unknown or revoked API token"));
}

#[tokio::test]
async fn namespaces_and_brokers_live_and_die() {
    let world = World::new().await;
    let made = world.create_namespace("Demo", "").await.unwrap();
    assert_eq!((made.name.as_str(), made.id.len()), ("demo", 32));
    assert_eq!(world.create_namespace("demo", "").await.unwrap_err().code(), Code::AlreadyExists);
    let bad = world.create_namespace("no_good", "").await.unwrap_err();
    assert_eq!(bad.message(), "a name has only letters, digits and hyphens (RFC 1035), not '_'");
    let broker = world.create_broker(&made.id, "hello").await.unwrap();
    assert_eq!(broker.endpoint, "mqtts://hello.demo.example.com:8883");
    assert_eq!((broker.auth_type.as_str(), broker.expiration), ("TOKEN", Some(3600)));
    let named = |n: &str| admin::DeleteNamespaceRequest { namespace: n.into(), request_id: String::new() };
    let held = world.namespaces().delete(world.ask(named("demo"))).await.unwrap_err();
    assert_eq!((held.code(), held.message()), (Code::FailedPrecondition, "namespace demo still holds broker hello"));
    let update = admin::UpdateBrokerRequest {
        namespace: "demo".into(),
        broker: broker.id.clone(),
        description: Some("greets".into()),
        expiration: Some(-1),
        ..<_>::default()
    };
    let updated = world.brokers().update(world.ask(update)).await.unwrap().into_inner();
    assert_eq!((updated.description.as_str(), updated.expiration), ("greets", None));
    let delete = admin::DeleteBrokerRequest { namespace: "demo".into(), broker: "HELLO".into(), ..<_>::default() };
    world.brokers().delete(world.ask(delete)).await.unwrap();
    assert_eq!(world.others.waited.load(Ordering::Relaxed), 1, "what forbids nothing waits for nobody");
    world.namespaces().delete(world.ask(named("demo"))).await.unwrap();
    let list = world.namespaces().list(world.ask(<_>::default())).await.unwrap().into_inner();
    assert_eq!(list.namespaces, []);
}

#[tokio::test]
async fn limits_are_set_by_preset_and_alone() {
    let world = World::with_broker().await;
    let limits = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let (namespace, broker) = ("demo".to_owned(), "hello".to_owned());
    let update = |preset: &str, pairs| {
        let (namespace, broker) = (namespace.clone(), broker.clone());
        admin::UpdateBrokerRequest { namespace, broker, preset: preset.into(), limits: limits(pairs), ..<_>::default() }
    };
    let beta = world.brokers().update(world.ask(update("beta", &[("max_qos", "1")]))).await.unwrap().into_inner();
    assert_eq!((beta.preset.as_str(), beta.limits["max_qos"].as_str()), ("beta", "1"));
    assert_eq!((beta.limits["retain"].as_str(), beta.limits["packet_bytes"].as_str()), ("off", "64000"));
    assert_eq!(world.others.waited.load(Ordering::Relaxed), 1, "in force everywhere before the answer (P2)");
    let alone = world.brokers().update(world.ask(update("", &[("retain", "on")]))).await.unwrap().into_inner();
    assert_eq!((alone.preset.as_str(), alone.limits["retain"].as_str()), ("beta", "on"));
    assert_eq!(alone.limits["max_qos"], "1", "what is not named stays");
    for bad in [update("gamma", &[]), update("", &[("no_such", "1")]), update("", &[("max_qos", "3")])] {
        assert_eq!(world.brokers().update(world.ask(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let shared = world.brokers().update(world.ask(update("", &[("shared_strategy", "round_robin")]))).await.unwrap();
    assert_eq!(shared.into_inner().limits["shared_strategy"], "round_robin");
    let (name, preset) = ("other".to_owned(), "beta".to_owned());
    let create =
        admin::CreateBrokerRequest { namespace, name, preset, limits: limits(&[("wills", "on")]), ..<_>::default() };
    let made = world.brokers().create(world.ask(create)).await.unwrap().into_inner();
    assert_eq!(
        (made.preset.as_str(), made.limits["wills"].as_str(), made.limits["wildcards"].as_str()),
        ("beta", "on", "off")
    );
}

#[tokio::test]
async fn a_namespace_of_the_beta_holds_three_brokers() {
    let world = World::new().await;
    let (name, preset) = ("demo".to_owned(), "beta".to_owned());
    let create = admin::CreateNamespaceRequest { name, preset, ..<_>::default() };
    world.namespaces().create(world.ask(create)).await.unwrap();
    for n in 1..=4 {
        let (namespace, name) = ("demo".to_owned(), format!("b{n}"));
        let create = admin::CreateBrokerRequest { namespace, name, ..<_>::default() };
        let code = world.brokers().create(world.ask(create)).await.map_err(|status| status.code());
        assert_eq!(code.err(), (n == 4).then_some(Code::ResourceExhausted));
    }
}

#[tokio::test]
async fn credentials_are_limited_to_topics() {
    let world = World::with_broker().await;
    let issue = |both: &str, publish: &[&str], client: &str| {
        let (namespace, broker, client_ids) = ("demo".into(), "hello".into(), vec![client.to_owned()]);
        let publish = publish.iter().map(|filter| (*filter).to_owned()).collect();
        admin::IssueRequest { namespace, broker, client_ids, topic_acl: both.into(), publish, ..<_>::default() }
    };
    let issued = world.brokers().issue(world.ask(issue("", &["up/${clientid}"], "c"))).await.unwrap().into_inner();
    let now = rookery_cluster::clock::Clock::wall(&SystemClock);
    let verified = Verifier::new().verify(&world.metadata.view(), None, &issued.credentials[0].token, now).unwrap();
    assert!(verified.acl.may_publish("up/c") && !verified.acl.may_publish("up/d"));
    for bad in [issue("a#", &[], "c"), issue("#", &["a"], "c"), issue("", &["up/${clientid}"], "a/b")] {
        assert_eq!(world.brokers().issue(world.ask(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_retry_has_the_outcome_of_the_first_try() {
    let world = World::new().await;
    let id = "00000000000000000000000000000abc";
    let first = world.create_namespace("demo", id).await.unwrap();
    assert_eq!(world.create_namespace("demo", id).await.unwrap(), first);
    assert_eq!(world.create_namespace("demo", "xyz").await.unwrap_err().code(), Code::InvalidArgument);
    let token = admin::CreateTokenRequest { name: "ci".into(), request_id: id.replace('a', "b"), ..<_>::default() };
    world.tokens().create(world.ask(token.clone())).await.unwrap();
    let again = world.tokens().create(world.ask(token)).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn credentials_are_issued_in_order_and_revoked_everywhere() {
    let world = World::with_broker().await;
    let issue = |number, ids: &[&str], expiration| admin::IssueRequest {
        namespace: "demo".into(),
        broker: "hello".into(),
        number,
        client_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        expiration,
        ..<_>::default()
    };
    let named = world.brokers().issue(world.ask(issue(0, &["z", "a"], Some(-1)))).await.unwrap().into_inner();
    let ids: Vec<_> = named.credentials.iter().map(|c| (c.client_id.as_str(), c.expires_on.is_some())).collect();
    assert_eq!(ids, [("z", false), ("a", false)]);
    let five = world.brokers().issue(world.ask(issue(5, &[], Some(86_400)))).await.unwrap().into_inner();
    assert_eq!(five.credentials.len(), 5);
    assert!(five.credentials.iter().all(|c| c.client_id.len() == 26 && c.expires_on.is_some()));
    for bad in [issue(101, &[], None), issue(3, &["a"], None), issue(0, &["a", "a"], None), issue(1, &[], Some(0))] {
        assert_eq!(world.brokers().issue(world.ask(bad)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let credential = &named.credentials[0];
    let jtis = vec![credential.jti.clone()];
    let (namespace, broker) = ("demo".to_owned(), "hello".to_owned());
    let revoke = admin::RevokeRequest { namespace, broker, jtis, request_id: String::new() };
    let admitted = || {
        let now = rookery_cluster::clock::Clock::wall(&SystemClock);
        Verifier::new().verify(&world.metadata.view(), None, &credential.token, now).is_ok()
    };
    assert!(admitted());
    *world.others.deaf.lock() = true;
    let late = world.brokers().revoke(world.ask(revoke.clone())).await.unwrap_err();
    assert_eq!((late.code(), late.message()), (Code::Aborted, "committed, but node 2 has not confirmed"));
    *world.others.deaf.lock() = false;
    world.brokers().revoke(world.ask(revoke)).await.unwrap();
    assert!(!admitted());
    let show = admin::ShowRevocationsRequest { namespace: "demo".into(), broker: "hello".into() };
    let shown = world.brokers().show_revocations(world.ask(show)).await.unwrap().into_inner();
    assert_eq!(shown.revocations[0].jti, credential.jti);
    let keys = admin::PublicKeysRequest { namespace: "demo".into(), broker: "hello".into() };
    let keys = world.brokers().public_keys(world.ask(keys)).await.unwrap().into_inner().keys;
    assert_eq!((keys.len(), keys[0].crv.as_str(), keys[0].r#use.as_str()), (2, "Ed25519", "sig"));
}

#[tokio::test]
async fn a_token_of_one_account_sees_that_account_alone() {
    let world = World::with_broker().await;
    let other = World::token_of(&world.metadata, Scope::Account(AccountId(2))).await;
    let list = world.namespaces().list(ask_as(&other, <_>::default())).await.unwrap().into_inner();
    assert_eq!(list.namespaces, []);
    let describe = admin::DescribeBrokerRequest { namespace: "demo".into(), broker: "hello".into() };
    assert_eq!(world.brokers().describe(ask_as(&other, describe)).await.unwrap_err().code(), Code::NotFound);
    let mut cluster = ClusterClient::new(world.channel.clone());
    assert_eq!(cluster.status(ask_as(&other, <_>::default())).await.unwrap_err().code(), Code::PermissionDenied);
    let make = admin::CreateTokenRequest { name: "sub".into(), ..<_>::default() };
    let made = world.tokens().create(ask_as(&other, make.clone())).await.unwrap().into_inner();
    assert_eq!(made.token.unwrap().account, AccountId(2).to_string());
    let wider = admin::CreateTokenRequest { account: AccountId(1).to_string(), ..make };
    assert_eq!(world.tokens().create(ask_as(&other, wider)).await.unwrap_err().code(), Code::NotFound);
    let mine = world.tokens().list(ask_as(&other, <_>::default())).await.unwrap().into_inner().tokens;
    assert_eq!(mine.len(), 2);
}

#[tokio::test]
async fn api_tokens_work_until_revoked() {
    let world = World::new().await;
    let make = admin::CreateTokenRequest { name: "ci".into(), expiration: Some(60), ..<_>::default() };
    let made = world.tokens().create(world.ask(make)).await.unwrap().into_inner();
    world.namespaces().list(ask_as(&made.secret, <_>::default())).await.unwrap();
    let revoke = |token: &str| admin::RevokeTokenRequest { token: token.into(), request_id: String::new() };
    world.tokens().revoke(world.ask(revoke("ci"))).await.unwrap();
    let gone = world.namespaces().list(ask_as(&made.secret, <_>::default())).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unauthenticated);
    let twice = world.tokens().revoke(world.ask(revoke(&TokenId(5).to_string()))).await.unwrap_err();
    assert_eq!(twice.code(), Code::NotFound);
}

#[tokio::test]
async fn the_cluster_is_shown_and_joined() {
    let world = World::new().await;
    let node = |name: &str, key| CommandBody::AddNode {
        name: name.into(),
        key_hash: [key; 32],
        join_token: None,
        voter_eligible: true,
    };
    let (id, incarnation, card) = (NodeId(1), Incarnation(4), NodeCard::default());
    let register = CommandBody::RegisterIncarnation { node: id, incarnation, card };
    for body in [node("a", 1), node("b", 2), register] {
        world.metadata.propose(body).await.unwrap().1.into_result().unwrap();
    }
    let mut cluster = ClusterClient::new(world.channel.clone());
    let status = cluster.status(world.ask(<_>::default())).await.unwrap().into_inner();
    assert_eq!((status.ready, status.not_ready_because.as_str()), (false, "starting"));
    assert_eq!((status.groups[0].leader, status.groups[0].term), (1, 3));
    assert_eq!((status.settled, status.not_settled_because.as_str()), (false, "group 3 has no leader"));
    let leases: Vec<_> = status.leases.iter().map(|l| (l.node, l.incarnation, l.state.as_str())).collect();
    assert_eq!(leases, [(1, 4, "live"), (2, 0, "never")]);
    assert_eq!(status.leases.iter().map(|l| l.since.is_empty()).collect::<Vec<_>>(), [false, true]);
    let remove =
        |node: &str, request_id: &str| admin::RemoveNodeRequest { node: node.into(), request_id: request_id.into() };
    let unknown = cluster.remove_node(world.ask(remove("c", ""))).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "there is no node \"c\""));
    // Nobody forgets the node here but the test.
    let groups = (0..=16).map(GroupId).collect();
    let id = "0000000000000000000000000000beef";
    let (mut other, asked) = (cluster.clone(), world.ask(remove("b", id)));
    let mut removing = JoinSet::new();
    removing.spawn(async move { other.remove_node(asked).await });
    world.metadata.watch().wait_for(|view| view.is_leaving(NodeId(2))).await.unwrap();
    let members = cluster.members(world.ask(<_>::default())).await.unwrap().into_inner().members;
    assert_eq!(members.iter().map(|m| m.leaving).collect::<Vec<_>>(), [false, true]);
    for body in [CommandBody::LeftGroups { node: NodeId(2), groups }, CommandBody::RemoveNode { node: NodeId(2) }] {
        world.metadata.propose(body).await.unwrap().1.into_result().unwrap();
    }
    removing.join_next().await.unwrap().unwrap().unwrap();
    cluster.remove_node(world.ask(remove("b", id))).await.unwrap();
    assert_eq!(cluster.remove_node(world.ask(remove("b", ""))).await.unwrap_err().code(), Code::NotFound);
    let asked = admin::CreateJoinTokenRequest { uses: 3, ..<_>::default() };
    let token = cluster.create_join_token(world.ask(asked)).await.unwrap().into_inner();
    assert_eq!(token.ca_pin.len(), 64);
    assert_eq!(world.metadata.view().join_tokens().map(|(_, t)| t.uses).collect::<Vec<_>>(), [3]);
    let long = admin::CreateJoinTokenRequest { expiration: Some(604_801), ..<_>::default() };
    assert_eq!(cluster.create_join_token(world.ask(long)).await.unwrap_err().code(), Code::InvalidArgument);
}
