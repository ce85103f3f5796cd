//! Every client library over every transport in both versions, on one node and on three. What a library cannot do is
//! listed in `clients`; whatever else it does not do fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use rookery_jepsen::Cluster;
use rookery_jepsen::cluster::Node;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::clients::page::page;
use crate::clients::{LIBRARIES, Library, SCHEMES, VERSIONS, all};
use crate::harness::start_several;

/// Drivers at the same time.
const AT_ONCE: usize = 3;
/// Only a broken library, or broker, takes that long for all that it is asked.
const PATIENCE: Duration = Duration::from_secs(900);

/// Every transcript once over one transport in one version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Play {
    scheme: &'static str,
    version: u8,
    nodes: usize,
}

type Outcomes = BTreeMap<(Play, String), (String, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_every_client_library() {
    let several = start_several(&[1, 3]).await;
    let libraries = LIBRARIES.iter().filter(|library| all() || !library.costly);
    let played = futures_util::stream::iter(libraries).map(|library| played(library, &several.clusters));
    let played: Vec<(Tally, Vec<String>)> = played.buffer_unordered(AT_ONCE).collect().await;
    let (mut sum, mut wrong) = (Tally::default(), Vec::new());
    for (tally, complaints) in played {
        sum.ok += tally.ok;
        sum.not_applicable += tally.not_applicable;
        sum.again += tally.again;
        wrong.extend(complaints);
    }
    println!("{} ok, {} n/a, {} played again", sum.ok, sum.not_applicable, sum.again);
    assert!(wrong.is_empty(), "{} transcripts:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn t15_the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/clients.md");
    if std::env::var_os("CLIENTS_BLESS").is_some() {
        std::fs::write(&path, page()).expect("the page is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page(), "docs/reference/clients.md is out of date: CLIENTS_BLESS=1 cargo test --test real t15");
}

#[derive(Default)]
struct Tally {
    ok: usize,
    not_applicable: usize,
    again: usize,
}

/// Plays everything with `library`, once more what a busy machine upset, and compares with what is expected of it.
async fn played(library: &Library, clusters: &[Cluster]) -> (Tally, Vec<String>) {
    let plays: Vec<Play> = clusters
        .iter()
        .flat_map(|cluster| SCHEMES.map(|scheme| VERSIONS.map(|version| (scheme, version, cluster.nodes().len()))))
        .flatten()
        .map(|(scheme, version, nodes)| Play { scheme, version, nodes })
        .collect();
    let mut outcomes = drive(library, clusters, &plays).await;
    let upset = |outcomes: &Outcomes, play: &Play| outcomes.iter().any(|((p, _), (s, _))| p == play && s == "FAIL");
    let again: Vec<Play> = plays.iter().copied().filter(|play| upset(&outcomes, play)).collect();
    if !again.is_empty() {
        for ((play, name), (_, why)) in outcomes.iter().filter(|(_, (status, _))| status == "FAIL") {
            println!("{} is played again: {}: {why}", library.name, place(play, name));
        }
        outcomes.extend(drive(library, clusters, &again).await);
    }
    let count = |wanted: &str| outcomes.values().filter(|(status, _)| status == wanted).count();
    let tally = Tally { ok: count("ok"), not_applicable: count("n/a"), again: again.len() };
    let wrong = plays.iter().flat_map(|play| complaints(library, play, &outcomes)).collect();
    println!("{}: {} ok, {} n/a, {} played again", library.name, tally.ok, tally.not_applicable, tally.again);
    (tally, wrong)
}

fn place(play: &Play, name: &str) -> String {
    format!("{name} over {} in version {} on {} node(s)", play.scheme, play.version, play.nodes)
}

/// What is not as the table says.
fn complaints(library: &Library, play: &Play, outcomes: &Outcomes) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in library.transcripts() {
        let listed = library.cannot(play.scheme, play.version, name).map(|cannot| cannot.why);
        let found = outcomes.get(&(*play, name.to_owned())).map(|(status, why)| (status.as_str(), why.as_str()));
        let as_listed = match (listed, found) {
            (None, Some(("ok", _))) => true,
            (Some(why), Some(("n/a", said))) => why == said,
            _ => false,
        };
        if !as_listed {
            let place = place(play, name);
            wrong.push(format!("{}: {place}: {found:?}, and listed as impossible: {listed:?}", library.name));
        }
    }
    wrong
}

/// What the driver printed of `plays`; whatever it did not print is missing.
async fn drive(library: &Library, clusters: &[Cluster], plays: &[Play]) -> Outcomes {
    let mut lines = String::new();
    for cluster in clusters {
        let mine: Vec<&Play> = plays.iter().filter(|play| play.nodes == cluster.nodes().len()).collect();
        lines.push_str(&asked(cluster, &mine).await);
    }
    let said = timeout(PATIENCE, fed(library.driver(), &lines)).await;
    let said = said.unwrap_or_else(|_| panic!("the driver of {} does not end", library.name));
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let parts: Vec<&str> = line.splitn(6, ' ').collect();
        match parts[..] {
            ["version", version] => {
                let wanted = library.version.unwrap_or(version);
                assert_eq!(version, wanted, "{}: run scripts/test once, it installs it", library.name);
            }
            [status, scheme, version, nodes, name, ref why @ ..] => {
                let same = |play: &&Play| {
                    play.scheme == scheme && play.version.to_string() == version && play.nodes.to_string() == nodes
                };
                let play = plays.iter().find(same).unwrap_or_else(|| panic!("{}: {line}", library.name));
                outcomes.insert((*play, name.to_owned()), (status.to_owned(), why.join(" ").trim().to_owned()));
            }
            _ => panic!("{}: {line}", library.name),
        }
    }
    outcomes
}

/// The lines that ask for `plays`, with credentials that nobody has used yet.
async fn asked(cluster: &Cluster, plays: &[&Play]) -> String {
    if plays.is_empty() {
        return String::new();
    }
    let number = u32::try_from(plays.len() * 2).expect("a few");
    let mut issued = cluster.issue(number).await.expect("credentials").into_iter();
    let mut who = || issued.next().map(|(id, token)| format!("{id} {token}")).expect("as many as asked for");
    let info = cluster.info();
    let mut lines = String::new();
    for play in plays {
        let nodes: Vec<&str> = info.nodes.iter().map(|node| address(node, play.scheme)).collect();
        let (nodes, ca) = (nodes.join(","), info.ca.display());
        lines.push_str(&format!("{} {} {nodes} {ca} {} {}\n", play.scheme, play.version, who(), who()));
    }
    lines
}

fn address<'a>(node: &'a Node, scheme: &str) -> &'a str {
    match scheme {
        "tls" => &node.mqtts,
        "ws" => &node.ws,
        "wss" => &node.wss,
        _ => &node.mqtt,
    }
}

/// What `command` prints when it reads `text`.
async fn fed(mut command: Command, text: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    let mut input = child.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).await.expect("the driver reads");
    drop(input);
    let output = child.wait_with_output().await.expect("ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
