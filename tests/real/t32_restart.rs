//! Everything is stopped and started again, gracefully and by killing all at once: all is as it was.

use std::fs;
use std::net::TcpListener;

use rookery::mqtt::codec::QoS;
use rookery_jepsen::cluster::until;

use crate::harness::{connect, credentials, next_message, refusal, three};

#[tokio::test]
async fn t32_after_a_restart_of_everything_all_is_as_it_was() {
    let mut cluster = three().await;
    let [client, (other, token)] = credentials(&cluster).try_into().expect("dev issues two credentials");
    cluster.cli(2, &["namespace", "create", "kept"]).await.expect("creates");
    cluster.cli(3, &["broker", "create", "mine", "--namespace", "kept"]).await.expect("creates");
    let before = state(&cluster).await;
    let mut held = connect(&cluster, 1, &client).await;

    let status = cluster.stop().await.expect("stops");
    assert!(status.success(), "{status}");
    assert!(held.next().await.is_err(), "a graceful stop ends connections");
    cluster.start_again().await.expect("starts again");
    assert_eq!(state(&cluster).await, before);
    // Its token is as good as before.
    connect(&cluster, 2, &client).await;

    cluster.cli(1, &["broker", "delete", "mine", "--namespace", "kept"]).await.expect("deletes");
    let before = state(&cluster).await;
    for node in cluster.nodes() {
        cluster.kill(node).await.expect("dies");
    }
    cluster.stop().await.expect("stops");
    cluster.start_again().await.expect("starts again");
    assert_eq!(state(&cluster).await, before);
    connect(&cluster, 3, &client).await;
    let forged = token.replace('.', "x.");
    refusal(cluster.connect(3, &other, &forged).await);
}

/// Its machine got another address, say. The others hear of the new one from the node itself.
#[tokio::test]
async fn t32_a_node_may_come_back_at_another_address() {
    let mut cluster = three().await;
    let [client, other] = credentials(&cluster).try_into().expect("dev issues two credentials");
    cluster.kill(3).await.expect("dies");
    let settings = cluster.folder().join("node-3.toml");
    let text = fs::read_to_string(&settings).expect("is there");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let section = text.split("[cluster]\n").nth(1).expect("a section");
    let old = section.lines().next().expect("a line");
    fs::write(&settings, text.replace(old, &format!("listen = \"{free}\""))).expect("writes");
    cluster.restart(3).await.expect("comes back");
    // Without node 2 nothing is decided, and nothing acknowledged, but with node 3.
    cluster.kill(2).await.expect("dies");
    let mut subscriber = connect(&cluster, 3, &client).await;
    subscriber.subscribe(&[("moved", QoS::AtLeastOnce)]).await.expect("subscribes");
    let mut publisher = connect(&cluster, 1, &other).await;
    publisher.publish("moved", "here", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(next_message(&mut subscriber).await, ("moved".into(), "here".into()));
    until("a write", async || cluster.cli(1, &["namespace", "create", "after"]).await.is_ok()).await.expect("is done");
}

/// What an administrator sees that must stay.
async fn state(cluster: &rookery_jepsen::Cluster) -> [String; 3] {
    let list = async |arguments: &[&str]| cluster.cli(1, arguments).await.expect("lists");
    [
        list(&["namespace", "list", "--output", "json"]).await,
        list(&["broker", "list", "--namespace", "kept", "--output", "json"]).await,
        list(&["broker", "public-keys", "hello", "--namespace", "demo", "--output", "json"]).await,
    ]
}
