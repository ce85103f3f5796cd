//! P1: the metadata leader is killed; writes through another node go on, and nothing acknowledged is lost.

use std::time::Instant;

use rookery_jepsen::cluster::until;

use crate::harness::three;

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures a real cluster")]
async fn t31_writes_go_on_through_another_node_when_the_leader_dies() {
    let mut cluster = three().await;
    let status = cluster.status(1).await.expect("has a status");
    let metadata = status.groups.iter().find(|group| group.group == 0).expect("group 0 is there");
    let leader = metadata.leader.expect("has a leader");
    let other = cluster.nodes().into_iter().find(|id| *id != leader).expect("there are others");
    cluster.cli(leader, &["namespace", "create", "before"]).await.expect("creates");
    cluster.kill(leader).await.expect("dies");
    let killed = Instant::now();
    let write = async || cluster.cli(other, &["namespace", "create", "after"]).await.is_ok();
    until("a write through another node", write).await.expect("writes go on");
    println!("first write {:?} after the leader's death", killed.elapsed());
    let listed = cluster.cli(other, &["namespace", "list", "--output", "json"]).await.expect("lists");
    assert!(listed.contains("\"before\"") && listed.contains("\"after\""), "{listed}");
    cluster.restart(leader).await.expect("comes back");
    let seen = async || {
        let listed = cluster.cli(leader, &["namespace", "list", "--output", "json"]).await;
        listed.is_ok_and(|listed| listed.contains("\"after\""))
    };
    until("the old leader has what it missed", seen).await.expect("catches up");
}
