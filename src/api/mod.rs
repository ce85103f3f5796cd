//! The administration API. Every door (gRPC today) turns a request into one [`Action`], which is parsed and so
//! valid, and hands it to the one corridor, [`Service::run`]: who is it, may they, then metadata and `auth`. What
//! comes back is a [`Reply`] or an [`ApiError`], which each door says in its own words.

mod action;
mod error;
mod grpc;
mod limits;
mod reply;
mod serve;
mod service;
mod time;

#[cfg(test)]
mod tests;

pub use action::{Action, BrokerRef, Target};
pub use error::{ApiError, ApiErrorKind};
pub use grpc::routes;
pub use reply::{
    BrokerView, GroupView, LeaseView, MemberView, NamespaceView, Reply, RevocationView, StatusView, TokenView,
};
pub use serve::serve;
pub use service::{ClusterView, Everywhere, Place, Readiness, Service, Tools};
pub use time::rfc3339;
