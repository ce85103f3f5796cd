//! What the commands do, noun by noun; their bytes; and what holds for any sequence of them.

mod handle;
mod nodes;
mod props;
mod tenants;
mod wire;

use super::*;
use crate::clock::UnixMillis;
use crate::ids::{AccountId, BrokerId, LogIndex, NamespaceId, NodeId, RequestId};

/// A state with a log in front of it: each command gets the next index, request id and second.
#[derive(Default)]
struct Log {
    state: State,
    index: u64,
}

impl Log {
    fn apply(&mut self, body: CommandBody) -> Outcome {
        self.index += 1;
        let (request_id, at) = (RequestId(self.index.into()), UnixMillis(self.index * 1000));
        apply(&mut self.state, LogIndex(self.index), &Command { request_id, at, body })
    }

    fn done(&mut self, body: CommandBody) {
        assert_eq!(self.apply(body), Outcome::Done);
    }

    fn created(&mut self, body: CommandBody) -> Created {
        match self.apply(body) {
            Outcome::Created(created) => created,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, body: CommandBody) -> RefusedKind {
        match self.apply(body) {
            Outcome::Refused(refused) => refused.kind,
            other => panic!("{other:?}"),
        }
    }

    /// One account with one namespace `ns` that holds one broker `b`.
    fn with_broker() -> Self {
        let mut log = Log::default();
        log.created(create_account(1));
        log.created(create_namespace(1, "ns"));
        log.created(create_broker(1, 1, "b"));
        log
    }
}

const ACCOUNT: AccountId = AccountId(1);
const NAMESPACE: NamespaceId = NamespaceId(1);
const BROKER: BrokerId = BrokerId(1);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn create_account(id: u128) -> CommandBody {
    CommandBody::CreateAccount { id: AccountId(id), name: "acme".into(), max_namespaces: 3 }
}

fn create_namespace(id: u128, text: &str) -> CommandBody {
    let (id, name, description) = (NamespaceId(id), name(text), String::new());
    CommandBody::CreateNamespace { id, account: ACCOUNT, name, description, max_brokers: 3 }
}

fn create_broker(id: u128, namespace: u128, text: &str) -> CommandBody {
    CommandBody::CreateBroker {
        id: BrokerId(id),
        namespace: NamespaceId(namespace),
        name: name(text),
        settings: BrokerSettings::default(),
        keys: vec![new_key(2 * id), new_key(2 * id + 1)],
    }
}

fn new_key(n: u128) -> NewKey {
    NewKey { kid: Kid::from(format!("kid{n}").as_str()), public: [n as u8; 32], sealed: vec![n as u8].into() }
}

fn add_node(n: u8) -> CommandBody {
    let (name, key_hash) = (format!("node{n}"), [n; 32]);
    CommandBody::AddNode { name, key_hash, join_token: None, voter_eligible: true }
}

fn register(node: u64, incarnation: u64) -> CommandBody {
    let (node, incarnation) = (NodeId(node), crate::ids::Incarnation(incarnation));
    CommandBody::RegisterIncarnation { node, incarnation, card: NodeCard::default() }
}
