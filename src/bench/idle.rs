//! Clients that connect, subscribe to a topic of their own, and are silent: what the server keeps in memory for each.

use std::io::ErrorKind;
use std::time::Duration;

use rookery_cluster::clock::{Clock, SystemClock};

use crate::mqtt::codec::{Disconnect, Packet, QoS, ReasonCode};

use super::options::BenchOptions;
use super::process::memory;
use super::report::{Held, Latency, Report, Timing};
use super::setup::{self, Link};
use super::{BenchError, Credentials};

/// Clients where `--clients` is not given.
const CLIENTS: usize = 5_000;
/// Clients that connect and subscribe together: fewer than any server's backlog of connections.
const TOGETHER: usize = 100;

/// Runs the scenario. What is timed is the connecting and subscribing, of each client with those it did it with.
pub(super) fn run(options: &BenchOptions) -> Result<Report, BenchError> {
    let servers = options.servers();
    let clients = Credentials::load(options.credentials.as_deref())?.take(options.clients.unwrap_or(CLIENTS))?;
    let who: Vec<_> = servers.iter().cloned().cycle().zip(clients).collect();
    let topic = |n: usize| vec![format!("bench/{}/{n}", std::process::id())];
    let topics: Vec<_> = (0..who.len()).map(topic).collect();
    let topics: Vec<_> = topics.iter().map(Vec::as_slice).collect();
    let qos = QoS::from_u8(options.qos).unwrap_or(QoS::AtMostOnce);

    let before = memory(&options.pid)?;
    let mut timing = Timing::start(&options.pid)?;
    let mut latency = Latency::histogram();
    let mut links = Vec::with_capacity(who.len());
    for (who, topics) in who.chunks(TOGETHER).zip(topics.chunks(TOGETHER)) {
        let began = SystemClock.now();
        let mut batch = setup::connect_all(who, options.version())?;
        setup::subscribe_all(&mut batch, topics, qos)?;
        latency.saturating_record_n(SystemClock.now().since(began).as_micros() as u64, batch.len() as u64);
        links.extend(batch.into_iter().map(|(link, _)| link));
    }
    timing.stop(links.len() as u64)?;
    std::thread::sleep(Duration::from_secs_f64(options.seconds));
    let after = memory(&options.pid)?;

    let mut report = Report::new(options, timing, Latency::of(&latency));
    report.held = Some(Held { connections: links.len() as u64, before, after });
    report.failed = links.iter().filter(|link| !is_open(link)).count() as u64;
    links.iter_mut().for_each(end);
    Ok(report)
}

/// Whether the server neither closed the connection nor said anything.
fn is_open(link: &Link) -> bool {
    let silent = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    link.stream.set_nonblocking(true).is_ok() && link.stream.peek(&mut [0]).is_err_and(silent)
}

/// Says goodbye.
fn end(link: &mut Link) {
    // The run is over: whether the server reads it changes nothing.
    let _ = link.send(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)));
}
