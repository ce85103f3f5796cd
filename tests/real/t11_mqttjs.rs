//! MQTT.js, with the example programs of its users as they are but for the address.

use tokio::process::Command;

use crate::harness::{Talker, connect, credentials, next_message, output, script, split, three, tool};

fn node(program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script(program)).env("NODE_PATH", tool("node/node_modules"));
    command
}

#[tokio::test]
async fn t11_the_example_for_javascript_runs() {
    let cluster = three().await;
    let info = cluster.info();
    let (_, token) = &credentials(&cluster)[0];
    let (host, port) = split(&info.node(2).mqtts);
    let said = output(
        node("connect.js")
            .env("NODE_EXTRA_CA_CERTS", &info.ca)
            .env("BROKER_URI", format!("mqtts://{host}"))
            .env("BROKER_PORT", port)
            .env("BROKER_TOKEN", token)
            .env("BROKER_TOPIC", "hello/world"),
    )
    .await;
    assert!(said.contains("received a message: My first MQTT message"), "{said}");
}

#[tokio::test]
async fn t11_mqttjs_with_a_client_id_reaches_another_node() {
    let cluster = three().await;
    let info = cluster.info();
    let [(id, token), other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let mut subscriber = connect(&cluster, 3, other).await;
    subscriber.subscribe(&[("example-topic", rookery::mqtt::codec::QoS::AtMostOnce)]).await.expect("subscribes");
    let (host, port) = split(&info.node(1).mqtts);
    let mut first = Talker::start(
        node("first.js")
            .env("NODE_EXTRA_CA_CERTS", &info.ca)
            .env("BROKER_URI", format!("mqtts://{host}"))
            .env("BROKER_PORT", port)
            .env("CLIENT_ID", id)
            .env("BROKER_TOKEN", token),
    );
    first.line(&format!("received message on example-topic: message from {id}: hello at")).await;
    let (topic, text) = next_message(&mut subscriber).await;
    assert_eq!(topic, "example-topic");
    assert!(text.starts_with(&format!("message from {id}")), "{text}");
}
