//! What to do to whom: the flags of `rookery bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::mqtt::codec::Version;

use super::{BenchError, wild};

/// Smallest payload: publisher, sequence number and time of sending.
pub(super) const STAMP_BYTES: usize = 20;

/// Flags of `rookery bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchOptions {
    /// What to measure.
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// The server's host, where --hosts is not given.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// The server's plain MQTT port, where --hosts is not given.
    #[arg(long, default_value_t = 1883)]
    pub port: u16,
    /// Several servers: clients are spread over them, and the two ends of a pair are on neighbours.
    #[arg(long, value_name = "HOST:PORT,..", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// With several servers: both ends of a pair on the same one.
    #[arg(long)]
    pub local: bool,
    /// Publishers (fanin, pairs, latency: 50; wild, shared: 10).
    #[arg(long)]
    pub pubs: Option<usize>,
    /// Subscribers (fanout: 100; wild: 500, or a multiple of it; shared: 10).
    #[arg(long)]
    pub subs: Option<usize>,
    /// Clients (connect: 50, takeover: 1, idle: 5000, admin: 64).
    #[arg(long)]
    pub clients: Option<usize>,
    /// Quality of service, both ways.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Messages that a publisher may have published and not yet received by all its subscribers.
    #[arg(long, default_value_t = 1000)]
    pub window: u64,
    /// With QoS 1 and 2: messages that a publisher may have unacknowledged, too.
    #[arg(long, default_value_t = 20)]
    pub inflight: u64,
    /// Bytes of a message, at least 20.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Seconds measured; how long the connections are held before their memory is (idle).
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Messages per second of all publishers together (latency: 1000); takeovers per second of each client (takeover: 8).
    #[arg(long)]
    pub rate: Option<f64>,
    /// Processes of the server, for CPU time and memory.
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Protocol version.
    #[arg(long, default_value = "3", value_parser = ["3", "5"])]
    pub mqtt: String,
    /// JSON map from client ID to token, used in the order of the file; without it clients are anonymous.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Each connection is another client's, with a credential that no connection of this run had before (connect).
    #[arg(long)]
    pub fresh: bool,
    /// The administration API, http://HOST:PORT; callers are spread over several (admin).
    #[arg(long, value_name = "URL,..", value_delimiter = ',', default_value = "http://127.0.0.1:7947")]
    pub endpoint: Vec<String>,
    /// A file with the API token (admin).
    #[arg(long, env = "ROOKERY_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// The namespace of the broker that is changed (admin).
    #[arg(long, default_value = "demo")]
    pub namespace: String,
    /// The broker whose description is changed (admin).
    #[arg(long, default_value = "hello")]
    pub broker: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One publisher, many subscribers to its topic.
    Fanout,
    /// Many publishers, one subscriber to all.
    Fanin,
    /// Many publishers, each with a topic and a subscriber of its own.
    Pairs,
    /// 10,000 topics, and subscribers with ten wildcard filters each: a message matches one in a hundred of them.
    Wild,
    /// Many publishers, one group of subscribers that share them.
    Shared,
    /// Clients that connect and disconnect.
    Connect,
    /// Clients that take over from themselves, on the next server each time.
    Takeover,
    /// Clients that connect, subscribe and stay: what memory that takes.
    Idle,
    /// Pairs at a fixed rate.
    Latency,
    /// Callers of the administration API that write.
    Admin,
}

impl BenchOptions {
    /// Refuses what cannot be measured.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let bad = |what: &str| Err(BenchError::Options(what.to_owned()));
        if self.payload < STAMP_BYTES {
            return bad("--payload is at least 20: each message carries publisher, number and time");
        }
        if self.payload > 1 << 20 {
            return bad("--payload is at most 1048576");
        }
        if !(self.seconds > 0.0 && self.warmup >= 0.0 && self.seconds + self.warmup < 86_400.0) {
            return bad("--seconds is above 0, --warmup 0 or more, both together less than a day");
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e7)) {
            return bad("--rate is above 0 and at most 10000000");
        }
        let counts = [self.pubs, self.subs, self.clients];
        if counts.contains(&Some(0)) || self.window == 0 || self.inflight == 0 {
            return bad("--pubs, --subs, --clients, --window and --inflight are at least 1");
        }
        if self.inflight > 65_535 {
            return bad("--inflight is at most 65535: there are no more packet identifiers");
        }
        if self.scenario == Scenario::Wild && !self.subscribers().is_multiple_of(wild::SUBSCRIBERS) {
            return bad("wild: --subs is a multiple of 500, each 500 of whom get five copies of every message");
        }
        if self.scenario == Scenario::Idle && self.pid.is_empty() {
            return bad("idle: --pid is needed, it is the server's memory that is measured");
        }
        Ok(())
    }

    /// How many publish.
    pub(super) fn publishers(&self) -> usize {
        self.pubs.unwrap_or(if matches!(self.scenario, Scenario::Wild | Scenario::Shared) { 10 } else { 50 })
    }

    /// How many subscribe, where that is not told by the publishers.
    pub(super) fn subscribers(&self) -> usize {
        self.subs.unwrap_or(match self.scenario {
            Scenario::Wild => wild::SUBSCRIBERS,
            Scenario::Shared => 10,
            _ => 100,
        })
    }

    /// The servers, `host:port`.
    pub(super) fn servers(&self) -> Vec<String> {
        if self.hosts.is_empty() { vec![format!("{}:{}", self.host, self.port)] } else { self.hosts.clone() }
    }

    pub(super) fn version(&self) -> Version {
        if self.mqtt == "5" { Version::V5 } else { Version::V311 }
    }
}
