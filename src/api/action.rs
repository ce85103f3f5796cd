//! What a caller may ask for. An action is parsed, so it is valid in itself; whether the state allows it is found
//! out by whoever carries it out.

use std::str::FromStr;

use rookery_cluster::ids::{AccountId, BrokerId, NamespaceId, RequestId, TokenId};
use rookery_cluster::limits::MAX_CREDENTIALS_PER_CALL;
use rookery_cluster::metadata::{MAX_JTI_BYTES, Name, Preset};

use super::ApiError;
use super::limits::Limits;
use crate::auth::{Clients, Lifetime, Order, Rights, TopicAcl};

/// Longest lifetime, seconds: 100 years, as everywhere.
const MAX_LIFETIME_S: i64 = 100 * 365 * 24 * 3600;
/// Lifetime of a join token that does not ask for another, seconds.
const JOIN_TOKEN_S: u64 = 3600;
/// Longest lifetime of a join token, seconds: a week.
const MAX_JOIN_TOKEN_S: u64 = 7 * 24 * 3600;
/// Most nodes that one join token admits.
const MAX_JOIN_USES: u32 = 1000;

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the calls of the API, whose .proto file says what they mean")]
pub enum Action {
    CreateNamespace {
        name: Name,
        description: String,
        account: Option<AccountId>,
        preset: Preset,
    },
    ListNamespaces {
        account: Option<AccountId>,
    },
    DescribeNamespace {
        namespace: Target<NamespaceId>,
    },
    DeleteNamespace {
        namespace: Target<NamespaceId>,
    },
    CreateBroker {
        namespace: Target<NamespaceId>,
        name: Name,
        description: String,
        expiration: Option<Lifetime>,
        preset: Preset,
        limits: Limits,
    },
    UpdateBroker {
        broker: BrokerRef,
        description: Option<String>,
        expiration: Option<Lifetime>,
        preset: Option<Preset>,
        limits: Limits,
    },
    ListBrokers {
        namespace: Target<NamespaceId>,
    },
    DescribeBroker {
        broker: BrokerRef,
    },
    DeleteBroker {
        broker: BrokerRef,
    },
    Issue {
        broker: BrokerRef,
        order: Order,
    },
    Revoke {
        broker: BrokerRef,
        jtis: Vec<String>,
    },
    Unrevoke {
        broker: BrokerRef,
        jtis: Vec<String>,
    },
    ShowRevocations {
        broker: BrokerRef,
    },
    PublicKeys {
        broker: BrokerRef,
    },
    CreateToken {
        name: String,
        expiration: Option<Lifetime>,
        account: Option<AccountId>,
    },
    ListTokens,
    RevokeToken {
        token: Target<TokenId>,
    },
    Status,
    Members,
    CreateJoinToken {
        seconds: u64,
        uses: u32,
    },
    RemoveNode {
        node: String,
    },
}

impl Action {
    /// What kind of write it is: part of what a request id stands for, so it never changes. Reads are of no kind.
    pub(super) fn write_kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::CreateNamespace { .. } => "create namespace",
            Self::DeleteNamespace { .. } => "delete namespace",
            Self::CreateBroker { .. } => "create broker",
            Self::UpdateBroker { .. } => "update broker",
            Self::DeleteBroker { .. } => "delete broker",
            Self::Revoke { .. } => "revoke",
            Self::Unrevoke { .. } => "unrevoke",
            Self::CreateToken { .. } => "create token",
            Self::RevokeToken { .. } => "revoke token",
            Self::CreateJoinToken { .. } => "create join token",
            Self::RemoveNode { .. } => "remove node",
            Self::ListNamespaces { .. }
            | Self::DescribeNamespace { .. }
            | Self::ListBrokers { .. }
            | Self::DescribeBroker { .. }
            | Self::Issue { .. }
            | Self::ShowRevocations { .. }
            | Self::PublicKeys { .. }
            | Self::ListTokens
            | Self::Status
            | Self::Members => return None,
        })
    }
}

/// A thing by its id, or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<Id> {
    /// 32 hexadecimal digits were given. They may be a name all the same.
    Id(Id, String),
    /// Anything else.
    Name(String),
}

/// A broker and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRef {
    /// Its namespace.
    pub namespace: Target<NamespaceId>,
    /// The broker.
    pub broker: Target<BrokerId>,
}

impl<Id: FromStr> Target<Id> {
    /// Takes what a caller wrote for `what`.
    ///
    /// # Errors
    /// It is empty.
    pub fn parse(what: &str, text: &str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Err(ApiError::invalid(format!("{what} is missing")));
        }
        let text = text.to_owned();
        Ok(text.parse().map_or(Self::Name(text.clone()), |id| Self::Id(id, text)))
    }
}

impl<Id> Target<Id> {
    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Id(_, text) | Self::Name(text) => text,
        }
    }
}

impl BrokerRef {
    /// Takes what a caller wrote.
    ///
    /// # Errors
    /// One of them is empty.
    pub fn parse(namespace: &str, broker: &str) -> Result<Self, ApiError> {
        Ok(Self { namespace: Target::parse("namespace", namespace)?, broker: Target::parse("broker", broker)? })
    }
}

/// A name for something new.
pub(super) fn new_name(text: &str) -> Result<Name, ApiError> {
    Name::parse(text).map_err(|bad| ApiError::invalid(bad.to_string()))
}

/// A request id; empty is none.
pub(super) fn request_id(text: &str) -> Result<Option<RequestId>, ApiError> {
    optional_id("request_id", text)
}

/// An account; empty is none.
pub(super) fn account(text: &str) -> Result<Option<AccountId>, ApiError> {
    optional_id("account", text)
}

fn optional_id<Id: FromStr>(what: &str, text: &str) -> Result<Option<Id>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ApiError::invalid(format!("{what} is 32 hexadecimal digits")))
}

/// Seconds, or -1 for never.
pub(super) fn lifetime(seconds: Option<i64>) -> Result<Option<Lifetime>, ApiError> {
    match seconds {
        None => Ok(None),
        Some(-1) => Ok(Some(Lifetime::Never)),
        Some(s @ 1..=MAX_LIFETIME_S) => Ok(Some(Lifetime::Seconds(s.unsigned_abs()))),
        Some(_) => Err(ApiError::invalid("expiration is in seconds, above 0 and at most 100 years, or -1 for never")),
    }
}

/// For whom credentials are to be issued.
pub(super) fn clients(number: u32, client_ids: Vec<String>) -> Result<Clients, ApiError> {
    let number = number as usize;
    let named = client_ids.len();
    let count = if named > 0 { named } else { number.max(1) };
    if count > MAX_CREDENTIALS_PER_CALL {
        return Err(ApiError::invalid(format!("at most {MAX_CREDENTIALS_PER_CALL} credentials are issued per call")));
    }
    if named > 0 && number > 1 && number != named {
        return Err(ApiError::invalid(format!("number is {number}, but there are {named} client ids; leave one out")));
    }
    Ok(if named > 0 { Clients::Named(client_ids) } else { Clients::Generate(count) })
}

/// What topics credentials are to be good for: one filter for both rights, or filters for each.
pub(super) fn topic_acl(both: String, publish: Vec<String>, subscribe: Vec<String>) -> Result<TopicAcl, ApiError> {
    match (both.is_empty(), publish.is_empty() && subscribe.is_empty()) {
        (true, true) => Ok(TopicAcl::all()),
        (false, true) => Ok(TopicAcl::Both(both)),
        (true, false) => Ok(TopicAcl::Apart(Rights { publish, subscribe })),
        (false, false) => {
            Err(ApiError::invalid("topic_acl is for both rights: leave it out, or publish and subscribe"))
        }
    }
}

/// Credentials to revoke, or no longer.
pub(super) fn jtis(jtis: Vec<String>) -> Result<Vec<String>, ApiError> {
    if jtis.is_empty() || jtis.len() > MAX_CREDENTIALS_PER_CALL {
        return Err(ApiError::invalid(format!("1 to {MAX_CREDENTIALS_PER_CALL} jtis per call")));
    }
    match jtis.iter().find(|jti| jti.is_empty() || jti.len() > MAX_JTI_BYTES) {
        Some(bad) => Err(ApiError::invalid(format!("jti {bad:?} is empty or longer than {MAX_JTI_BYTES} bytes"))),
        None => Ok(jtis),
    }
}

/// A node, by its name or number.
pub(super) fn remove_node(node: String) -> Result<Action, ApiError> {
    if node.is_empty() { Err(ApiError::invalid("node is missing")) } else { Ok(Action::RemoveNode { node }) }
}

/// How long and how often a join token is good.
pub(super) fn join_token(expiration: Option<i64>, uses: u32) -> Result<Action, ApiError> {
    let seconds = expiration.map_or(Some(JOIN_TOKEN_S), |s| u64::try_from(s).ok());
    let seconds = seconds.filter(|s| (1..=MAX_JOIN_TOKEN_S).contains(s));
    let seconds = seconds.ok_or_else(|| ApiError::invalid("a join token lives from 1 second to 7 days"))?;
    if uses > MAX_JOIN_USES {
        return Err(ApiError::invalid(format!("a join token admits at most {MAX_JOIN_USES} nodes")));
    }
    Ok(Action::CreateJoinToken { seconds, uses: uses.max(1) })
}
