//! The gRPC door: messages to actions, replies to messages, errors to statuses.

mod brokers;
mod cluster;
mod namespaces;
mod tokens;

use rookery_proto::admin::brokers_server::BrokersServer;
use rookery_proto::admin::cluster_server::ClusterServer;
use rookery_proto::admin::namespaces_server::NamespacesServer;
use rookery_proto::admin::tokens_server::TokensServer;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::action::{Action, request_id};
use super::error::{ApiError, ApiErrorKind};
use super::reply::Reply;
use super::service::Service;

/// Largest request, bytes; the largest sensible one names 100 client IDs.
const MAX_REQUEST_BYTES: usize = 256 << 10;

/// The services, with reflection for `rookery.admin.v1`.
pub fn routes(service: Service) -> Routes {
    let door = Door(service);
    let mut routes = Routes::new(NamespacesServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(BrokersServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(TokensServer::new(door.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(ClusterServer::new(door).max_decoding_message_size(MAX_REQUEST_BYTES));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(rookery_proto::DESCRIPTORS)
        .with_service_name("rookery.admin.v1.Namespaces")
        .with_service_name("rookery.admin.v1.Brokers")
        .with_service_name("rookery.admin.v1.Tokens")
        .with_service_name("rookery.admin.v1.Cluster")
        .build_v1();
    match reflection {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "no reflection: the compiled descriptors are broken"),
    }
    routes
}

/// Implements the generated traits.
#[derive(Clone)]
struct Door(Service);

impl Door {
    async fn run(
        &self,
        metadata: &MetadataMap,
        request: &str,
        action: Result<Action, ApiError>,
    ) -> Result<Reply, Status> {
        let run = async { self.0.run(bearer(metadata), request_id(request)?, action?).await };
        run.await.map_err(status)
    }
}

/// The API token of a call.
fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn status(error: ApiError) -> Status {
    let code = match error.kind {
        ApiErrorKind::Invalid => Code::InvalidArgument,
        ApiErrorKind::Unauthenticated => Code::Unauthenticated,
        ApiErrorKind::Forbidden => Code::PermissionDenied,
        ApiErrorKind::NotFound => Code::NotFound,
        ApiErrorKind::AlreadyExists => Code::AlreadyExists,
        ApiErrorKind::Precondition => Code::FailedPrecondition,
        ApiErrorKind::LimitReached => Code::ResourceExhausted,
        ApiErrorKind::Unavailable => Code::Unavailable,
        ApiErrorKind::Unknown => Code::DeadlineExceeded,
        ApiErrorKind::NotEverywhere => Code::Aborted,
        ApiErrorKind::Internal => Code::Internal,
    };
    Status::new(code, error.message)
}

/// A reply of another kind than the action's.
fn misplaced() -> Status {
    Status::internal("the service answered with something else")
}
