//! A client ID that connects again and again, on the next server each time, while the last connection is open.

use std::time::Duration;

use hdrhistogram::Histogram;
use rookery_cluster::clock::{Clock, Moment, SystemClock};

use crate::mqtt::codec::{Packet, ReasonCode};

use super::churn::{Span, join, measure};
use super::options::BenchOptions;
use super::report::{Latency, Report, Told};
use super::setup::Link;
use super::{BenchError, Credential, Credentials};

/// An old connection that is still open this long after the new CONNACK is counted as open.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takeovers per second of each client, where `--rate` is not given: below the limit of a node, which is ten
/// connections per second and client ID.
const RATE: f64 = 8.0;

/// When a client connects.
#[derive(Clone, Copy)]
struct Pace {
    from: Moment,
    every: Duration,
}

impl Pace {
    fn moments(self) -> impl Iterator<Item = Moment> {
        (0..).map(move |n| self.from + self.every * n)
    }
}

/// What one client saw within the span.
struct Seen {
    latency: Histogram<u64>,
    told: Told,
    failed: u64,
}

/// Runs the scenario.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let servers = options.servers();
    let clients = Credentials::load(options.credentials.as_deref())?.take(options.clients.unwrap_or(1))?;
    let every = Duration::from_secs_f64(1.0 / options.rate.unwrap_or(RATE));
    let apart = every / u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let (began, span) = (SystemClock.now(), Span::of(options));
    let (mut timing, results) = std::thread::scope(|scope| {
        let servers = &servers;
        let work = |(at, who): (u32, Credential)| {
            let pace = Pace { from: began + apart * at, every };
            scope.spawn(move || take_over_until(span, servers, &who, pace, options))
        };
        let threads: Vec<_> = (0..).zip(clients).map(work).collect();
        let timing = measure(span, &options.pid);
        let done: Result<Vec<_>, _> = threads.into_iter().map(join).collect();
        Ok::<_, BenchError>((timing?, done?))
    })?;
    let mut all = Latency::histogram();
    let mut told = Told::default();
    for Seen { latency, told: one, .. } in &results {
        all += latency;
        told.before += one.before;
        told.after += one.after;
        told.silently += one.silently;
        told.open += one.open;
    }
    timing.count = all.len();
    let mut report = Report::new(options, timing, Latency::of(&all));
    report.told = Some(told);
    report.failed = results.iter().map(|seen| seen.failed).sum();
    Ok(report)
}

fn take_over_until(
    span: Span,
    servers: &[String],
    who: &Credential,
    pace: Pace,
    options: &BenchOptions,
) -> Result<Seen, BenchError> {
    let mut seen = Seen { latency: Latency::histogram(), told: Told::default(), failed: 0 };
    let mut old: Option<Link> = None;
    for (server, due) in servers.iter().cycle().zip(pace.moments()) {
        std::thread::sleep(due.since(SystemClock.now()));
        let began = SystemClock.now();
        if began >= span.to {
            break;
        }
        let mut link = Link::open(server, who, options.version())?;
        let answer = link.welcome();
        let now = SystemClock.now();
        let counted = span.contains(now);
        match answer {
            Ok(_) => {}
            // Too often for the server's limit per client ID: the old connection stays as it is.
            Err(BenchError::Refused { reason: ReasonCode::CONNECTION_RATE_EXCEEDED, .. }) => {
                seen.failed += u64::from(counted);
                continue;
            }
            Err(error) => return Err(error),
        }
        if let Some(previous) = old.replace(link) {
            let mut ignored = Told::default();
            end_of(previous, if counted { &mut seen.told } else { &mut ignored })?;
            if counted {
                seen.latency.saturating_record(now.since(began).as_micros() as u64);
            }
        }
    }
    Ok(seen)
}

/// How the connection that was taken over ended. What the server sent before the new CONNACK is here already:
/// both sockets are on this machine, and the CONNACK has been read.
fn end_of(mut old: Link, told: &mut Told) -> Result<(), BenchError> {
    let mut byte = [0];
    old.stream.set_nonblocking(true)?;
    let early = old.stream.peek(&mut byte).is_ok();
    old.stream.set_nonblocking(false)?;
    old.stream.set_read_timeout(Some(PATIENCE))?;
    match old.receive() {
        Ok(Packet::Disconnect(end)) if end.reason == ReasonCode::SESSION_TAKEN_OVER && early => told.before += 1,
        Ok(Packet::Disconnect(end)) if end.reason == ReasonCode::SESSION_TAKEN_OVER => told.after += 1,
        Err(BenchError::Closed { .. }) => told.silently += 1,
        Ok(_) | Err(_) => told.open += 1,
    }
    Ok(())
}
