//! mosquitto_sub on one node, mosquitto_pub on another.

use tokio::process::Command;

use crate::harness::{Talker, credentials, output, split, three};

#[tokio::test]
async fn t10_mosquitto_clients_reach_each_other_across_nodes() {
    let cluster = three().await;
    let info = cluster.info();
    let [subscriber, publisher] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let ca = info.ca.to_str().unwrap();
    // (subscriber's address, publisher's address, TLS, protocol)
    let rounds =
        [(&info.node(1).mqtts, &info.node(3).mqtts, true, "5"), (&info.node(2).mqtt, &info.node(1).mqtt, false, "311")];
    for (sub_at, pub_at, tls, version) in rounds {
        let client = |program: &str, at: &str, (id, token): &(String, String)| {
            let (host, port) = split(at);
            // Line by line, although nobody but this test reads it.
            let mut command = Command::new("stdbuf");
            command.args([
                "-oL", program, "-V", version, "-h", host, "-p", port, "-i", id, "-u", "anything", "-P", token, "-q",
                "1",
            ]);
            if tls {
                command.args(["--cafile", ca]);
            }
            command
        };
        // -d prints the SUBACK, so that the publisher need not guess when to begin.
        let mut sub =
            Talker::start(client("mosquitto_sub", sub_at, subscriber).args(["-d", "-C", "2", "-v", "-t", "a/+/c"]));
        sub.line("SUBACK").await;
        for text in ["one", "two"] {
            output(client("mosquitto_pub", pub_at, publisher).args(["-t", "a/b/c", "-m", text])).await;
        }
        assert_eq!(sub.line("a/b/c one").await, "a/b/c one");
        assert_eq!(sub.line("a/b/c two").await, "a/b/c two");
    }
}
