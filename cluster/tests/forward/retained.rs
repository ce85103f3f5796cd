//! Retained publishes between nodes: accepted once on disk, copied by who was away, the same everywhere in the end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_cluster::clock::{Clock, SystemClock, UnixMillis};
use rookery_cluster::disk::MemDisk;
use rookery_cluster::handle::{Retained, Run};
use rookery_cluster::ids::{NodeId, WorkerId};
use rookery_cluster::retained::store::{Store, StoreConfig, Write};
use rookery_cluster::retained::{Came, Pages, Record, Stamp, Time};
use rookery_cluster::rng::SystemRng;

use crate::world::{B, Node, Wire};

const W0: WorkerId = WorkerId(0);
const ALL: Pages = Pages { messages: usize::MAX, bytes: usize::MAX, steps: usize::MAX };

fn open(disk: &MemDisk) -> Store {
    let config = StoreConfig::new(Arc::new(SystemClock), Arc::new(SystemRng));
    Store::open(Path::new("/retained"), Arc::new(disk.clone()), config).unwrap()
}

fn store() -> Store {
    open(&MemDisk::new(1))
}

fn run(time: Time, topic: &str, body: Option<&str>) -> Run {
    let message = body.map(|body| Bytes::from(body.to_owned()));
    let retained = Retained { time, topic: topic.into(), expires: None, message, durable: true };
    Run { broker: B, count: 0, body: Bytes::new(), retained: vec![Arc::new(retained)] }
}

/// What a worker of `node` does with a retained publish.
fn publish(node: &Node, store: &Store, topic: &str, body: Option<&str>, to: &[&Node]) -> u64 {
    let run = run(store.next_time(), topic, body);
    let (topic, record) = run.records(node.life.node).next().unwrap();
    store.take(&[Write { broker: B, topic, record }], Came::Published, None, || {});
    let sent = to.iter().map(|peer| node.forward.send(W0, peer.life.node, vec![run.clone()]).unwrap());
    sent.last().unwrap_or(0)
}

fn messages(store: &Store) -> Vec<(String, Bytes)> {
    let (records, _) = store.records(B, u64::MAX, None, ALL);
    records.into_iter().filter_map(|(topic, record)| Some((topic, record.message?))).collect()
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, Bytes)> {
    pairs.iter().map(|(t, m)| ((*t).to_owned(), Bytes::from((*m).to_owned()))).collect()
}

async fn connect(nodes: &[&Node]) -> Vec<Wire> {
    let mut wires = Vec::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| to.life != from.life) {
            wires.push(from.reach(to).await);
        }
    }
    for node in nodes {
        node.live(&nodes.iter().filter(|other| other.life != node.life).copied().collect::<Vec<_>>());
    }
    wires
}

async fn keeps_all(node: &Node) {
    node.worker(W0).until("it has every retained message", |heard| heard.keeps_all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_accepts_a_retained_publish_once_it_is_on_disk_whoever_wants_it() {
    let disk = MemDisk::new(1);
    let (one, two) = (store(), open(&disk));
    let (a, b) = (Node::keeping(1, 1, 2, &one), Node::keeping(2, 1, 2, &two));
    let _wires = connect(&[&a, &b]).await;
    keeps_all(&a).await;
    keeps_all(&b).await;
    assert_eq!(a.forward.replicas().peers, [NodeId(2)]);
    assert_eq!(a.forward.replicas().needed, 1);
    disk.set_capacity(Some(0));
    publish(&a, &one, "t", Some("x"), &[&b]);
    publish(&a, &one, "gone", None, &[&b]);
    while two.totals().records < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.worker(W0).heard.lock().accepted.get(&b.life.node), None, "its disk is full");
    disk.set_capacity(None);
    a.worker(W0).until("it is accepted", |heard| heard.accepted.get(&NodeId(2)) == Some(&2)).await;
    two.close();
    disk.crash();
    assert_eq!(messages(&open(&disk)), texts(&[("t", "x")]));
    assert!(b.worker(W0).heard.lock().bodies.is_empty(), "nobody there has a filter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_copies_what_it_lacks_before_it_answers() {
    let (one, two, three) = (store(), store(), store());
    let (a, b) = (Node::keeping(1, 1, 3, &one), Node::keeping(2, 1, 3, &two));
    let _wires = connect(&[&a, &b]).await;
    for n in 0..2000 {
        publish(&a, &one, &format!("t/{n}"), Some("x"), &[]);
    }
    publish(&a, &one, "t/7", None, &[]);
    publish(&b, &two, "t/8", Some("newer"), &[]);
    let c = Node::keeping(3, 1, 3, &three);
    assert!(!c.worker(W0).heard.lock().keeps_all);
    let _wires = connect(&[&a, &b, &c]).await;
    keeps_all(&c).await;
    let got = messages(&three);
    assert_eq!(got.len(), 1999);
    assert!(!got.iter().any(|(topic, _)| topic == "t/7"));
    assert!(got.contains(&("t/8".to_owned(), Bytes::from("newer"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_a_partition_hold_the_same_after_it() {
    let (one, two) = (store(), store());
    for (store, node) in [(&one, 1), (&two, 2)] {
        // Before they meet: each side wrote and deleted, on topics of its own and on common ones.
        let lonely = Node::keeping(node, 1, 2, store);
        for n in 0..300 {
            publish(&lonely, store, &format!("common/{}", n % 100), (n % 7 != 0).then_some("x"), &[]);
            publish(&lonely, store, &format!("own/{node}/{n}"), Some("y"), &[]);
        }
        lonely.forward.stop();
    }
    assert_ne!(one.digests_of(B), two.digests_of(B));
    let (a, b) = (Node::keeping(1, 2, 2, &one), Node::keeping(2, 2, 2, &two));
    let _wires = connect(&[&a, &b]).await;
    keeps_all(&a).await;
    keeps_all(&b).await;
    assert_eq!(messages(&one), messages(&two));
    assert_eq!(one.digests_of(B), two.digests_of(B));
    assert!(messages(&one).len() > 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_clock_is_ahead_is_refused_until_then() {
    let (one, two) = (store(), store());
    let (a, b) = (Node::keeping(1, 1, 2, &one), Node::keeping(2, 1, 2, &two));
    let _wires = connect(&[&a, &b]).await;
    keeps_all(&b).await;
    let ahead = Time::at(UnixMillis(SystemClock.wall().0 + 1500));
    a.forward.send(W0, NodeId(2), vec![run(ahead, "t", Some("x"))]).unwrap();
    a.worker(W0).until("its time has come", |heard| heard.accepted.get(&NodeId(2)) == Some(&1)).await;
    assert!(two.stats().refused_ahead > 0);
    assert!(ahead.ahead_of(SystemClock.wall()) <= Duration::from_millis(500));
    assert_eq!(messages(&two), texts(&[("t", "x")]));
    assert!(two.next_time() > ahead, "what follows is later");
}

#[test]
fn a_record_is_the_publishers() {
    let record = run(Time(5), "t", Some("x")).records(NodeId(9)).next().unwrap().1;
    let stamp = Stamp { time: Time(5), node: NodeId(9) };
    assert_eq!(record, Record { stamp, expires: None, message: Some("x".into()) });
}
