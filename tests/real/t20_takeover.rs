//! P3: a client that connects elsewhere takes its client ID over; the older connection is told first.

use rookery::mqtt::codec::{QoS, ReasonCode};

use crate::harness::{connect, credentials, ended, next_message, three};

#[tokio::test]
async fn t20_the_older_connection_gets_0x8e_on_whichever_node_it_is() {
    let cluster = three().await;
    let [client, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let mut held = connect(&cluster, 1, client).await;
    held.subscribe(&[("mine", QoS::AtLeastOnce)]).await.expect("subscribes");
    for node in [2, 3, 1, 1] {
        let (mut next, connack) = cluster.connect(node, &client.0, &client.1).await.expect("takes over");
        assert!(!connack.session_present);
        assert_eq!(ended(&mut held).await, ReasonCode::SESSION_TAKEN_OVER);
        next.subscribe(&[("mine", QoS::AtLeastOnce)]).await.expect("subscribes");
        held = next;
    }
    let mut publisher = connect(&cluster, 2, other).await;
    publisher.publish("mine", "once", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    publisher.publish("mine", "and then", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(next_message(&mut held).await.1, "once");
    assert_eq!(next_message(&mut held).await.1, "and then");
}
