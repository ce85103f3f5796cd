//! `rookery sub` and `rookery pub`, and every way in: TCP, TLS, WebSocket, WebSocket over TLS, 5.0 and 3.1.1.

use rookery::client::{Client, Scheme};
use rookery::mqtt::codec::{QoS, Version};
use tokio::process::Command;

use crate::harness::{PROGRAM, Talker, credentials, next_message, output, three};

#[tokio::test]
async fn t13_every_door_of_every_node_reaches_every_other() {
    let cluster = three().await;
    let info = cluster.info();
    let [(sub, sub_token), (publ, publ_token)] = &credentials(&cluster)[..] else {
        panic!("dev issues two credentials")
    };
    let doors = [Scheme::Mqtt, Scheme::Mqtts, Scheme::Ws, Scheme::Wss];
    for (number, door) in doors.into_iter().enumerate() {
        let (at, other) = (1 + number as u64 % 3, 1 + (number as u64 + 1) % 3);
        let mut options = info.options(at, door, sub, sub_token);
        options.version = if number % 2 == 0 { Version::V5 } else { Version::V311 };
        let (mut subscriber, _) = Client::connect(&options).await.unwrap_or_else(|e| panic!("{door:?} at {at}: {e}"));
        subscriber.subscribe(&[("doors/#", QoS::AtLeastOnce)]).await.expect("subscribes");
        for (to, from) in doors.into_iter().enumerate() {
            let options = info.options(other, from, publ, publ_token);
            let (mut publisher, _) =
                Client::connect(&options).await.unwrap_or_else(|e| panic!("{from:?} at {other}: {e}"));
            let topic = format!("doors/{to}");
            publisher.publish(&topic, "x", QoS::AtLeastOnce, false).await.expect("is acknowledged");
            assert_eq!(next_message(&mut subscriber).await, (topic, "x".to_owned()));
            publisher.disconnect().await.expect("ends");
        }
    }
}

#[tokio::test]
async fn t13_the_lines_that_dev_prints_work_when_pasted() {
    let cluster = three().await;
    let info = cluster.info();
    let [(sub, sub_token), (publ, publ_token)] = &credentials(&cluster)[..] else {
        panic!("dev issues two credentials")
    };
    let own = |verb: &str, node: u64, id: &str, token: &str| {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).arg("--url").arg(format!("mqtts://{}", info.node(node).mqtts));
        command.arg("--ca").arg(&info.ca).args(["--client-id", id, "--token", token, "--qos", "1"]);
        command
    };
    let mut subscriber = Talker::start_reading_errors(own("sub", 1, sub, sub_token).args(["--count", "1", "hello/#"]));
    subscriber.line("subscribed").await;
    output(own("pub", 3, publ, publ_token).args(["hello/world", "hello from Rookery"])).await;
    assert_eq!(subscriber.rest().await, "hello/world hello from Rookery\n");
}
