//! Clients that connect and disconnect without end, a thread each: the server's cost is what is measured, and a
//! blocking client has the fewest system calls.

use std::time::Duration;

use hdrhistogram::Histogram;
use rookery_cluster::clock::{Clock, Moment, SystemClock};

use crate::mqtt::codec::{Disconnect, Packet, ReasonCode};

use super::credentials::Fresh;
use super::options::BenchOptions;
use super::report::{Latency, Report, Timing};
use super::setup::Link;
use super::{BenchError, Credential, Credentials};

/// Clients where `--clients` is not given.
const CLIENTS: usize = 50;

/// From when to when what ends is counted.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Moment,
    pub(super) to: Moment,
}

impl Span {
    /// The measured time of a run that begins now.
    pub(super) fn of(options: &BenchOptions) -> Self {
        let from = SystemClock.now() + Duration::from_secs_f64(options.warmup);
        Self { from, to: from + Duration::from_secs_f64(options.seconds) }
    }

    pub(super) fn contains(self, moment: Moment) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// Who connects in one thread.
enum Who<'a> {
    /// The same client each time.
    Always(Credential),
    /// The next of those who have not connected yet.
    Next(&'a Fresh),
}

impl Who<'_> {
    fn connects(&self) -> Result<Credential, BenchError> {
        match self {
            Self::Always(one) => Ok(one.clone()),
            Self::Next(fresh) => fresh.next(),
        }
    }
}

/// Runs the scenario.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let servers = options.servers();
    let credentials = Credentials::load(options.credentials.as_deref())?;
    let count = options.clients.unwrap_or(CLIENTS);
    let fresh = Fresh::from(credentials.clone());
    let clients: Vec<Who<'_>> = match options.fresh {
        true => (0..count).map(|_| Who::Next(&fresh)).collect(),
        false => credentials.take(count)?.into_iter().map(Who::Always).collect(),
    };
    let span = Span::of(options);
    let (timing, histograms) = std::thread::scope(|scope| {
        let servers = &servers;
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(at, who)| scope.spawn(move || connect_until(span, &servers[at % servers.len()], &who, options)))
            .collect();
        let timing = measure(span, &options.pid);
        let done: Result<Vec<_>, _> = threads.into_iter().map(join).collect();
        Ok::<_, BenchError>((timing?, done?))
    })?;
    let mut timing = timing;
    let mut all = Latency::histogram();
    for histogram in &histograms {
        all += histogram;
    }
    timing.count = all.len();
    Ok(Report::new(options, timing, Latency::of(&all)))
}

/// Reads the CPU times at both ends of the span.
pub(super) fn measure(span: Span, pids: &[u32]) -> Result<Timing, BenchError> {
    std::thread::sleep(span.from.since(SystemClock.now()));
    let mut timing = Timing::start(pids)?;
    std::thread::sleep(span.to.since(SystemClock.now()));
    timing.stop(0)?;
    Ok(timing)
}

/// The result of a thread; its panic goes on here.
pub(super) fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn connect_until(
    span: Span,
    server: &str,
    who: &Who<'_>,
    options: &BenchOptions,
) -> Result<Histogram<u64>, BenchError> {
    let mut histogram = Latency::histogram();
    while SystemClock.now() < span.to {
        let who = who.connects()?;
        let began = SystemClock.now();
        let mut link = Link::open(server, &who, options.version())?;
        link.welcome()?;
        let now = SystemClock.now();
        if span.contains(now) {
            histogram.saturating_record(now.since(began).as_micros() as u64);
        }
        let end = Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION));
        link.send(&end).map_err(|_| link.closed(None))?;
        // The server closes: its side of the connection is the one that lingers, as with real clients.
        while link.receive().is_ok() {}
    }
    Ok(histogram)
}
