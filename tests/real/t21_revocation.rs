//! P2: a revoked token ends its connection on whichever node it is, and no node admits it again until it is unrevoked.

use rookery::mqtt::codec::ReasonCode;

use crate::harness::{connect, credentials, ended, refusal, three};

/// The claim `jti` of a token.
fn jti(token: &str) -> String {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).expect("a token has three parts");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    claims["jti"].as_str().expect("a token has an identifier").to_owned()
}

#[tokio::test]
async fn t21_a_revocation_on_one_node_ends_the_connection_on_another() {
    let cluster = three().await;
    let [client, other] = &credentials(&cluster)[..] else { panic!("dev issues two credentials") };
    let mut held = connect(&cluster, 3, client).await;
    let mut bystander = connect(&cluster, 3, other).await;
    let jti = jti(&client.1);
    let revoke = |verb| ["broker", verb, "hello", "--namespace", "demo", "--jti", jti.as_str()];
    cluster.cli(1, &revoke("revoke")).await.expect("revokes");
    assert_eq!(ended(&mut held).await, ReasonCode::NOT_AUTHORIZED);
    for node in cluster.nodes() {
        let refused = refusal(cluster.connect(node, &client.0, &client.1).await);
        assert_eq!(refused, ReasonCode::NOT_AUTHORIZED, "node {node}");
    }
    bystander.ping().await.expect("another client's connection goes on");
    let list = ["broker", "show-revocations", "hello", "--namespace", "demo", "--output", "json"];
    let listed = cluster.cli(2, &list).await.expect("lists");
    assert!(listed.contains(&jti), "{listed}");
    cluster.cli(2, &revoke("unrevoke")).await.expect("unrevokes");
    for node in cluster.nodes() {
        let connected = cluster.connect(node, &client.0, &client.1).await;
        assert!(connected.is_ok(), "node {node} admits it again: {:?}", connected.err());
    }
}
