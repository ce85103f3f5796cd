//! The metadata group: its commands, outcomes and snapshots.

use bytes::Bytes;
use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{AccountId, BrokerId, Incarnation, LogIndex, NamespaceId, NodeId, RequestId};
use rookery_cluster::metadata::{
    BrokerSettings, Command, CommandBody, Kid, Name, NewKey, NodeCard, Outcome, State, apply,
};

use super::ensure;
use super::replicas::Machine;

impl Machine for State {
    type Command = Command;
    type Outcome = Outcome;

    fn command(bytes: &[u8]) -> Option<Command> {
        Command::decode(bytes).ok()
    }
    fn encode(command: &Command) -> Bytes {
        command.encode()
    }
    fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        apply(self, LogIndex(index), command)
    }
    fn outcome(bytes: &[u8]) -> Option<Result<(), String>> {
        let outcome = Outcome::decode(bytes).ok()?;
        let again = Outcome::decode(&outcome.encode());
        Some(ensure(again.as_ref() == Ok(&outcome), || format!("{outcome:?} became {again:?}")))
    }
    fn encode_outcome(outcome: &Outcome) -> Bytes {
        outcome.encode()
    }
    fn snapshot(&self) -> Bytes {
        self.snapshot()
    }
    fn restore(bytes: &[u8]) -> Result<Self, String> {
        Self::from_snapshot(bytes).map_err(|why| why.to_string())
    }
    fn history() -> Vec<Command> {
        history()
    }
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
