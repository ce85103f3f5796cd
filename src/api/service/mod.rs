//! The one corridor: who is it, may they, then do it. Ids, keys, secrets and times are made here; applying a
//! command rolls no dice.

mod brokers;
mod cluster;
mod namespaces;
mod tokens;

use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::consensus::{BoxFuture, GroupStatus};
use rookery_cluster::ids::{AccountId, BrokerId, GroupId, LogIndex, NodeId, RequestId};
use rookery_cluster::membership::Member;
use rookery_cluster::metadata::{Broker, CommandBody, Created, Metadata, Namespace, Outcome, Scope, State};
use rookery_cluster::rng::SharedRng;

use super::action::{Action, BrokerRef, Target};
use super::error::{ApiError, ApiErrorKind};
use super::reply::Reply;
use crate::auth::{Sealer, TokenDenied, check_api_token};

/// Waits until a committed change is in force on every live node (P2).
pub trait Everywhere: Send + Sync + 'static {
    /// Resolves when every live node acts by the metadata of `index`, or its lease is over; an error says which
    /// nodes did neither in time. The change is committed either way.
    fn everywhere(&self, index: LogIndex) -> BoxFuture<'_, Result<(), String>>;
}

/// The cluster as this node sees it.
pub trait ClusterView: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// Whether this node can serve clients, or why not.
    fn ready(&self) -> Readiness;
    /// The Raft groups, by id.
    fn groups(&self) -> Vec<(GroupId, GroupStatus)>;
    /// The members as the failure detector sees them.
    fn members(&self) -> Vec<Member>;
}

/// Ready, or why not, in a few words.
pub type Readiness = Result<(), String>;

/// How clients reach brokers: part of a broker's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `node.domain`.
    pub domain: String,
    /// The port of MQTT over TLS.
    pub mqtts_port: u16,
}

/// What a service works with.
#[derive(Clone)]
pub struct Tools {
    /// Reads and writes metadata.
    pub metadata: Metadata,
    /// Seals signing keys.
    pub sealer: Sealer,
    /// Time.
    pub clock: SharedClock,
    /// Randomness.
    pub rng: SharedRng,
    /// Waits for other nodes.
    pub everywhere: Arc<dyn Everywhere>,
    /// Looks at other nodes.
    pub cluster: Arc<dyn ClusterView>,
    /// Where brokers are.
    pub place: Place,
}

/// Carries out actions. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Tools>);

/// Whoever sent a request, proven by an API token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    scope: Scope,
    /// Makes a write idempotent, if the caller said so.
    request: Option<RequestId>,
}

impl Service {
    /// A service that works with `tools`.
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(tools))
    }

    /// Carries out `action` for whoever holds the API token `token`. A retry of a write with the same `request` has
    /// the outcome of the first try.
    ///
    /// # Errors
    /// See [`ApiErrorKind`]: only one of them leaves open whether something was changed.
    pub async fn run(
        &self,
        token: Option<&str>,
        request: Option<RequestId>,
        action: Action,
    ) -> Result<Reply, ApiError> {
        let caller = Caller { scope: self.authenticate(token).await?, request };
        match action {
            Action::CreateNamespace { .. }
            | Action::ListNamespaces { .. }
            | Action::DescribeNamespace { .. }
            | Action::DeleteNamespace { .. } => self.namespaces(caller, action).await,
            Action::CreateToken { .. } | Action::ListTokens | Action::RevokeToken { .. } => {
                self.tokens(caller, action).await
            }
            Action::Status | Action::Members | Action::CreateJoinToken { .. } => self.cluster(caller, action).await,
            _ => self.brokers(caller, action).await,
        }
    }

    /// What the token is good for. One that this node has not heard of may be new: then it asks the cluster.
    async fn authenticate(&self, token: Option<&str>) -> Result<Scope, ApiError> {
        let denied = |why: &str| ApiError::new(ApiErrorKind::Unauthenticated, why);
        let token = token.ok_or_else(|| denied("no API token: send it as `authorization: Bearer TOKEN`"))?;
        let now = self.0.clock.wall();
        let checked = match check_api_token(&self.0.metadata.view(), token, now) {
            Err(TokenDenied::Unknown) => check_api_token(self.0.metadata.read().await?.as_ref(), token, now),
            known => known,
        };
        checked.map(|token| token.scope).map_err(|why| denied(&why.to_string()))
    }

    /// Writes. The index is where everything that led to the outcome is applied.
    async fn write(&self, caller: Caller, body: CommandBody) -> Result<(LogIndex, Option<Created>), ApiError> {
        let (index, outcome): (_, Outcome) = match caller.request {
            Some(request) => self.0.metadata.propose_as(request, body).await?,
            None => self.0.metadata.propose(body).await?,
        };
        Ok((index, outcome.into_result()?))
    }

    /// Writes something that may forbid what was allowed, and waits until every node acts by it (P2).
    async fn restrict(&self, caller: Caller, body: CommandBody) -> Result<Arc<State>, ApiError> {
        let (index, _) = self.write(caller, body).await?;
        let waited = self.0.everywhere.everywhere(index).await;
        waited.map_err(|why| ApiError::new(ApiErrorKind::Unknown, why))?;
        self.see(index).await
    }

    /// A state that holds the write at `index`.
    async fn see(&self, index: LogIndex) -> Result<Arc<State>, ApiError> {
        let late = |_| ApiError::new(ApiErrorKind::Unknown, "it was written, but this node has not applied it in time");
        self.0.metadata.wait_applied(index).await.map_err(late)
    }

    /// A state that holds everything acknowledged before the call (P1).
    async fn read(&self) -> Result<Arc<State>, ApiError> {
        Ok(self.0.metadata.read().await?)
    }
}

impl Caller {
    /// Only for those whose token is good for everything.
    fn require_all(self) -> Result<(), ApiError> {
        match self.scope {
            Scope::All => Ok(()),
            Scope::Account(_) => Err(ApiError::new(
                ApiErrorKind::Forbidden,
                "this API token is good for one account, not for the cluster",
            )),
        }
    }

    /// The account that something new belongs to.
    fn account(self, state: &State, asked: Option<AccountId>) -> Result<AccountId, ApiError> {
        match (self.scope, asked) {
            (scope, Some(asked)) if scope.covers(asked) => Ok(asked),
            (_, Some(asked)) => Err(ApiError::not_found(format!("there is no account {asked}"))),
            (Scope::Account(own), None) => Ok(own),
            (Scope::All, None) => state
                .accounts()
                .min_by_key(|account| (account.created_on, account.id))
                .map(|account| account.id)
                .ok_or_else(|| ApiError::new(ApiErrorKind::Precondition, "the cluster has no account")),
        }
    }

    /// The namespace, if this caller may know of it.
    fn namespace<'a>(
        self,
        state: &'a State,
        target: &Target<rookery_cluster::ids::NamespaceId>,
    ) -> Result<&'a Arc<Namespace>, ApiError> {
        let by_id = match target {
            Target::Id(id, _) => state.namespace(*id),
            Target::Name(_) => None,
        };
        by_id
            .or_else(|| state.find_namespace(target.text()))
            .filter(|namespace| self.scope.covers(namespace.account))
            .ok_or_else(|| ApiError::not_found(format!("there is no namespace {:?}", target.text())))
    }

    /// The broker and its namespace, if this caller may know of them.
    fn broker<'a>(
        self,
        state: &'a State,
        target: &BrokerRef,
    ) -> Result<(&'a Arc<Namespace>, &'a Arc<Broker>), ApiError> {
        let namespace = self.namespace(state, &target.namespace)?;
        let by_id = match &target.broker {
            Target::Id(id, _) => state.broker(*id).filter(|broker| broker.namespace == namespace.id),
            Target::Name(_) => None,
        };
        let broker = by_id.or_else(|| state.find_broker(namespace.name.as_str(), target.broker.text()));
        let missing = || format!("there is no broker {:?} in namespace {}", target.broker.text(), namespace.name);
        Ok((namespace, broker.ok_or_else(|| ApiError::not_found(missing()))?))
    }
}

/// The broker with this id and its namespace.
fn broker_by_id(state: &State, id: BrokerId) -> Result<(&Arc<Namespace>, &Arc<Broker>), ApiError> {
    let gone = || ApiError::not_found("the broker was deleted meanwhile");
    let broker = state.broker(id).ok_or_else(gone)?;
    Ok((state.namespace(broker.namespace).ok_or_else(gone)?, broker))
}

/// An action that came to the wrong part of the service.
fn misrouted(action: &Action) -> ApiError {
    ApiError::new(ApiErrorKind::Internal, format!("no handler for {action:?}"))
}
