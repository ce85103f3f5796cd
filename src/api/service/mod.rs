//! The one corridor: who is it, may they, then do it. Ids, keys, secrets and times are made here; applying a
//! command rolls no dice.

mod brokers;
mod cluster;
mod namespaces;
mod request;
mod tokens;

use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::consensus::{BoxFuture, GroupStatus};
use rookery_cluster::ids::{AccountId, BrokerId, GroupId, LogIndex, NodeId, RequestId};
use rookery_cluster::membership::Member;
use rookery_cluster::metadata::{Broker, CommandBody, Created, Metadata, Namespace, Scope, State};
use rookery_cluster::rng::SharedRng;

use super::action::{Action, BrokerRef, Target};
use super::error::{ApiError, ApiErrorKind};
use super::reply::Reply;
use crate::auth::{Sealer, TokenDenied, check_api_token};

/// Waits until a committed change is in force on every live node (P2).
pub trait Everywhere: Send + Sync + 'static {
    /// Resolves when every live node acts by the metadata of `index`, or its lease is over; an error names the
    /// nodes that did neither in time. The change is committed either way.
    fn everywhere(&self, index: LogIndex) -> BoxFuture<'_, Result<(), Vec<NodeId>>>;
}

/// The cluster as this node sees it.
pub trait ClusterView: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// Whether this node can serve clients, or why not.
    fn ready(&self) -> Readiness;
    /// Whether all that this node holds is placed, replicated and led as planned, or what is missing.
    fn settled(&self) -> Readiness;
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
    /// Makes a write idempotent, if the caller said so; see [`request::bound`].
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
    /// See [`ApiErrorKind`], which says what became of state.
    pub async fn run(
        &self,
        token: Option<&str>,
        request: Option<RequestId>,
        action: Action,
    ) -> Result<Reply, ApiError> {
        let scope = self.authenticate(token).await?;
        let request = request.zip(action.write_kind()).map(|(asked, kind)| request::bound(scope, kind, asked));
        let caller = Caller { scope, request };
        match action {
            Action::CreateNamespace { .. }
            | Action::ListNamespaces { .. }
            | Action::DescribeNamespace { .. }
            | Action::DeleteNamespace { .. } => self.namespaces(caller, action).await,
            Action::CreateToken { .. } | Action::ListTokens | Action::RevokeToken { .. } => {
                self.tokens(caller, action).await
            }
            Action::Status | Action::Members | Action::CreateJoinToken { .. } | Action::RemoveNode { .. } => {
                self.cluster(caller, action).await
            }
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

    /// Writes what `command` makes of a state, unless this request was carried out before: then its outcome is
    /// that of the first try, whatever became since of the things that it names. The index is where everything
    /// that led to the outcome is applied.
    async fn write(
        &self,
        caller: Caller,
        command: impl FnOnce(&State) -> Result<CommandBody, ApiError>,
    ) -> Result<(LogIndex, Option<Created>), ApiError> {
        // One state for both: a first try that is applied in between is found by its request when this one is.
        let state = self.read().await?;
        let metadata = &self.0.metadata;
        let (index, outcome) = match caller.request {
            None => metadata.propose(command(&state)?).await?,
            Some(request) => match state.outcome_of(request) {
                Some(outcome) => (state.applied(), outcome.clone()),
                None => metadata.propose_as(request, command(&state)?).await?,
            },
        };
        Ok((index, outcome.into_result()?))
    }

    /// Writes something that may forbid what was allowed, and waits until every node acts by it (P2).
    async fn restrict(
        &self,
        caller: Caller,
        command: impl FnOnce(&State) -> Result<CommandBody, ApiError>,
    ) -> Result<Reply, ApiError> {
        let (index, _) = self.write(caller, command).await?;
        self.everywhere(index).await?;
        Ok(Reply::Done)
    }

    async fn everywhere(&self, index: LogIndex) -> Result<(), ApiError> {
        self.0.everywhere.everywhere(index).await.map_err(|missing| {
            let ids: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let (nodes, have) = if ids.len() == 1 { ("node", "has") } else { ("nodes", "have") };
            let message = format!("committed, but {nodes} {} {have} not confirmed", ids.join(", "));
            ApiError::new(ApiErrorKind::NotEverywhere, message)
        })
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
    let broker = state.broker(id).ok_or_else(broker_gone)?;
    Ok((state.namespace(broker.namespace).ok_or_else(broker_gone)?, broker))
}

/// The write was made, but what it was about cannot be shown.
fn broker_gone() -> ApiError {
    ApiError::not_found("the broker was deleted meanwhile")
}

/// An action that came to the wrong part of the service.
fn misrouted(action: &Action) -> ApiError {
    ApiError::new(ApiErrorKind::Internal, format!("no handler for {action:?}"))
}
