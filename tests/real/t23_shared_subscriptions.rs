//! Shared subscriptions (MQTT 5 §4.8.2): one receiver in the whole cluster, and another one when the first leaves without
//! an acknowledgement.

use std::collections::BTreeMap;

use rookery::client::{Client, Event};
use rookery::mqtt::codec::QoS;
use rookery_jepsen::cluster::DEADLINE;

use crate::harness::{Running, connect, next_message, three};

const MESSAGES: usize = 300;

/// That many clients, on nodes 1, 2, 3, 1, ...
async fn clients(cluster: &Running, number: u32) -> Vec<Client> {
    let credentials = cluster.issue(number).await.expect("issues credentials");
    let mut clients = Vec::new();
    for (at, credential) in credentials.into_iter().enumerate() {
        clients.push(connect(cluster, 1 + at as u64 % 3, &credential).await);
    }
    clients
}

/// What `member` gets until it heard `ends` times that no more comes.
async fn collect(mut member: Client, ends: usize) -> Vec<String> {
    let (mut got, mut ended) = (Vec::new(), 0);
    while ended < ends {
        let (topic, payload) = next_message(&mut member).await;
        if topic == "end" {
            ended += 1;
        } else {
            got.push(payload);
        }
    }
    got
}

async fn publish_all(publisher: &mut Client, name: &str, number: usize) {
    for n in 0..number {
        let job = format!("{name}-{n}");
        publisher.publish("jobs/x", job, QoS::AtLeastOnce, false).await.expect("is acknowledged");
    }
}

#[tokio::test]
async fn t23_each_message_reaches_one_member_on_whichever_node() {
    let cluster = three().await;
    let mut all = clients(&cluster, 6).await;
    let publishers = all.split_off(3);
    for member in &mut all {
        member
            .subscribe(&[("$share/g/jobs/#", QoS::AtLeastOnce), ("end", QoS::AtLeastOnce)])
            .await
            .expect("subscribes");
    }
    let mut members = tokio::task::JoinSet::new();
    for member in all {
        members.spawn(collect(member, 3));
    }
    for (at, mut publisher) in publishers.into_iter().enumerate() {
        publish_all(&mut publisher, &format!("from-{at}"), MESSAGES / 3).await;
        publisher.publish("end", "", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(got) = members.join_next().await {
        let got = got.expect("collects");
        assert!(!got.is_empty(), "a publisher was nearest to each of them");
        got.into_iter().for_each(|job| *counts.entry(job).or_default() += 1);
    }
    assert_eq!(counts.len(), MESSAGES);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn t23_what_a_member_did_not_acknowledge_goes_to_members_on_other_nodes() {
    let cluster = three().await;
    let mut all = clients(&cluster, 4).await;
    let mut publisher = all.pop().expect("four");
    let mut members = all.into_iter();
    // It is on the publisher's node, so it gets everything; and it reads, so acknowledges, nothing.
    let mut silent = members.next().expect("three");
    silent.subscribe(&[("$share/g/jobs/#", QoS::AtLeastOnce)]).await.expect("subscribes");
    publish_all(&mut publisher, "job", MESSAGES).await;
    let mut rest = Vec::new();
    for mut member in members {
        member.subscribe(&[("$share/g/jobs/#", QoS::AtLeastOnce)]).await.expect("subscribes");
        rest.push(member);
    }
    drop(silent);
    let (mut got, mut readers) = (BTreeMap::<String, usize>::new(), tokio::task::JoinSet::new());
    let (found, mut found_by) = tokio::sync::mpsc::channel(MESSAGES);
    for mut member in rest {
        let found = found.clone();
        readers.spawn(async move {
            while let Ok(Event::Message(message)) = member.next().await {
                let _ = found.send(String::from_utf8_lossy(&message.payload).into_owned()).await;
            }
        });
    }
    let all = async {
        while got.len() < MESSAGES {
            *got.entry(found_by.recv().await.expect("the readers go on")).or_default() += 1;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("all of them arrive");
    assert!(got.values().all(|count| *count == 1), "{got:?}");
    readers.shutdown().await;
}
