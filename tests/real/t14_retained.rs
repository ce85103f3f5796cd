//! Retained messages: published at one node, there for who subscribes at another, and after kills.

use rookery::client::{Client, Event};
use rookery::mqtt::codec::QoS;
use rookery_jepsen::cluster::DEADLINE;
use tokio::time::timeout;

use crate::harness::{Running, connect, credentials, three};

/// What a new subscriber of `r/#` at node `id` gets, up to the message on the last topic.
async fn retained(cluster: &Running, id: u64, client: &(String, String)) -> Vec<(String, String)> {
    let mut subscriber: Client = connect(cluster, id, client).await;
    subscriber.subscribe(&[("r/#", QoS::AtLeastOnce)]).await.expect("subscribes");
    let mut got = Vec::new();
    let all = async {
        loop {
            if let Event::Message(message) = subscriber.next().await.expect("the connection holds") {
                assert!(message.retain, "it comes from what is kept");
                let last = message.topic == "r/z";
                got.push((message.topic.clone(), String::from_utf8_lossy(&message.payload).into_owned()));
                if last {
                    return;
                }
            }
        }
    };
    timeout(DEADLINE, all).await.expect("all come");
    subscriber.disconnect().await.expect("ends");
    got
}

fn expected(topics: &[(usize, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<_> = topics.iter().map(|(n, text)| (format!("r/{n:04}"), (*text).to_owned())).collect();
    all.push(("r/z".into(), "last".into()));
    all
}

#[tokio::test]
async fn t14_a_retained_message_is_at_every_node_and_outlives_kills() {
    let mut cluster = three().await;
    let [subscriber, publisher] = credentials(&cluster).try_into().expect("dev issues two credentials");
    let mut at_1 = connect(&cluster, 1, &publisher).await;
    for n in 0..1000 {
        at_1.publish(&format!("r/{n:04}"), "first", QoS::AtMostOnce, true).await.expect("is sent");
    }
    at_1.publish("r/z", "last", QoS::AtLeastOnce, true).await.expect("is acknowledged");
    let mut kept: Vec<(usize, &str)> = (0..1000).map(|n| (n, "first")).collect();
    assert_eq!(retained(&cluster, 3, &subscriber).await, expected(&kept), "right after the acknowledgement");

    cluster.kill(3).await.expect("dies");
    // A publish that waits for node 3 ends with it, and is repeated.
    let mut at_2 = connect(&cluster, 2, &publisher).await;
    for (n, second) in kept.iter_mut().take(10).enumerate() {
        for (topic, text) in [(n, "second"), (100 + n, "")] {
            while at_2.publish(&format!("r/{topic:04}"), text, QoS::AtLeastOnce, true).await.is_err() {
                at_2 = connect(&cluster, 2, &publisher).await;
            }
        }
        second.1 = "second";
    }
    kept.retain(|(n, _)| !(100..110).contains(n));
    cluster.restart(3).await.expect("starts again");
    assert_eq!(retained(&cluster, 3, &subscriber).await, expected(&kept), "it copied what it missed");

    for node in cluster.nodes() {
        cluster.kill(node).await.expect("dies");
    }
    cluster.stop().await.expect("stops");
    cluster.start_again().await.expect("starts again");
    assert_eq!(retained(&cluster, 2, &subscriber).await, expected(&kept), "all were killed at once");
}

#[tokio::test]
async fn t14_a_subscriber_gets_what_was_acknowledged_or_newer_and_never_older_after_newer() {
    let cluster = three().await;
    let [subscriber, publisher] = credentials(&cluster).try_into().expect("dev issues two credentials");
    let acknowledged = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut from = connect(&cluster, 1, &publisher).await;
    let counted = acknowledged.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for n in 1..=600_u64 {
            from.publish("r/n", n.to_string(), QoS::AtLeastOnce, true).await.expect("is acknowledged");
            counted.store(n, std::sync::atomic::Ordering::Release);
        }
    });
    let done = || acknowledged.load(std::sync::atomic::Ordering::Acquire) == 600;
    let mut rounds = 0;
    while !done() {
        let mut at = connect(&cluster, 1 + rounds % 3, &subscriber).await;
        let least = acknowledged.load(std::sync::atomic::Ordering::Acquire);
        at.subscribe(&[("r/+", QoS::AtLeastOnce)]).await.expect("subscribes");
        let (mut last, mut got) = (0, 0);
        while got < 4 && !done() {
            let next = timeout(std::time::Duration::from_millis(100), at.next()).await;
            let Ok(event) = next else { continue };
            let Event::Message(message) = event.expect("the connection holds") else { continue };
            let n: u64 = String::from_utf8_lossy(&message.payload).parse().expect("a number");
            assert!(n >= last, "{n} came after {last}");
            if message.retain {
                assert!(n >= least, "{n} is kept, but {least} was acknowledged before");
            }
            (last, got) = (n, got + 1);
        }
        at.disconnect().await.expect("ends");
        rounds += 1;
    }
    tasks.join_next().await.expect("it was started").expect("publishes");
    assert!(rounds > 1);
}
