//! paho-mqtt for Python, with the example program of its users as it is but for the address.

use tokio::process::Command;

use crate::harness::{credentials, output, script, split, three, tool};

#[tokio::test]
async fn t12_the_example_for_python_runs() {
    let cluster = three().await;
    let info = cluster.info();
    let (_, token) = &credentials(&cluster)[0];
    let (host, port) = split(&info.node(3).mqtts);
    let said = output(
        Command::new(tool("venv/bin/python"))
            .arg(script("pubsub.py"))
            .env("SSL_CERT_FILE", &info.ca)
            .env("BROKER_FQDN", host)
            .env("BROKER_PORT", port)
            .env("BROKER_TOKEN", token)
            .env("BROKER_TOPIC", "hello/world"),
    )
    .await;
    assert!(said.contains("hello/world: b'Hello from Python and Pub/Sub!'"), "{said}");
}
