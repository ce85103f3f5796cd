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
