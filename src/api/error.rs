//! Why an action was not done: one small vocabulary for all doors.

use rookery_cluster::consensus::ProposeError;
use rookery_cluster::metadata::{Refused, RefusedKind};

use crate::auth::IssueError;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Whose fault, and what became of state.
    pub kind: ApiErrorKind,
    /// For people.
    pub message: String,
}

/// Kinds of failure. All but [`ApiErrorKind::Unknown`] and [`ApiErrorKind::NotEverywhere`] mean that nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiErrorKind {
    /// The request is wrong.
    Invalid,
    /// No API token, or none that is valid.
    Unauthenticated,
    /// The API token is not good for this.
    Forbidden,
    /// What the request names does not exist, or not for this caller.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The state does not allow it now.
    Precondition,
    /// A bound is reached.
    LimitReached,
    /// The cluster cannot write or read now; try again.
    Unavailable,
    /// It may have been done; try again with the same request id.
    Unknown,
    /// It is done and stays done, but some nodes may not act by it yet.
    NotEverywhere,
    /// A fault of this node.
    Internal,
}

impl ApiError {
    pub(super) fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ApiErrorKind::Invalid, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ApiErrorKind::NotFound, message)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let kind = match refused.kind {
            RefusedKind::NotFound => ApiErrorKind::NotFound,
            RefusedKind::AlreadyExists => ApiErrorKind::AlreadyExists,
            RefusedKind::Precondition => ApiErrorKind::Precondition,
            RefusedKind::LimitReached => ApiErrorKind::LimitReached,
            RefusedKind::Invalid => ApiErrorKind::Invalid,
        };
        Self::new(kind, refused.message)
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        let kind = match &error {
            ProposeError::Unavailable => ApiErrorKind::Unavailable,
            ProposeError::Unknown => ApiErrorKind::Unknown,
            ProposeError::TooLarge => ApiErrorKind::Invalid,
            ProposeError::Stopped(_) => ApiErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        let kind = match &error {
            IssueError::NoBroker => ApiErrorKind::NotFound,
            IssueError::Count
            | IssueError::ClientId(..)
            | IssueError::Twice(_)
            | IssueError::Acl(_)
            | IssueError::TooLong(_) => ApiErrorKind::Invalid,
            IssueError::Sealed | IssueError::Signing(_) => ApiErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
