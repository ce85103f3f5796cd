//! The replicated state and its views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::accounts::Account;
use super::brokers::Broker;
use super::cluster::{Cluster, JoinToken};
use super::journal::{Change, Journal};
use super::keys::Kid;
use super::level::Level;
use super::maps;
use super::names::Name;
use super::namespaces::Namespace;
use super::nodes::{NodeRecord, Nodes};
use super::outcome::Outcome;
use super::placement::Placement;
use super::requests::Requests;
use super::tokens::ApiToken;
use crate::clock::UnixMillis;
use crate::ids::{AccountId, BrokerId, GroupId, Incarnation, LogIndex, NamespaceId, NodeId, RequestId, TokenId};

/// All metadata as of one index. Cloning costs a few reference counts. Maps are ordered, so that iteration and the
/// snapshot's bytes are the same on every replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub(super) level: Level,
    /// Index of the last command: unlike `applied`, the same on all replicas whatever else the log holds.
    pub(super) last_command: LogIndex,
    pub(super) cluster: Option<Arc<Cluster>>,
    #[serde(deserialize_with = "maps::read")]
    pub(super) join_tokens: OrdMap<[u8; 32], JoinToken>,
    #[serde(deserialize_with = "maps::read")]
    pub(super) accounts: OrdMap<AccountId, Arc<Account>>,
    #[serde(deserialize_with = "maps::read")]
    pub(super) namespaces: OrdMap<NamespaceId, Arc<Namespace>>,
    #[serde(deserialize_with = "maps::read")]
    pub(super) brokers: OrdMap<BrokerId, Arc<Broker>>,
    #[serde(deserialize_with = "maps::read_nested")]
    pub(super) revocations: OrdMap<BrokerId, OrdMap<Arc<str>, UnixMillis>>,
    #[serde(deserialize_with = "maps::read")]
    pub(super) tokens: OrdMap<TokenId, Arc<ApiToken>>,
    pub(super) nodes: Nodes,
    pub(super) placement: Placement,
    pub(super) requests: Requests,
    /// Nodes that are being removed. Since version 2 of the snapshot, whose last it must therefore be.
    #[serde(deserialize_with = "maps::read")]
    pub(super) leaving: OrdMap<NodeId, BTreeSet<GroupId>>,
    #[serde(skip)]
    pub(super) index: Index,
    #[serde(skip)]
    pub(super) journal: Journal,
    #[serde(skip)]
    pub(super) applied: LogIndex,
}

/// What can be looked up but is not stored: rebuilt from the rest after a restore.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) namespaces: OrdMap<Name, NamespaceId>,
    pub(super) brokers: OrdMap<(NamespaceId, Name), BrokerId>,
    pub(super) kids: OrdMap<Kid, BrokerId>,
    pub(super) live: Arc<BTreeMap<NodeId, Incarnation>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            level: Level::FIRST,
            last_command: LogIndex(0),
            cluster: None,
            join_tokens: OrdMap::new(),
            accounts: OrdMap::new(),
            namespaces: OrdMap::new(),
            brokers: OrdMap::new(),
            revocations: OrdMap::new(),
            tokens: OrdMap::new(),
            nodes: Nodes::default(),
            placement: Placement::default(),
            requests: Requests::default(),
            leaving: OrdMap::new(),
            index: Index::default(),
            journal: Journal::default(),
            applied: LogIndex(0),
        }
    }
}

impl State {
    /// Everything up to this index of the log is in this view.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The committed level (R17).
    pub fn level(&self) -> Level {
        self.level
    }

    /// The cluster's record, once it is initialized.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The join tokens by the hash of their secret; expired ones may still be listed.
    pub fn join_tokens(&self) -> impl Iterator<Item = (&[u8; 32], &JoinToken)> {
        self.join_tokens.iter()
    }

    /// All accounts, by id.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// The account with this id.
    pub fn account(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.accounts.get(&id)
    }

    /// All namespaces, by id.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// The namespaces of an account, by id.
    pub fn namespaces_of(&self, account: AccountId) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values().filter(move |n| n.account == account)
    }

    /// The namespace with this id.
    pub fn namespace(&self, id: NamespaceId) -> Option<&Arc<Namespace>> {
        self.namespaces.get(&id)
    }

    /// The namespace of this name, in any case.
    pub fn find_namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(self.index.namespaces.get(&Name::parse(name).ok()?)?)
    }

    /// All brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The brokers of a namespace, by name.
    pub fn brokers_of(&self, namespace: NamespaceId) -> impl Iterator<Item = &Arc<Broker>> {
        self.broker_ids_of(namespace).filter_map(|id| self.brokers.get(&id))
    }

    fn broker_ids_of(&self, namespace: NamespaceId) -> impl Iterator<Item = BrokerId> + '_ {
        let from = self.index.brokers.range((namespace, Name::least())..);
        from.take_while(move |((of, _), _)| *of == namespace).map(|(_, id)| *id)
    }

    /// The broker with this id.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The broker whose hostname starts with `broker.namespace`, in any case.
    pub fn find_broker(&self, namespace: &str, broker: &str) -> Option<&Arc<Broker>> {
        let namespace = self.find_namespace(namespace)?.id;
        self.brokers.get(self.index.brokers.get(&(namespace, Name::parse(broker).ok()?))?)
    }

    /// The broker that a signing key belongs to.
    pub fn broker_of_key(&self, kid: &str) -> Option<&Arc<Broker>> {
        self.brokers.get(self.index.kids.get(kid)?)
    }

    /// All tokens of the API, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<ApiToken>> {
        self.tokens.values()
    }

    /// The API token with this id.
    pub fn token(&self, id: TokenId) -> Option<&Arc<ApiToken>> {
        self.tokens.get(&id)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.records.values()
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<NodeRecord>> {
        self.nodes.records.get(&id)
    }

    /// The nodes whose lease is live, each with its current life: whose acceptance P4 and P8 wait for (R1).
    pub fn live_set(&self) -> &Arc<BTreeMap<NodeId, Incarnation>> {
        &self.index.live
    }

    /// What the request came to, if it was applied and is remembered still (R17): the last
    /// `limits::REQUEST_MEMORY` are.
    pub fn outcome_of(&self, request: RequestId) -> Option<&Outcome> {
        self.requests.outcome(request)
    }

    pub(super) fn note(&mut self, index: LogIndex, change: Change) {
        self.journal.push(index, change);
    }

    /// Makes what is not stored from what is.
    pub(super) fn rebuild(&mut self) {
        let mut index = Index::default();
        for namespace in self.namespaces.values() {
            index.namespaces.insert(namespace.name.clone(), namespace.id);
        }
        for broker in self.brokers.values() {
            index.brokers.insert((broker.namespace, broker.name.clone()), broker.id);
            for key in &broker.keys {
                index.kids.insert(key.kid.clone(), broker.id);
            }
        }
        self.index = index;
        self.refresh_live();
        self.applied = self.last_command;
        self.journal = Journal::starting_at(self.last_command);
    }
}
