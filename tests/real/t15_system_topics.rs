//! What a broker's owner sets and sees: its figures below `$SYS`, and limits that are in force at once.

use std::collections::BTreeMap;

use rookery::client::{Client, Scheme};
use rookery::mqtt::codec::{QoS, ReasonCode};

use crate::harness::{Running, connect, next_message, refusal, three};

/// Tells the command line to do something to `dev`'s broker; what it says.
async fn broker(cluster: &Running, verb: &str, arguments: &[&str]) -> String {
    let (name, namespace) = (&cluster.info().broker, &cluster.info().namespace);
    let all = [&["broker", verb, name, "--namespace", namespace, "--output", "json"], arguments].concat();
    cluster.cli(2, &all).await.expect("is done")
}

async fn issue(cluster: &Running, arguments: &[&str]) -> Vec<(String, String)> {
    let said = broker(cluster, "issue", arguments).await;
    let tokens: BTreeMap<String, String> = serde_json::from_str(&said).expect("tokens by client id");
    tokens.into_iter().collect()
}

#[tokio::test]
async fn t15_figures_are_for_those_whose_token_names_them() {
    let cluster = three().await;
    let named = issue(&cluster, &["--client-id", "watcher", "--subscribe", "$SYS/#"]).await;
    let mut watcher = connect(&cluster, 1, &named[0]).await;
    watcher.subscribe(&[("$SYS/#", QoS::AtMostOnce)]).await.expect("subscribes");
    let mut figures = BTreeMap::new();
    while figures.len() < 15 {
        let (topic, value) = next_message(&mut watcher).await;
        figures.insert(topic, value);
    }
    let figure = |name: &str| figures[&format!("$SYS/{name}")].as_str();
    assert_eq!(figure("broker/version"), concat!("rookery version ", env!("CARGO_PKG_VERSION")));
    assert_eq!((figure("broker/clients/connected"), figure("broker/subscriptions/count")), ("1", "1"));
    assert_eq!((figure("cluster/node"), figure("cluster/nodes/total")), ("1", "3"));

    let others = issue(&cluster, &["--client-id", "other"]).await;
    let mut other = connect(&cluster, 1, &others[0]).await;
    assert!(other.subscribe(&[("$SYS/#", QoS::AtMostOnce)]).await.is_err(), "`#` does not cover them");
}

#[tokio::test]
async fn t15_limits_are_in_force_when_they_are_set() {
    let cluster = three().await;
    let all = issue(&cluster, &["--number", "40"]).await;
    let mut members = Vec::new();
    for who in &all[..2] {
        let mut member = connect(&cluster, 1, who).await;
        let filters = [("$share/g/jobs/#", QoS::AtLeastOnce), ("end", QoS::AtLeastOnce)];
        member.subscribe(&filters).await.expect("subscribes");
        members.push(member);
    }
    let mut publisher = connect(&cluster, 1, &all[2]).await;
    for (strategy, expected) in [("round_robin", [10, 10]), ("hash_topic", [0, 20])] {
        let said = broker(&cluster, "update", &["--set", &format!("shared_strategy={strategy}")]).await;
        assert!(said.contains(strategy), "{said}");
        for _ in 0..20 {
            publisher.publish("jobs/one", "x", QoS::AtLeastOnce, false).await.expect("is acknowledged");
        }
        publisher.publish("end", "", QoS::AtLeastOnce, false).await.expect("is acknowledged");
        let mut counts = Vec::new();
        for member in &mut members {
            let mut count = 0;
            while next_message(member).await.0 != "end" {
                count += 1;
            }
            counts.push(count);
        }
        counts.sort_unstable();
        assert_eq!(counts, expected, "{strategy}");
    }
    // Of more clients than there are shards, two are of the same.
    broker(&cluster, "update", &["--set", "sessions=1", "--set", "retained_messages=1"]).await;
    let mut refused = Vec::new();
    for (client, token) in &all[3..] {
        let mut options = cluster.info().options(1, Scheme::Mqtt, client, token);
        (options.clean_start, options.session_expiry) = (true, Some(600));
        let connected = Client::connect(&options).await;
        if connected.is_err() {
            refused.push(refusal(connected));
        }
    }
    assert!(refused.contains(&ReasonCode::QUOTA_EXCEEDED), "{refused:?}");
    publisher.publish("kept/1", "x", QoS::AtLeastOnce, true).await.expect("is acknowledged");
    assert!(publisher.publish("kept/2", "x", QoS::AtLeastOnce, true).await.is_err());
}
