//! Everything is stopped and started again, gracefully and by killing all at once: all is as it was.

use crate::harness::{connect, credentials, refusal, three};

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

/// What an administrator sees that must stay.
async fn state(cluster: &rookery_jepsen::Cluster) -> [String; 3] {
    let list = async |arguments: &[&str]| cluster.cli(1, arguments).await.expect("lists");
    [
        list(&["namespace", "list", "--output", "json"]).await,
        list(&["broker", "list", "--namespace", "kept", "--output", "json"]).await,
        list(&["broker", "public-keys", "hello", "--namespace", "demo", "--output", "json"]).await,
    ]
}
