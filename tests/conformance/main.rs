//! Whether Rookery obeys MQTT 5.0 and MQTT 3.1.1, statement by statement. The cases are data (`cases/README.md`); they are
//! played over raw sockets by a client with a codec of its own, against real processes: all of them on one node, over TCP
//! and WebSocket, in packets whole, cut at every byte and coalesced; those with several clients on three nodes as well,
//! each client on another.
//!
//! `CONFORMANCE=part-of-a-name` plays only those cases; `CONFORMANCE_BLESS=1` writes docs/reference/conformance.md.

mod clusters;
mod decode;
mod encode;
mod peer;
mod play;
mod props;
mod script;
mod socket;
mod statements;
mod wire;

use std::path::Path;

use futures_util::StreamExt;

use clusters::{Stand, VARIANTS, Variant};
use script::Case;
use statements::{cases, disagreements, page, reasons, statements};

/// Cases that are played at the same time.
const AT_ONCE: usize = 24;

#[test]
fn every_statement_has_a_test_or_a_reason() {
    let wrong = disagreements(&statements(), &cases(), &reasons());
    assert!(wrong.is_empty(), "statements and tests do not agree:\n{}", wrong.join("\n"));
}

#[test]
fn the_check_finds_what_is_missing() {
    let mut all = cases();
    let (known, reasons) = (statements(), reasons());
    let only = |case: &Case| case.ids == ["v5/MQTT-3.12.4-1", "v3/MQTT-3.12.4-1"];
    let at = all.iter().position(only).expect("there is a case about PINGREQ alone");
    all[at].ids = vec!["v5/MQTT-9.9.9-9".into()];
    let wrong = disagreements(&known, &all, &reasons).join("\n");
    assert!(wrong.contains("v5/MQTT-9.9.9-9, which is no statement"), "{wrong}");
    assert!(wrong.contains("v5/MQTT-3.12.4-1 has neither"), "{wrong}");
}

#[test]
fn the_page_is_what_the_cases_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/conformance.md");
    let wanted = page(&statements(), &cases(), &reasons());
    if std::env::var_os("CONFORMANCE_BLESS").is_some() {
        std::fs::write(&path, &wanted).expect("the page is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/conformance.md is out of date: CONFORMANCE_BLESS=1 cargo test --test conformance page"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance() {
    let wanted = std::env::var("CONFORMANCE").unwrap_or_default();
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&wanted)).collect();
    let mut failures = Vec::new();
    let mut passed_in_vain: Vec<&str> =
        cases.iter().filter(|case| case.pending.is_some()).map(|case| case.name.as_str()).collect();
    let mut plays = 0;
    for nodes in [1, 3] {
        let several = |case: &&Case| letters(case) > 1;
        let mine: Vec<&Case> = cases.iter().filter(|case| nodes == 1 || several(case)).collect();
        if mine.is_empty() {
            continue;
        }
        let stand = Stand::start(Path::new(env!("CARGO_BIN_EXE_rookery")), &folder(nodes), nodes).await;
        let chains: Vec<Chain<'_>> = mine.into_iter().flat_map(|case| chains(&stand, case)).collect();
        let outcomes: Vec<(&Case, usize, Vec<String>)> = futures_util::stream::iter(chains)
            .map(|chain| run(&stand, chain))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (case, played, why) in outcomes {
            plays += played;
            match &case.pending {
                None => failures.extend(why),
                Some(feature) if !why.is_empty() => {
                    passed_in_vain.retain(|name| *name != case.name);
                    println!("pending {feature}: {}", why[0]);
                }
                Some(_) => {}
            }
        }
        println!("{nodes} node(s): {plays} plays so far");
    }
    failures.sort();
    let vain: Vec<String> =
        passed_in_vain.iter().map(|name| format!("{name} passes: its mark `pending` must go")).collect();
    let all = [failures, vain].concat();
    assert!(all.is_empty(), "{} of {plays} plays:\n{}", all.len(), all.join("\n"));
}

/// Where another server differs, the case may be wrong. `CONFORMANCE_OTHER=host:port,host:port` names its TCP and WebSocket
/// ports.
#[tokio::test]
#[ignore = "looks at another server, for whoever writes cases"]
async fn other_server() {
    let at = std::env::var("CONFORMANCE_OTHER").expect("CONFORMANCE_OTHER=host:port,host:port");
    let (tcp, ws) = at.split_once(',').expect("two addresses");
    let stand = Stand::other(tcp.into(), ws.into());
    let wanted = std::env::var("CONFORMANCE").unwrap_or_default();
    let mut cases: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&wanted)).collect();
    // So that each is played once, and not for long.
    cases.iter_mut().for_each(|case| case.pending = Some("it is another server".into()));
    let chains = cases.iter().flat_map(|case| chains(&stand, case));
    let outcomes = futures_util::stream::iter(chains.collect::<Vec<_>>()).map(|chain| run(&stand, chain));
    let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
    outcomes.iter().flat_map(|(_, _, why)| why).for_each(|why| println!("{why}"));
}

fn letters(case: &Case) -> usize {
    let mut all: Vec<&str> =
        case.connections().iter().map(|conn| conn.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
    all.dedup();
    // A second connection of one client may be on another node as well.
    all.len().max(case.connections().len())
}

/// Plays of one case that must follow one another.
struct Chain<'a> {
    case: &'a Case,
    plays: Vec<(u8, Variant)>,
}

/// How a case is played: each version in each way that it is meant for. They may run at the same time, unless they share
/// a client ID, or the first failure tells enough.
fn chains<'a>(stand: &Stand, case: &'a Case) -> Vec<Chain<'a>> {
    let ways = || VARIANTS.iter().filter(|how| is_for(stand, case, how)).copied();
    let plays: Vec<(u8, Variant)> =
        case.versions().into_iter().flat_map(|version| ways().map(move |how| (version, how))).collect();
    if case.pending.is_some() || !case.named.is_empty() {
        return vec![Chain { case, plays }];
    }
    plays.into_iter().map(|play| Chain { case, plays: vec![play] }).collect()
}

/// How many plays there were, and what failed. A case that is pending ends with its first failure.
async fn run<'a>(stand: &Stand, chain: Chain<'a>) -> (&'a Case, usize, Vec<String>) {
    let (case, mut plays, mut failed) = (chain.case, 0, Vec::new());
    for (version, how) in chain.plays {
        let rows = match &case.table {
            Some(table) => wire::rows(case, table, version),
            None => vec![case.clone()],
        };
        for row in &rows {
            plays += 1;
            let Err(why) = stand.play(row, version, how).await else { continue };
            let nodes = stand.size();
            failed.push(format!("{} ({}) [mqtt {version}, {}, {nodes} node(s)]: {why}", row.name, case.at, how.name));
            if case.pending.is_some() {
                return (case, plays, failed);
            }
        }
    }
    (case, plays, failed)
}

fn is_for(stand: &Stand, case: &Case, how: &Variant) -> bool {
    let carrier = match case.only.as_deref() {
        Some("ws") => how.carrier == socket::Carrier::WebSocket,
        Some("tcp") => how.carrier == socket::Carrier::Tcp,
        _ => true,
    };
    // Between nodes the way into the first of them makes no difference.
    carrier && (stand.size() == 1 || how.pieces == socket::Pieces::Whole)
}

fn folder(nodes: u64) -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{}-{nodes}", std::process::id()))
}
