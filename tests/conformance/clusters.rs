//! The clusters that the cases run against, and the credentials that they run with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rookery_jepsen::Cluster;
use tokio::sync::Mutex;

use crate::play::{Node, Stage, play};
use crate::script::Case;
use crate::socket::{Carrier, Pieces};

/// The brokers beside the one that `dev` makes: name in the case files, arguments of `rookery broker create`.
const BROKERS: &[(&str, &[&str])] = &[
    ("beta", &["--preset", "beta"]),
    ("qos0", &["--set", "max_qos=0"]),
    ("noretain", &["--set", "retain=off"]),
    ("nowildcard", &["--set", "wildcards=off"]),
];
/// Credentials issued by one call.
const AT_ONCE: &str = "100";
/// How long a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(40);
/// The same where it is expected not to come.
const SHORT_PATIENCE: Duration = Duration::from_secs(4);

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    pub carrier: Carrier,
    pub pieces: Pieces,
}

const fn variant(name: &'static str, carrier: Carrier, pieces: Pieces) -> Variant {
    Variant { name, carrier, pieces }
}

/// On one node, every case runs in all of them.
pub const VARIANTS: &[Variant] = &[
    variant("tcp", Carrier::Tcp, Pieces::Whole),
    variant("tcp, split at every byte", Carrier::Tcp, Pieces::Bytes),
    variant("tcp, coalesced", Carrier::Tcp, Pieces::Coalesced),
    variant("websocket", Carrier::WebSocket, Pieces::Whole),
    variant("websocket, split at every byte", Carrier::WebSocket, Pieces::Bytes),
    variant("websocket, coalesced", Carrier::WebSocket, Pieces::Coalesced),
];

/// A cluster with its brokers.
pub struct Stand {
    /// None when it is another server, which admits everybody.
    cluster: Option<Cluster>,
    nodes: Vec<Node>,
    /// Credentials not used yet, by broker; none for a broker that could not be made.
    pools: BTreeMap<String, Mutex<Vec<(String, String)>>>,
    runs: AtomicU32,
}

impl Stand {
    /// Starts `nodes` nodes.
    pub async fn start(program: &Path, folder: &Path, nodes: u64) -> Self {
        let cluster = Cluster::start(program, folder, nodes).await.expect("the cluster comes up");
        let mut pools = BTreeMap::from([("standard".to_owned(), Mutex::default())]);
        for (name, arguments) in BROKERS {
            let namespace = ["broker", "create", name, "--namespace", &cluster.info().namespace];
            if cluster.cli(1, &[&namespace[..], arguments].concat()).await.is_ok() {
                pools.insert((*name).to_owned(), Mutex::default());
            }
        }
        let nodes = cluster.info().nodes.iter().map(|node| Node { tcp: node.mqtt.clone(), ws: node.ws.clone() });
        let nodes = nodes.collect();
        Self { cluster: Some(cluster), nodes, pools, runs: AtomicU32::new(0) }
    }

    /// Another server than Rookery, at `tcp` and over WebSocket at `ws`: where it differs, a case may be wrong.
    pub fn other(tcp: String, ws: String) -> Self {
        Self { cluster: None, nodes: vec![Node { tcp, ws }], pools: BTreeMap::new(), runs: AtomicU32::new(0) }
    }

    /// How many nodes it has.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    async fn issue(&self, broker: &str, arguments: &[&str]) -> Result<Vec<(String, String)>, String> {
        let cluster = self.cluster.as_ref().ok_or("another server issues nothing")?;
        let info = cluster.info();
        let broker = if broker == "standard" { &info.broker } else { broker };
        let fixed = ["broker", "issue", broker, "--namespace", &info.namespace, "--output", "json"];
        let said = cluster.cli(1, &[&fixed[..], arguments].concat()).await.map_err(|error| error.to_string())?;
        let issued: BTreeMap<String, String> = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        Ok(issued.into_iter().collect())
    }

    async fn credential(&self, case: &Case, letter: &str, topic: &str) -> Result<(String, String), String> {
        if self.cluster.is_none() {
            let own = case.named.get(letter).cloned();
            return Ok((own.unwrap_or(format!("{topic}{letter}")), "password".into()));
        }
        let pool = self.pools.get(&case.broker).ok_or_else(|| format!("there is no broker {}", case.broker))?;
        let acl = case.acl.get(letter).map(|acl| acl.replace("{t}", topic)).unwrap_or_default();
        let filters = acl.split(',').filter(|filter| !filter.is_empty());
        let rights = filters.flat_map(|filter| ["--publish", filter, "--subscribe", filter]);
        let own: Vec<&str> = match case.named.get(letter) {
            Some(id) => ["--client-id", id].into_iter().chain(rights).collect(),
            None => rights.collect(),
        };
        if !own.is_empty() {
            let issued = self.issue(&case.broker, &own).await?;
            return issued.into_iter().next().ok_or_else(|| "no credential was issued".into());
        }
        let mut pool = pool.lock().await;
        if pool.is_empty() {
            *pool = self.issue(&case.broker, &["--number", AT_ONCE]).await?;
        }
        pool.pop().ok_or_else(|| "no credential was issued".into())
    }

    /// Plays the case once.
    pub async fn play(&self, case: &Case, version: u8, how: Variant) -> Result<(), String> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let topic = format!("c{run}");
        let mut credentials = BTreeMap::new();
        for letter in case.connections().iter().map(|conn| conn.trim_end_matches(|c: char| c.is_ascii_digit())) {
            if !credentials.contains_key(letter) {
                credentials.insert(letter.to_owned(), self.credential(case, letter, &topic).await?);
            }
        }
        let stage = Stage {
            version,
            nodes: self.nodes.clone(),
            carrier: how.carrier,
            pieces: how.pieces,
            credentials,
            topic,
            patience: if case.pending.is_some() { SHORT_PATIENCE } else { PATIENCE },
        };
        play(case, &stage).await
    }
}
