//! Sessions that outlive their connections, on whichever node their client comes back; and wills, whichever node dies.

use rookery::client::{Client, Options, Scheme};
use rookery::mqtt::codec::{Connack, MessageProperties, QoS, ReasonCode, Will};
use rookery_jepsen::Cluster;
use rookery_jepsen::cluster::until;

use crate::harness::{connect, credentials, ended, next_message, three};

/// A connection to node `id` that asks for a session; tried again while the node has none to give.
async fn session(
    cluster: &Cluster,
    id: u64,
    who: &(String, String),
    change: impl Fn(&mut Options),
) -> (Client, Connack) {
    let mut options = cluster.info().options(id, Scheme::Mqtt, &who.0, &who.1);
    options.clean_start = false;
    options.session_expiry = Some(600);
    change(&mut options);
    let mut connected = None;
    let admitted = async || {
        connected = Client::connect(&options).await.ok();
        connected.is_some()
    };
    until(&format!("node {id} admits {}", who.0), admitted).await.unwrap_or_else(|error| panic!("{error}"));
    connected.expect("it is connected")
}

/// All acknowledgements of `client` are with the server: those of QoS 2 take two round trips.
async fn settled(client: &mut Client) {
    for _ in 0..2 {
        client.ping().await.expect("the connection holds");
    }
}

#[tokio::test]
async fn t22_a_session_goes_on_at_another_node_with_what_it_missed() {
    let cluster = three().await;
    let [who, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let (mut held, connack) = session(&cluster, 1, who, |_| {}).await;
    assert!(!connack.session_present);
    held.subscribe(&[("news/+", QoS::ExactlyOnce)]).await.expect("subscribes");
    let mut publisher = connect(&cluster, 2, other).await;
    let mut count = 0;
    // Away at each of the nodes in turn, and back at the next, at the one after it, and at the same.
    for node in [2, 3, 3, 1, 2] {
        settled(&mut held).await;
        drop(held);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            count += 1;
            publisher.publish("news/a", format!("{count}"), qos, false).await.expect("is acknowledged");
        }
        let (next, connack) = session(&cluster, node, who, |_| {}).await;
        assert!(connack.session_present, "at node {node}");
        held = next;
        for missed in [count - 1, count] {
            assert_eq!(next_message(&mut held).await, ("news/a".into(), missed.to_string()), "at node {node}");
        }
    }
    // A take-over moves it too, and a clean start ends it.
    settled(&mut held).await;
    let (mut taken, connack) = session(&cluster, 1, who, |_| {}).await;
    assert!(connack.session_present);
    publisher.publish("news/b", "live", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(next_message(&mut taken).await, ("news/b".into(), "live".into()));
    let (_clean, connack) = session(&cluster, 3, who, |options| options.clean_start = true).await;
    assert!(!connack.session_present);
}

#[tokio::test]
async fn t22_the_subscriptions_of_a_session_outlive_its_node() {
    let mut cluster = three().await;
    let [who, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let (mut held, _) = session(&cluster, 3, who, |_| {}).await;
    held.subscribe(&[("kept", QoS::AtLeastOnce), ("dropped", QoS::AtLeastOnce)]).await.expect("subscribes");
    held.unsubscribe(&["dropped"]).await.expect("unsubscribes");
    cluster.kill(3).await.expect("is killed");
    let (mut held, connack) = session(&cluster, 1, who, |_| {}).await;
    assert!(connack.session_present);
    let mut publisher = connect(&cluster, 2, other).await;
    for topic in ["dropped", "kept"] {
        publisher.publish(topic, "still", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    }
    assert_eq!(next_message(&mut held).await, ("kept".into(), "still".into()));
}

/// A node that hangs still holds its connections, and what it kept; it may not go on with either once others do.
#[tokio::test]
async fn t22_a_session_whose_node_hangs_goes_on_elsewhere_and_only_there() {
    let cluster = three().await;
    let [who, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let (mut held, _) = session(&cluster, 3, who, |_| {}).await;
    held.subscribe(&[("kept", QoS::AtLeastOnce)]).await.expect("subscribes");
    cluster.pause(3);
    let (mut moved, connack) = session(&cluster, 1, who, |_| {}).await;
    assert!(connack.session_present);
    let mut publisher = connect(&cluster, 2, other).await;
    publisher.publish("kept", "meanwhile", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(next_message(&mut moved).await, ("kept".into(), "meanwhile".into()));
    cluster.resume(3);
    ended(&mut held).await;
    settled(&mut moved).await;
    drop(moved);
    publisher.publish("kept", "later", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    let (mut back, connack) = session(&cluster, 3, who, |_| {}).await;
    assert!(connack.session_present);
    assert_eq!(next_message(&mut back).await, ("kept".into(), "later".into()));
}

fn will(topic: &str) -> Option<Will> {
    Some(Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: topic.into(),
        payload: "gone".into(),
        delay: None,
        properties: MessageProperties::default(),
    })
}

#[tokio::test]
async fn t22_a_will_is_published_once_when_its_client_or_its_node_dies() {
    let mut cluster = three().await;
    let [who, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let mut watcher = connect(&cluster, 1, other).await;
    watcher.subscribe(&[("will/#", QoS::AtLeastOnce)]).await.expect("subscribes");
    let once = |options: &mut Options, topic: &str| {
        options.session_expiry = None;
        options.clean_start = true;
        options.will = will(topic);
    };
    let (polite, _) = session(&cluster, 2, who, |options| once(options, "will/polite")).await;
    polite.disconnect().await.expect("says goodbye");
    let (lost, _) = session(&cluster, 2, who, |options| once(options, "will/lost")).await;
    drop(lost);
    assert_eq!(next_message(&mut watcher).await, ("will/lost".into(), "gone".into()));
    let (_held, _) = session(&cluster, 3, who, |options| once(options, "will/node")).await;
    cluster.kill(3).await.expect("is killed");
    assert_eq!(next_message(&mut watcher).await, ("will/node".into(), "gone".into()));
    // Nothing comes twice: what is published now comes next.
    let mut publisher = connect(&cluster, 2, who).await;
    let reason = publisher.publish("will/end", "end", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(reason, ReasonCode::SUCCESS);
    assert_eq!(next_message(&mut watcher).await, ("will/end".into(), "end".into()));
}
