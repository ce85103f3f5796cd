//! A node is removed: its clients are served elsewhere, it says so and ends, and it does not come back. And a copy of a
//! node's data does not take turns with the original for ever.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use rookery::mqtt::codec::ReasonCode;
use rookery_jepsen::Cluster;
use rookery_jepsen::cluster::until;
use tokio::process::Command;

use crate::harness::{PROGRAM, connect, credentials, ended, run, three};

/// The exit code of a node that has no place in its cluster.
const GONE: i32 = 5;

#[tokio::test]
async fn t33_a_removed_node_is_out_and_its_clients_are_served_elsewhere() {
    let mut cluster = three().await;
    let [client, _] = credentials(&cluster).try_into().expect("dev issues two credentials");
    let mut held = connect(&cluster, 3, &client).await;
    remove(&cluster, "node-3").await;
    assert_eq!(ended(&mut held).await, ReasonCode::USE_ANOTHER_SERVER);
    connect(&cluster, 1, &client).await;
    said(&cluster, 3, "node 3 was removed from its cluster").await;

    let status = cluster.cli(2, &["cluster", "status", "--output", "json"]).await.expect("answers");
    let status: serde_json::Value = serde_json::from_str(&status).expect("json");
    let groups = status["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 17);
    for group in groups {
        let members = [&group["voters"], &group["learners"]].map(|m| m.as_array().expect("a list").clone()).concat();
        assert!(!members.contains(&3.into()), "{group}");
    }
    let again = serve(&cluster.folder().join("node-3.toml")).await;
    let stderr = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(GONE), "{stderr}");
    assert!(stderr.contains("node 3 was removed from its cluster"), "{stderr}");
    refused(&cluster, "node-3", "there is no node").await;

    // Two are left, which need each other; one goes all the same, as the other has everything.
    remove(&cluster, "2").await;
    refused(&cluster, "node-1", "is the last one for").await;
    connect(&cluster, 1, &client).await;
    cluster.stop().await.expect("stops");
    cluster.start_again().await.expect("comes up without the two");
    assert_eq!(cluster.nodes(), [1]);
    connect(&cluster, 1, &client).await;
}

#[tokio::test]
async fn t33_a_copy_of_a_node_does_not_take_turns_with_it() {
    let mut cluster = three().await;
    cluster.kill(3).await.expect("dies");
    let (data, copy) = (cluster.folder().join("node-3"), cluster.folder().join("copy"));
    output_of("cp", &["-r", data.to_str().expect("text"), copy.to_str().expect("text")]).await;
    let free = || TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let settings = format!(
        "[node]\nname = \"node-3\"\ndata_dir = {:?}\n[cluster]\nlisten = \"{}\"\n[listeners]\nmqtts = \"off\"\n\
         wss = \"off\"\n[api]\ngrpc = \"{}\"\nhttp = \"off\"\n",
        copy.display().to_string(),
        free(),
        free()
    );
    let file = cluster.folder().join("copy.toml");
    fs::write(&file, settings).expect("writes");
    // Whichever registers first is ended by the other, once.
    let original = cluster.folder().join("node-3.toml");
    let (mut one, mut two) = (start(&original), start(&file));
    let ended = async {
        tokio::select! {
            ended = one.wait() => ended,
            ended = two.wait() => ended,
        }
    };
    let status =
        tokio::time::timeout(rookery_jepsen::cluster::DEADLINE, ended).await.expect("one ends").expect("waits");
    assert_eq!(status.code(), Some(GONE));
    let alive = [one.id().is_some(), two.id().is_some()];
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 1, "the other goes on");
}

async fn remove(cluster: &Cluster, node: &str) {
    // A call waits for a while only; the removal goes on meanwhile.
    let removed = async || match cluster.cli(1, &["cluster", "remove", node]).await {
        Ok(_) => true,
        Err(error) if error.to_string().contains("there is no node") => true,
        Err(error) => {
            assert!(error.to_string().contains("goes on by itself"), "{error}");
            false
        }
    };
    until(&format!("{node} is removed"), removed).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn refused(cluster: &Cluster, node: &str, why: &str) {
    let error = cluster.cli(1, &["cluster", "remove", node]).await.expect_err("is refused").to_string();
    assert!(error.contains(why), "{error}");
}

async fn said(cluster: &Cluster, node: u64, what: &str) {
    let log = cluster.folder().join(format!("node-{node}.log"));
    let says = async || fs::read_to_string(&log).is_ok_and(|log| log.contains(what));
    until(&format!("node {node} says {what:?}"), says).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn serve(settings: &Path) -> Output {
    run(Command::new(PROGRAM).args(["serve", "--config"]).arg(settings)).await
}

fn start(settings: &Path) -> tokio::process::Child {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--config"]).arg(settings).kill_on_drop(true);
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.spawn().expect("starts")
}

async fn output_of(program: &str, arguments: &[&str]) -> String {
    crate::harness::output(Command::new(program).args(arguments)).await
}
