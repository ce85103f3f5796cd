//! A client ID that connects again and again, on the next server each time, while the last connection is open.

use std::time::Duration;

use hdrhistogram::Histogram;
use rookery_cluster::clock::{Clock, SystemClock};

use crate::mqtt::codec::{Packet, ReasonCode};

use super::churn::{Span, join, measure};
use super::options::BenchOptions;
use super::report::{Latency, Report, Told};
use super::setup::Link;
use super::{BenchError, Credential, Credentials};

/// An old connection that is still open this long after the new CONNACK is counted as open.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the scenario.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let servers = options.servers();
    let clients = Credentials::load(options.credentials.as_deref())?.take(options.clients.unwrap_or(1))?;
    let span = Span::of(options);
    let (mut timing, results) = std::thread::scope(|scope| {
        let servers = &servers;
        let work = |who: Credential| scope.spawn(move || take_over_until(span, servers, &who, options));
        let threads: Vec<_> = clients.into_iter().map(work).collect();
        let timing = measure(span, &options.pid);
        let done: Result<Vec<_>, _> = threads.into_iter().map(join).collect();
        Ok::<_, BenchError>((timing?, done?))
    })?;
    let mut all = Latency::histogram();
    let mut told = Told::default();
    for (histogram, one) in &results {
        all += histogram;
        told.before += one.before;
        told.after += one.after;
        told.silently += one.silently;
        told.open += one.open;
    }
    timing.count = all.len();
    let mut report = Report::new(options, timing, Latency::of(&all));
    report.told = Some(told);
    Ok(report)
}

fn take_over_until(
    span: Span,
    servers: &[String],
    who: &Credential,
    options: &BenchOptions,
) -> Result<(Histogram<u64>, Told), BenchError> {
    let mut histogram = Latency::histogram();
    let mut told = Told::default();
    let mut old: Option<Link> = None;
    for server in servers.iter().cycle() {
        if SystemClock.now() >= span.to {
            break;
        }
        let began = SystemClock.now();
        let mut link = Link::open(server, who, options.version())?;
        link.welcome()?;
        let now = SystemClock.now();
        if let Some(previous) = old.replace(link) {
            let counted = span.contains(now);
            let mut ignored = Told::default();
            end_of(previous, if counted { &mut told } else { &mut ignored })?;
            if counted {
                histogram.saturating_record(now.since(began).as_micros() as u64);
            }
        }
    }
    Ok((histogram, told))
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
