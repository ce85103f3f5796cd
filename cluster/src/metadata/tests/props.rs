use proptest::prelude::*;

use super::*;
use crate::consensus::Replicated;
use crate::ids::{GroupId, Incarnation, NodeLife, TokenId};
use crate::metadata::CommandBody as Body;

/// Commands over few ids and names, so that they meet: many are refused, many are not.
fn body() -> impl Strategy<Value = Body> {
    let id = 1..4_u128;
    let label = prop::sample::select(vec!["a", "b", "C"]);
    prop_oneof![
        id.clone().prop_map(create_account),
        id.clone().prop_map(|id| Body::DeleteAccount { id: AccountId(id) }),
        (id.clone(), label.clone()).prop_map(|(id, label)| create_namespace(id, label)),
        id.clone().prop_map(|id| Body::DeleteNamespace { id: NamespaceId(id) }),
        (id.clone(), id.clone(), label.clone()).prop_map(|(id, ns, label)| create_broker(id, ns, label)),
        (id.clone(), label, prop::option::of(1..9_u64)).prop_map(|(id, label, expiration)| {
            let (name, expiration) = (Some(name(label)), Some(expiration));
            Body::UpdateBroker { id: BrokerId(id), patch: BrokerPatch { name, expiration, ..Default::default() } }
        }),
        id.clone().prop_map(|id| Body::DeleteBroker { id: BrokerId(id) }),
        (id.clone(), 2..20_u128).prop_map(|(id, key)| Body::RotateKeys { broker: BrokerId(id), next: new_key(key) }),
        (id.clone(), 2..20_u128)
            .prop_map(|(id, key)| { Body::RemoveKey { broker: BrokerId(id), kid: new_key(key).kid } }),
        (id.clone(), "[ab]").prop_map(|(id, jti)| Body::Revoke { broker: BrokerId(id), jtis: vec![jti] }),
        (id.clone(), "[ab]").prop_map(|(id, jti)| Body::Unrevoke { broker: BrokerId(id), jtis: vec![jti] }),
        (id.clone(), id.clone()).prop_map(|(id, account)| {
            let (id, scope) = (TokenId(id), Scope::Account(AccountId(account)));
            Body::CreateToken { id, hash: [1; 32], name: "t".into(), scope, expires: None }
        }),
        id.prop_map(|id| Body::RevokeToken { id: TokenId(id) }),
        (1..5_u8).prop_map(add_node),
        (1..5_u64, 1..4_u64).prop_map(|(node, incarnation)| register(node, incarnation)),
        (1..5_u64, 1..4_u64).prop_map(|(node, incarnation)| Body::ExpireLease {
            life: NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) }
        }),
        (1..5_u64).prop_map(|term| Body::LeadLeases { term }),
        (1..5_u64, 1..4_u64, 1..5_u64).prop_map(|(node, incarnation, term)| Body::ExpireLeaseInTerm {
            life: NodeLife { node: NodeId(node), incarnation: Incarnation(incarnation) },
            term,
        }),
        (1..5_u64).prop_map(|node| Body::RemoveNode { node: NodeId(node) }),
        (1..5_u64).prop_map(|node| Body::LeaveNode { node: NodeId(node) }),
        (1..5_u64, 0..3_u32)
            .prop_map(|(node, to)| Body::LeftGroups { node: NodeId(node), groups: (0..to).map(GroupId).collect() }),
        (0..3_u32, 1..5_u64)
            .prop_map(|(group, node)| { Body::SetReplicas { groups: vec![(GroupId(group), vec![NodeId(node)])] } }),
    ]
}

/// Some commands carry the request id of an earlier one.
fn commands() -> impl Strategy<Value = Vec<Command>> {
    let one = (body(), 0..60_u128, 0..5000_u64);
    let one = one.prop_map(|(body, id, at)| Command { request_id: RequestId(id), at: UnixMillis(at), body });
    prop::collection::vec(one, 0..80)
}

fn run(state: &mut State, from: usize, commands: &[Command]) -> Vec<Outcome> {
    let indexes = from as u64 + 1..;
    commands.iter().zip(indexes).map(|(command, index)| apply(state, LogIndex(index), command)).collect()
}

/// The snapshot without the memory of requests and without the index.
fn content(state: &State) -> bytes::Bytes {
    let mut state = state.clone();
    state.requests = Default::default();
    state.last_command = LogIndex(0);
    state.snapshot()
}

fn check_indexes(state: &State) {
    let restored = State::from_snapshot(&state.snapshot()).unwrap();
    assert_eq!(state.index.namespaces, restored.index.namespaces);
    assert_eq!(state.index.brokers, restored.index.brokers);
    assert_eq!(state.index.kids, restored.index.kids);
    assert_eq!(state.index.live, restored.index.live);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_commands_same_bytes(commands in commands()) {
        let (mut a, mut b) = (State::default(), State::default());
        prop_assert_eq!(run(&mut a, 0, &commands), run(&mut b, 0, &commands));
        prop_assert!(a.snapshot() == b.snapshot());
        check_indexes(&a);
    }

    #[test]
    fn a_restored_replica_goes_on_identically(commands in commands(), cut in 0..80_usize) {
        let cut = cut.min(commands.len());
        let mut whole = State::default();
        let outcomes = run(&mut whole, 0, &commands);
        let mut first = State::default();
        run(&mut first, 0, &commands[..cut]);
        let mut machine = MetadataMachine::new(Box::new(|_, _| {}));
        machine.restore(&first.snapshot()).unwrap();
        for (n, command) in commands.iter().enumerate().skip(cut) {
            let outcome = machine.apply(LogIndex(n as u64 + 1), &command.encode()).unwrap();
            prop_assert_eq!(Outcome::decode(&outcome), Ok(outcomes[n].clone()));
        }
        prop_assert!(machine.snapshot() == whole.snapshot());
    }

    #[test]
    fn refusals_and_retries_change_nothing(commands in commands()) {
        let mut state = State::default();
        let mut first = std::collections::BTreeMap::new();
        for (n, command) in commands.iter().enumerate() {
            let before = content(&state);
            let outcome = apply(&mut state, LogIndex(n as u64 + 1), command);
            let retried = first.contains_key(&command.request_id);
            prop_assert_eq!(&outcome, first.entry(command.request_id).or_insert(outcome.clone()));
            if retried || matches!(outcome, Outcome::Refused(_)) {
                prop_assert!(content(&state) == before, "{:?} changed something", command);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [&[1], &bytes[..]].concat();
        if let Ok(command) = Command::decode(&bytes) {
            apply(&mut State::default(), LogIndex(1), &command);
        }
    }
}
