use super::*;
use crate::consensus::Replicated;
use crate::ids::{ClusterId, GroupId, Incarnation, NodeLife, TokenId};
use crate::metadata::CommandBody as Body;

/// One command of each variant, in the order of the enum.
pub(super) fn one_of_each() -> Vec<Body> {
    let (account, namespace, broker, node) = (AccountId(1), NamespaceId(2), BrokerId(3), NodeId(4));
    let (hash, expires) = ([5; 32], UnixMillis(600));
    let limits = first_beta_limits();
    let settings = BrokerSettings { expiration: Some(60), preset: Preset::Beta, limits, ..Default::default() };
    let patch = BrokerPatch { on_publish: Some(None), claim_mode: Some(ClaimMode::Available), ..Default::default() };
    let preset = BrokerPatch { preset: Some(Preset::Beta), ..Default::default() };
    let addresses = Addresses { peer: "p:1".into(), swim: "s:2".into(), mqtt: "m:3".into(), ..Default::default() };
    let card = NodeCard { addresses, region: "r".into(), zone: "z".into(), version: "v".into(), level: Level(1) };
    vec![
        Body::InitCluster {
            id: ClusterId(9),
            ca_pem: "c".into(),
            sealed_ca_key: vec![1],
            sealed_secrets: vec![2],
            shards: 16,
        },
        Body::RaiseLevel { to: Level(1) },
        Body::CreateAccount { id: account, name: "a".into(), max_namespaces: 3 },
        Body::UpdateAccount { id: account, name: Some("b".into()), max_namespaces: None },
        Body::DeleteAccount { id: account },
        Body::CreateNamespace { id: namespace, account, name: name("n"), description: "d".into(), max_brokers: 3 },
        Body::UpdateNamespace { id: namespace, description: None, max_brokers: Some(4) },
        Body::DeleteNamespace { id: namespace },
        Body::CreateBroker { id: broker, namespace, name: name("b"), settings, keys: vec![new_key(1), new_key(2)] },
        Body::UpdateBroker { id: broker, patch },
        Body::DeleteBroker { id: broker },
        Body::RotateKeys { broker, next: new_key(3) },
        Body::RemoveKey { broker, kid: "kid1".into() },
        Body::Revoke { broker, jtis: vec!["j".into()] },
        Body::Unrevoke { broker, jtis: vec!["j".into()] },
        Body::CreateToken { id: TokenId(7), hash, name: "t".into(), scope: Scope::Account(account), expires: None },
        Body::RevokeToken { id: TokenId(7) },
        Body::AddJoinToken { hash, expires, uses: 2 },
        Body::RemoveJoinToken { hash },
        Body::AddNode { name: "n".into(), key_hash: [6; 32], join_token: Some(hash), voter_eligible: true },
        Body::SetNodeKey { node, key_hash: [8; 32] },
        Body::RegisterIncarnation { node, incarnation: Incarnation(2), card },
        Body::ExpireLease { life: NodeLife { node, incarnation: Incarnation(2) } },
        Body::RemoveNode { node },
        Body::SetReplicas { groups: vec![(GroupId(1), vec![node])] },
        Body::LeadLeases { term: 5 },
        Body::ExpireLeaseInTerm { life: NodeLife { node, incarnation: Incarnation(2) }, term: 5 },
        Body::LeaveNode { node },
        Body::LeftGroups { node, groups: vec![GroupId(0), GroupId(7)] },
        Body::ChangeBroker { id: broker, patch: preset, limits: vec![("retain".into(), 1)] },
    ]
}

/// The preset as it was when the bytes were pinned: a record of the first form.
fn first_beta_limits() -> BrokerLimits {
    BrokerLimits {
        packet_bytes: 64_000,
        client_id_bytes: 32,
        username_bytes: 32,
        topic_slashes: 8,
        keep_alive_min_s: 10,
        packets_per_s: 10,
        subscribers_per_filter: 1000,
        sessions: 0,
        session_filter_bytes: 0,
        ..Default::default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn envelope(body: Body) -> Command {
    Command { request_id: RequestId(300), at: UnixMillis(1000), body }
}

#[test]
fn the_bytes_of_each_variant_never_change() {
    let pinned: Vec<&str> = include_str!("commands.hex").lines().collect();
    let bodies = one_of_each();
    let now: Vec<String> = bodies.iter().map(|body| hex(&envelope(body.clone()).encode())).collect();
    assert_eq!(now, pinned, "logs and snapshots of running clusters hold these bytes");
    for (n, body) in bodies.into_iter().enumerate() {
        let command = envelope(body);
        let bytes = command.encode();
        // Version, request id 300, time 1000 and the variant's number.
        assert_eq!(bytes[..6], [1, 0xac, 0x02, 0xe8, 0x07, n as u8]);
        assert_eq!(Command::decode(&bytes), Ok(command));
    }
    let next = postcard::from_bytes::<Body>(&[pinned.len() as u8; 64]);
    assert_eq!(next, Err(postcard::Error::SerdeDeCustom), "a new variant is pinned here, too");
}

#[test]
fn outcomes_have_stable_bytes() {
    let refused = Refused { kind: RefusedKind::LimitReached, message: "m".into() };
    let outcomes = [Outcome::Done, Outcome::Created(Created::Node(NodeId(3))), Outcome::Refused(refused)];
    assert_eq!(outcomes.clone().map(|o| hex(&o.encode())), ["0100", "01010503", "010203016d"]);
    for outcome in outcomes {
        assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }
}

#[test]
fn what_is_unknown_stops_the_replica() {
    let good = envelope(Body::RemoveNode { node: NodeId(1) }).encode();
    let mut machine = MetadataMachine::new(Box::new(|_, _| {}));
    let mut stops = |bytes: &[u8]| machine.apply(LogIndex(1), bytes).is_err();
    assert!(stops(&[]));
    assert!(stops(&[2]));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        bytes
    };
    assert!(stops(&with(0, 2)), "another version");
    assert!(stops(&with(5, 99)), "another variant");
    assert!(stops(&good[..good.len() - 1]), "cut off");
    assert!(stops(&[&good[..], &[0]].concat()), "more than it should be");
    assert!(stops(&envelope(Body::RaiseLevel { to: Level(Level::LATEST.0 + 1) }).encode()), "a level to come");
    assert!(!stops(&good));
}

#[test]
fn a_snapshot_of_another_kind_is_not_restored() {
    let log = Log::with_broker();
    let snapshot = log.state.snapshot();
    let mut machine = MetadataMachine::new(Box::new(|_, _| {}));
    assert!(machine.restore(&[]).is_err());
    assert!(machine.restore(&snapshot[..snapshot.len() - 1]).is_err());
    assert!(machine.restore(&[&[3], &snapshot[1..]].concat()).is_err());
    let old = [&[1], &snapshot[1..snapshot.len() - 1]].concat();
    assert_eq!(machine.restore(&old), Ok(()), "version 1 lacks the leaving nodes");
    assert_eq!(machine.snapshot(), snapshot);
    assert_eq!(machine.restore(&snapshot), Ok(()));
    assert_eq!(machine.snapshot(), snapshot);
}
