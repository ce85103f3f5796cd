//! The metadata group: its commands, outcomes and snapshots.

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{AccountId, BrokerId, Incarnation, LogIndex, NamespaceId, NodeId, RequestId};
use rookery_cluster::metadata::{
    BrokerSettings, Command, CommandBody, Kid, Name, NewKey, NodeCard, Outcome, State, apply,
};

use super::{ensure, head};

/// Most commands of one input.
const MOST: usize = 64;

/// A byte for what it is: an outcome, a snapshot, or commands, each behind its length (2 bytes, big-endian).
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how % 3 {
        0 => {
            let Ok(outcome) = Outcome::decode(bytes) else { return Ok(()) };
            let again = Outcome::decode(&outcome.encode());
            ensure(again.as_ref() == Ok(&outcome), || format!("{outcome:?} became {again:?}"))
        }
        1 => match State::from_snapshot(bytes) {
            Ok(state) => applied(state, &history()),
            Err(_) => Ok(()),
        },
        _ => applied(State::default(), &commands(bytes)),
    }
}

fn commands(mut bytes: &[u8]) -> Vec<Command> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        all.extend(Command::decode(&rest[..length]).ok());
        bytes = &rest[length..];
        if all.len() == MOST {
            break;
        }
    }
    all
}

/// Two replicas, of which one goes on from a snapshot at each step, stay the same.
fn applied(mut state: State, commands: &[Command]) -> Result<(), String> {
    for (index, command) in (1..).map(LogIndex).zip(commands) {
        let again = Command::decode(&command.encode());
        ensure(again.as_ref() == Ok(command), || format!("{command:?} became {again:?}"))?;
        let mut other = State::from_snapshot(&state.snapshot()).map_err(|why| format!("its own snapshot: {why}"))?;
        let (one, two) = (apply(&mut state, index, command), apply(&mut other, index, command));
        ensure(one == two, || format!("{command:?}: {one:?} and {two:?}"))?;
        ensure(state.snapshot() == other.snapshot(), || format!("snapshots differ after {command:?}"))?;
    }
    Ok(())
}

fn history() -> Vec<Command> {
    let (account, namespace, broker) = (AccountId(1), NamespaceId(1), BrokerId(1));
    let name = |text| Name::parse(text).expect("a name");
    let key = NewKey { kid: Kid::from("kid1"), public: [1; 32], sealed: vec![1].into() };
    let (settings, description) = (BrokerSettings::default(), "d".to_owned());
    let (node, incarnation, card) = (NodeId(1), Incarnation(1), NodeCard::default());
    let bodies = [
        CommandBody::CreateAccount { id: account, name: "acme".into(), max_namespaces: 3 },
        CommandBody::CreateNamespace { id: namespace, account, name: name("ns"), description, max_brokers: 3 },
        CommandBody::CreateBroker { id: broker, namespace, name: name("b"), settings, keys: vec![key] },
        CommandBody::AddNode { name: "n".into(), key_hash: [1; 32], join_token: None, voter_eligible: true },
        CommandBody::RegisterIncarnation { node, incarnation, card },
    ];
    let command =
        |(index, body): (u64, _)| Command { request_id: RequestId(index.into()), at: UnixMillis(index * 1000), body };
    (1..).zip(bodies).map(command).collect()
}

/// A history, the snapshots on its way, and what came of it.
pub fn seeds() -> Vec<Vec<u8>> {
    let (mut log, mut state, mut all) = (vec![2], State::default(), Vec::new());
    for (index, command) in (1..).map(LogIndex).zip(history()) {
        let bytes = command.encode();
        log.extend((bytes.len() as u16).to_be_bytes());
        log.extend(&bytes);
        let outcome = apply(&mut state, index, &command);
        all.push([&[0], &outcome.encode()[..]].concat());
        all.push([&[1], &state.snapshot()[..]].concat());
        all.push(log.clone());
    }
    all
}
