//! The examples of the documentation that are neither Node's (t11) nor Python's (t12).

use rookery::mqtt::codec::QoS;
use tokio::process::Command;

use crate::clients::{all, built};
use crate::harness::{Talker, connect, credentials, output, script, three, tool};

#[tokio::test]
async fn t16_the_example_for_rust_runs() {
    if !all() {
        println!("only with ROOKERY_ALL_CLIENTS, as scripts/test --all has it: it builds a C library");
        return;
    }
    let cluster = three().await;
    let info = cluster.info();
    let (_, token) = &credentials(&cluster)[0];
    let said = output(
        Command::new(built("example"))
            .env("SSL_CERT_FILE", &info.ca)
            .env("BROKER_URI", format!("mqtts://{}", info.node(2).mqtts))
            .env("BROKER_TOKEN", token)
            .env("BROKER_TOPIC", "hello/world"),
    )
    .await;
    // It prints the message's fields, the payload as numbers.
    assert!(said.contains("topic: \"hello/world\""), "{said}");
}

#[tokio::test]
async fn t16_the_example_for_browsers_runs() {
    let cluster = three().await;
    let info = cluster.info();
    let [(_, token), other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let mut browser = Talker::start(
        Command::new("node")
            .arg(script("browser/run.js"))
            .env("NODE_PATH", tool("node/node_modules"))
            .env("NODE_EXTRA_CA_CERTS", &info.ca)
            .env("BROKER_URL", format!("wss://{}", info.node(3).wss))
            .env("BROKER_TOKEN", token)
            .env("BROKER_TOPIC", "hello/world"),
    );
    browser.line("subscribed to hello/world").await;
    let mut publisher = connect(&cluster, 1, other).await;
    publisher.publish("hello/world", "for the browser", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    browser.line(": for the browser").await;
    browser.rest().await;
}
