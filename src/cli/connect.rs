//! Finding the administration API: by flags, by the environment, or by what `rookery dev` left in its folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rookery_cluster::rng::{Rng as _, SystemRng};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::Failure;
use super::output::Output;
use crate::client::system_authorities;
use crate::dev::DevInfo;

/// For a TCP connection and TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// For a call; the server gives up on a write after 5 s, and on nodes that do not apply a change after 10.
const CALL: Duration = Duration::from_secs(20);
/// While the cluster elects a leader, calls are sent again.
const RETRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Where the API is, and who asks.
#[derive(Clone, Debug, Args)]
pub(super) struct ApiOptions {
    /// The administration API: http://HOST:PORT, or https:// with TLS. Default: the nodes of `rookery dev`.
    #[arg(long, env = "ROOKERY_ENDPOINT", value_name = "URL", global = true, help_heading = "Server")]
    endpoint: Option<String>,
    /// The API token. A file is safer: other users may see a process's arguments.
    #[arg(long, env = "ROOKERY_API_TOKEN", hide_env_values = true, global = true, help_heading = "Server")]
    api_token: Option<String>,
    /// A file with the API token.
    #[arg(long, env = "ROOKERY_API_TOKEN_FILE", value_name = "FILE", global = true, help_heading = "Server")]
    api_token_file: Option<PathBuf>,
    /// With https://: PEM file of the certificate authority to trust, instead of the system's.
    #[arg(long, env = "ROOKERY_CA", value_name = "FILE", global = true, help_heading = "Server")]
    api_ca: Option<PathBuf>,
    /// The folder of `rookery dev`.
    #[arg(long, default_value = "rookery-data", value_name = "DIR", global = true, help_heading = "Server")]
    dev_dir: PathBuf,
    /// How results are printed.
    #[arg(long, value_enum, default_value = "table", global = true)]
    pub(super) output: Output,
}

/// A connection to the API, on which calls carry the token.
pub(super) type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the token to a call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The API, found.
pub(super) struct Api {
    endpoints: Vec<Endpoint>,
    bearer: Bearer,
    pub(super) output: Output,
}

impl Api {
    /// Finds server and token; connects to nothing yet.
    pub(super) fn find(options: &ApiOptions) -> Result<Self, Failure> {
        let dev = dev_info(&options.dev_dir);
        let endpoints = match (&options.endpoint, &dev) {
            (Some(url), _) => vec![url.clone()],
            (None, Some(dev)) => dev.nodes.iter().map(|node| format!("http://{}", node.grpc)).collect(),
            (None, None) => {
                let looked = options.dev_dir.join("dev.json");
                return Err(Failure::usage(format!("no server is named, and there is no {}", looked.display())).hint(
                    "name one with --endpoint or ROOKERY_ENDPOINT, or run this where `rookery dev` was started",
                ));
            }
        };
        let token = token(options, dev.as_ref())?;
        let bearer = format!("Bearer {token}").parse().map_err(|_| Failure::usage("the API token is not one line"))?;
        let endpoints = endpoints.iter().map(|url| endpoint(url, options.api_ca.as_deref()));
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        Ok(Self { endpoints, bearer: Bearer(bearer), output: options.output })
    }

    /// Makes a call, at whichever node answers. While the cluster has no leader, or an answer is lost, it is made
    /// again: so a write must carry a request id, the same each time ([`request_id`]).
    pub(super) fn call<R, F>(&self, call: impl Fn(Authorized) -> F) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::refused)?;
        runtime.block_on(self.call_async(call))
    }

    async fn call_async<R, F>(&self, call: impl Fn(Authorized) -> F) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut maybe_done = false;
        let mut last = Failure::unreachable("there is no server to ask");
        for attempt in 0..RETRIES {
            if attempt > 0 {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            for endpoint in &self.endpoints {
                let channel = match endpoint.connect().await {
                    Ok(channel) => channel,
                    Err(error) => {
                        last = unreachable(endpoint, &error);
                        continue;
                    }
                };
                match call(InterceptedService::new(channel, self.bearer.clone())).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) => {
                        maybe_done |= !matches!(status.code(), Code::Unavailable) || is_broken(&status);
                        last = failure(&status);
                        if !may_retry(&status) {
                            return Err(last);
                        }
                    }
                }
            }
            if attempt == 0 && !maybe_done && last.is_refused_connection() {
                break;
            }
        }
        Err(if maybe_done { last.into_unknown() } else { last })
    }
}

/// A fresh request id: a write carries one, so that it can be sent again.
pub(super) fn request_id() -> String {
    format!("{:032x}", SystemRng.u128())
}

/// What `rookery dev` left in `folder`.
pub(super) fn dev_info(folder: &Path) -> Option<DevInfo> {
    let text = std::fs::read_to_string(folder.join("dev.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn token(options: &ApiOptions, dev: Option<&DevInfo>) -> Result<String, Failure> {
    if let Some(token) = &options.api_token {
        return Ok(token.trim().to_owned());
    }
    // The token of `dev` is for its own nodes: it is sent to nobody else.
    let is_dev = |url: &str| dev.is_some_and(|dev| dev.nodes.iter().any(|node| url.ends_with(&node.grpc)));
    let from_dev = options.endpoint.as_deref().is_none_or(is_dev);
    let file =
        options.api_token_file.clone().or_else(|| dev.filter(|_| from_dev).map(|dev| dev.api_token_file.clone()));
    let file = file.ok_or_else(|| {
        Failure::usage("no API token is given").hint("set ROOKERY_API_TOKEN, or name a file with --api-token-file")
    })?;
    let text =
        std::fs::read_to_string(&file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

fn endpoint(url: &str, ca: Option<&Path>) -> Result<Endpoint, Failure> {
    let bad = |why: String| Failure::usage(format!("{url:?} is not an endpoint: {why}")).hint("write http://HOST:PORT");
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(bad("it needs http:// or https:// in front".into()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| bad(error.to_string()))?;
    let endpoint = endpoint.connect_timeout(CONNECT).timeout(CALL);
    if !url.starts_with("https://") {
        return Ok(endpoint);
    }
    let pem = match ca {
        Some(file) => std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?,
        None => system_authorities().map_err(Failure::usage)?.1,
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
    endpoint.tls_config(tls).map_err(|error| bad(error.to_string()))
}

fn unreachable(endpoint: &Endpoint, error: &tonic::transport::Error) -> Failure {
    // The outermost error says "transport error"; what happened is at the end of the chain.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::unreachable(format!("cannot connect to {}: {cause}", endpoint.uri()))
        .hint("is a node running there? (--endpoint, ROOKERY_ENDPOINT, or `rookery dev`)")
}

/// The connection ended while the answer was awaited.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn may_retry(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) || is_broken(status)
}

fn failure(status: &Status) -> Failure {
    let what = status.message();
    match status.code() {
        Code::Unauthenticated => {
            Failure::refused(what).hint("check the token (--api-token-file, ROOKERY_API_TOKEN); has it been revoked?")
        }
        Code::PermissionDenied => Failure::refused(what).hint("use an API token that is good for the whole cluster"),
        Code::Unavailable => Failure::unreachable(what).hint("try again, or another node with --endpoint"),
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Failure::unknown(what),
        Code::Aborted => Failure::unknown(what).hint("it stays done; see `rookery cluster members` for those nodes"),
        Code::Unimplemented => Failure::refused("the server does not know this call").hint("is it an older version?"),
        _ => Failure::refused(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_but_not_everywhere_has_its_own_text() {
        let failed = failure(&Status::aborted("committed, but node 2 has not confirmed"));
        assert!(failed.to_string().starts_with("committed, but node 2 has not confirmed; it stays done"), "{failed}");
        assert_eq!(format!("{:?}", failed.exit_code()), format!("{:?}", std::process::ExitCode::from(4)));
        assert!(!may_retry(&Status::aborted("")));
    }
}
