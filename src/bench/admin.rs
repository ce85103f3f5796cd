//! Callers of the administration API, each in a closed loop of writes on a connection of its own. A write changes the
//! description of a broker: it takes a read point and an entry in the log of metadata, and waits for no other node.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use rookery_cluster::clock::{Clock, SystemClock};
use rookery_cluster::rng::{Rng as _, SystemRng};
use rookery_proto::admin::UpdateBrokerRequest;
use rookery_proto::admin::brokers_client::BrokersClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::BenchError;
use super::churn::{Span, measure};
use super::options::BenchOptions;
use super::report::{Latency, Report};

/// Callers where `--clients` is not given.
const CALLERS: usize = 64;
/// For one write: the server gives up sooner.
const CALL: Duration = Duration::from_secs(20);
/// After a write that failed, so that a server that refuses is not flooded.
const PAUSE: Duration = Duration::from_millis(50);

/// What every caller does.
struct Job {
    span: Span,
    bearer: MetadataValue<Ascii>,
    namespace: String,
    broker: String,
}

/// What one caller saw within the span.
struct Seen {
    latency: Histogram<u64>,
    failed: u64,
    last: Option<Status>,
}

/// Runs the scenario.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let bearer = bearer(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let channels = runtime.block_on(connect_all(options))?;
    let job =
        Job { span: Span::of(options), bearer, namespace: options.namespace.clone(), broker: options.broker.clone() };
    let job = Arc::new(job);
    let span = job.span;
    let (mut timing, seen) = std::thread::scope(|scope| {
        let timing = scope.spawn(|| measure(span, &options.pid));
        let seen = runtime.block_on(async {
            let mut callers = tokio::task::JoinSet::new();
            for channel in channels {
                callers.spawn(write_until(job.clone(), channel));
            }
            callers.join_all().await
        });
        Ok::<_, BenchError>((super::churn::join(timing)?, seen))
    })?;
    let mut all = Latency::histogram();
    for one in &seen {
        all += &one.latency;
    }
    timing.count = all.len();
    let last = seen.iter().find_map(|one| one.last.as_ref());
    if let (0, Some(status)) = (all.len(), last) {
        return Err(BenchError::Api(format!("{:?}: {}", status.code(), status.message())));
    }
    if let Some(status) = last {
        tracing::warn!(code = ?status.code(), message = status.message(), "writes failed");
    }
    let mut report = Report::new(options, timing, Latency::of(&all));
    report.failed = seen.iter().map(|one| one.failed).sum();
    Ok(report)
}

fn bearer(options: &BenchOptions) -> Result<MetadataValue<Ascii>, BenchError> {
    let file = options.api_token_file.as_ref().ok_or_else(|| BenchError::Options("name an --api-token-file".into()))?;
    let refuse = |problem| BenchError::Credentials { file: file.display().to_string(), problem };
    let token = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    format!("Bearer {}", token.trim()).parse().map_err(|_| refuse("it is not one line".into()))
}

/// A connection for each caller, spread over the endpoints.
async fn connect_all(options: &BenchOptions) -> Result<Vec<Channel>, BenchError> {
    let mut channels = Vec::new();
    for url in options.endpoint.iter().cycle().take(options.clients.unwrap_or(CALLERS)) {
        let endpoint = Endpoint::from_shared(url.clone());
        let endpoint =
            endpoint.map_err(|_| BenchError::Options(format!("--endpoint {url:?} is not http://HOST:PORT")))?;
        let refuse = |error| BenchError::Connect { server: url.clone(), error: std::io::Error::other(error) };
        channels.push(endpoint.timeout(CALL).connect().await.map_err(refuse)?);
    }
    Ok(channels)
}

async fn write_until(job: Arc<Job>, channel: Channel) -> Seen {
    let mut client = BrokersClient::new(channel);
    let mut seen = Seen { latency: Latency::histogram(), failed: 0, last: None };
    while SystemClock.now() < job.span.to {
        let began = SystemClock.now();
        let answer = client.update(job.write()).await;
        let now = SystemClock.now();
        match answer {
            Ok(_) if job.span.contains(now) => seen.latency.saturating_record(now.since(began).as_micros() as u64),
            Ok(_) => {}
            Err(status) => {
                seen.failed += u64::from(job.span.contains(now));
                seen.last = Some(status);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    seen
}

impl Job {
    fn write(&self) -> Request<UpdateBrokerRequest> {
        let id = SystemRng.u128();
        let mut request = Request::new(UpdateBrokerRequest {
            namespace: self.namespace.clone(),
            broker: self.broker.clone(),
            description: Some(format!("bench {:08x}", id as u32)),
            expiration: None,
            request_id: format!("{id:032x}"),
            ..Default::default()
        });
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}
