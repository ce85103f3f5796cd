//! What came out of a run.

use std::time::Duration;

use hdrhistogram::Histogram;
use rookery_cluster::clock::{Clock, Moment, SystemClock};
use serde_json::{Value, json};

use super::BenchError;
use super::options::{BenchOptions, Scenario};
use super::process::{cpu_seconds, own_cpu_seconds, peak_memory};

/// The longest latency told apart, microseconds.
const LONGEST_MICROS: u64 = 120_000_000;

/// A run's result.
#[derive(Clone, Debug)]
pub struct Report {
    scenario: Scenario,
    options: BenchOptions,
    /// Duration, count, CPU.
    pub timing: Timing,
    /// How long each took.
    pub latency: Latency,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came after a later one of the same publisher.
    /// `None` where no order is promised (shared).
    pub out_of_order: Option<u64>,
    /// Messages that came more than once.
    pub duplicates: u64,
    /// PUBACKs, PUBRECs and PUBCOMPs with a failure; connections refused, or closed while idle; writes without a good answer.
    pub failed: u64,
    /// Of takeovers: how the old connection ended.
    pub told: Option<Told>,
    /// Of idle connections: the server's memory.
    pub held: Option<Held>,
}

/// Resident memory of the server around connections that are open and idle, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many connections were opened.
    pub connections: u64,
    /// Before the first of them.
    pub before: u64,
    /// With all of them.
    pub after: u64,
}

impl Held {
    /// What each of them took; below 0 where the server gave back more than that.
    pub fn bytes_per_connection(&self) -> f64 {
        (self.after as f64 - self.before as f64) / self.connections as f64
    }
}

/// How old connections ended when they were taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// With DISCONNECT 0x8E that was there when the new CONNACK was.
    pub before: u64,
    /// With DISCONNECT 0x8E that came after the new CONNACK.
    pub after: u64,
    /// Closed without a word, before or after.
    pub silently: u64,
    /// Still open a second after.
    pub open: u64,
}

/// The measured time: how long, how much, at what cost.
#[derive(Clone, Debug)]
pub struct Timing {
    pids: Vec<u32>,
    began: Moment,
    cpu: f64,
    own_cpu: f64,
    /// Measured time, seconds.
    pub seconds: f64,
    /// What was counted in it: messages delivered, connects, takeovers, writes.
    pub count: u64,
    /// CPU seconds of the server.
    pub server_cpu: f64,
    /// CPU seconds of this tool.
    pub tool_cpu: f64,
}

impl Timing {
    pub(super) fn start(pids: &[u32]) -> Result<Self, BenchError> {
        Ok(Self {
            pids: pids.to_vec(),
            cpu: cpu_seconds(pids)?,
            own_cpu: own_cpu_seconds(),
            began: SystemClock.now(),
            seconds: 0.0,
            count: 0,
            server_cpu: 0.0,
            tool_cpu: 0.0,
        })
    }

    pub(super) fn stop(&mut self, count: u64) -> Result<(), BenchError> {
        self.seconds = SystemClock.now().since(self.began).as_secs_f64();
        self.server_cpu = cpu_seconds(&self.pids)? - self.cpu;
        self.tool_cpu = own_cpu_seconds() - self.own_cpu;
        self.count = count;
        Ok(())
    }

    fn cpu_per_million(&self) -> Option<f64> {
        (!self.pids.is_empty() && self.count > 0).then(|| self.server_cpu / self.count as f64 * 1e6)
    }
}

/// Percentiles, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half are below.
    pub p50: u64,
    /// One in a hundred is above.
    pub p99: u64,
    /// One in a thousand is above.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    pub(super) fn histogram() -> Histogram<u64> {
        Histogram::new_with_max(LONGEST_MICROS, 3).expect("bounds that the library takes")
    }

    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

impl Report {
    pub(super) fn new(options: &BenchOptions, timing: Timing, latency: Latency) -> Self {
        Self {
            scenario: options.scenario,
            options: options.clone(),
            timing,
            latency,
            lost: 0,
            out_of_order: Some(0),
            duplicates: 0,
            failed: 0,
            told: None,
            held: None,
        }
    }

    /// What is counted per second.
    pub fn rate(&self) -> f64 {
        self.timing.count as f64 / self.timing.seconds
    }

    /// One object.
    pub fn to_json(&self) -> Value {
        let measured = !self.options.pid.is_empty();
        let mut value = json!({
            "scenario": self.name(),
            "mqtt": self.options.mqtt,
            "qos": self.options.qos,
            "payload": self.options.payload,
            "seconds": self.timing.seconds,
            "count": self.timing.count,
            "per_second": self.rate(),
            "cpu_seconds_per_million": self.timing.cpu_per_million(),
            "server_cores": measured.then(|| self.timing.server_cpu / self.timing.seconds),
            "server_peak_rss_bytes": measured.then(|| peak_memory(&self.options.pid)),
            "tool_cores": self.timing.tool_cpu / self.timing.seconds,
            "lost": self.lost,
            "out_of_order": self.out_of_order,
            "duplicates": self.duplicates,
            "failed": self.failed,
            "latency_us": {
                "p50": self.latency.p50, "p99": self.latency.p99, "p999": self.latency.p999, "max": self.latency.max
            },
        });
        if let (Some(told), Some(object)) = (self.told, value.as_object_mut()) {
            object.insert(
                "old_connection".into(),
                json!({"told_0x8e_before": told.before, "told_0x8e_after": told.after,
                       "closed_silently": told.silently, "still_open": told.open}),
            );
        }
        if let (Some(held), Some(object)) = (self.held, value.as_object_mut()) {
            object.insert(
                "rss_bytes".into(),
                json!({"before": held.before, "after": held.after, "per_connection": held.bytes_per_connection()}),
            );
        }
        value
    }

    /// A heading and a row.
    pub fn to_table(&self) -> String {
        let micros = |us: u64| format!("{:.1?}", Duration::from_micros(us));
        let dash = || "-".to_owned();
        let mut cells = vec![
            ("scenario", self.name().to_owned()),
            ("per second", format!("{:.0}", self.rate())),
            ("cpu-s/M", self.timing.cpu_per_million().map_or_else(dash, |cpu| format!("{cpu:.3}"))),
            ("lost", self.lost.to_string()),
            ("out of order", self.out_of_order.map_or_else(dash, |count| count.to_string())),
            ("doubled", self.duplicates.to_string()),
            ("failed", self.failed.to_string()),
            ("p50", micros(self.latency.p50)),
            ("p99", micros(self.latency.p99)),
            ("p99.9", micros(self.latency.p999)),
            ("max", micros(self.latency.max)),
            (
                "rss peak",
                match peak_memory(&self.options.pid) {
                    0 => dash(),
                    bytes => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
                },
            ),
            ("tool cores", format!("{:.2}", self.timing.tool_cpu / self.timing.seconds)),
        ];
        if let Some(told) = self.told {
            cells.push(("0x8E before", told.before.to_string()));
            cells.push(("0x8E after", told.after.to_string()));
            cells.push(("silent", told.silently.to_string()));
            cells.push(("open", told.open.to_string()));
        }
        if let Some(held) = self.held {
            cells.push(("rss/connection", format!("{:.0} B", held.bytes_per_connection())));
        }
        let widths: Vec<usize> = cells.iter().map(|(head, cell)| head.len().max(cell.chars().count())).collect();
        let line = |texts: Vec<&str>| {
            texts.iter().zip(&widths).map(|(text, &width)| format!("{text:>width$}")).collect::<Vec<_>>().join("  ")
        };
        let heads = line(cells.iter().map(|(head, _)| *head).collect());
        let row = line(cells.iter().map(|(_, cell)| cell.as_str()).collect());
        format!("{heads}\n{row}")
    }

    fn name(&self) -> &'static str {
        match self.scenario {
            Scenario::Fanout => "fanout",
            Scenario::Fanin => "fanin",
            Scenario::Pairs => "pairs",
            Scenario::Wild => "wild",
            Scenario::Shared => "shared",
            Scenario::Connect => "connect",
            Scenario::Takeover => "takeover",
            Scenario::Idle => "idle",
            Scenario::Latency => "latency",
            Scenario::Admin => "admin",
        }
    }
}
