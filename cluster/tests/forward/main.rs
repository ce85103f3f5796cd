//! Real `Forward`s over loopback TCP: streams that break, barriers, credit, lives that end.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

mod retained;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rookery_cluster::handle::{Holder, Run, SendError};
use rookery_cluster::ids::{NodeId, WorkerId};
use rookery_cluster::limits;
use rookery_proto::forward::forward_client::ForwardClient;
use rookery_proto::forward::{DataRequest, Hello, data_request};
use tonic::Code;
use world::{B, Heard, Node, Wire};

const W0: WorkerId = WorkerId(0);
const W1: WorkerId = WorkerId(1);

async fn pair(workers: u16) -> (Node, Node, Wire, Wire) {
    let (a, b) = (Node::start(1, 1, workers), Node::start(2, 1, workers));
    let (ab, ba) = (a.reach(&b).await, b.reach(&a).await);
    a.live(&[&b]);
    b.live(&[&a]);
    a.complete().await;
    b.complete().await;
    (a, b, ab, ba)
}

fn runs(body: impl Into<Bytes>) -> Vec<Run> {
    vec![Run { broker: B, count: 1, body: body.into(), retained: Vec::new() }]
}

fn number(body: &Bytes) -> u64 {
    std::str::from_utf8(&body[..8]).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_arrive_once_and_in_order_over_a_connection_that_breaks() {
    let (a, b, ab, _ba) = pair(2).await;
    b.subscribe(W0, "t", 1).await;
    let many = 3000;
    for i in 1..=many {
        for worker in [W0, W1] {
            let mut batch = runs(format!("{i:08}").repeat(100));
            loop {
                match a.forward.send(worker, b.life.node, batch) {
                    Ok(seq) => break assert_eq!(seq, i),
                    Err((SendError::NoCredit, back)) => batch = back,
                    Err((SendError::NotLive, _)) => panic!("it is live"),
                }
                tokio::task::yield_now().await;
            }
        }
        if i % 500 == 0 {
            // Some of what follows the last cut has gone through, so each cut is of a stream that is up.
            let most = |heard: &Heard| heard.accepted.get(&b.life.node) > Some(&(i - 400));
            a.worker(W0).until("most is accepted", most).await;
            ab.cut();
        }
        if i % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for worker in [W0, W1] {
        let all = |heard: &Heard| heard.accepted.get(&b.life.node) == Some(&many);
        a.worker(worker).until("all is accepted", all).await;
        let heard = b.worker(W0).heard.lock();
        let from: Vec<_> = heard.bodies.iter().filter(|(_, from, _, _)| *from == worker).collect();
        assert!(from.iter().map(|(_, _, seq, body)| (*seq, number(body))).eq((1..=many).map(|i| (i, i))));
    }
    assert!(b.worker(W1).heard.lock().bodies.is_empty(), "it has no subscriber");
    let (sent, received) = (a.forward.stats(), b.forward.stats());
    assert_eq!((sent.batches_sent, sent.messages_sent, sent.bytes_sent), (2 * many, 2 * many, 2 * many * 800));
    assert_eq!(received.batches_received, 2 * many);
    assert!(sent.streams_opened > 2, "the cuts were felt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_waits_for_every_worker_of_every_live_node() {
    let nodes = [Node::start(1, 1, 2), Node::start(2, 1, 2), Node::start(3, 1, 2)];
    let mut wires = Vec::new();
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.life != from.life) {
            wires.push(from.reach(to).await);
        }
    }
    for node in &nodes {
        node.live(&nodes.iter().filter(|other| other.life != node.life).collect::<Vec<_>>());
    }
    for node in &nodes {
        node.complete().await;
    }
    let [a, b, c] = &nodes;
    c.worker(W1).pause(true);
    a.forward.subscribe(W0, B, "t/#".into(), 5);
    let of_a = (Holder::Peer(a.life.node), Arc::from("t/#"));
    b.worker(W1).until("b knows", |heard| heard.view.contains(&of_a)).await;
    c.worker(W0).until("half of c knows", |heard| heard.view.contains(&of_a)).await;
    a.worker(W1).until("a knows", |heard| heard.view.contains(&(Holder::Worker(W0), Arc::from("t/#")))).await;
    assert!(a.worker(W0).heard.lock().barriers.is_empty());
    c.worker(W1).pause(false);
    a.worker(W0).until("the barrier ends", |heard| heard.barriers == [(5, true)]).await;
    for node in [b, c] {
        for worker in [W0, W1] {
            assert!(node.worker(worker).heard.lock().view.contains(&of_a));
        }
    }
    a.forward.unsubscribe(W0, B, "t/#".into());
    c.worker(W0).until("c has forgotten", |heard| heard.view.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interest_survives_a_broken_link_and_catches_up() {
    let (a, b, ab, _ba) = pair(1).await;
    a.subscribe(W0, "old", 1).await;
    a.subscribe(W0, "gone", 2).await;
    ab.set_down(true);
    a.forward.subscribe(W0, B, "new".into(), 3);
    a.forward.unsubscribe(W0, B, "gone".into());
    let of_a = |filter: &str| (Holder::Peer(a.life.node), Arc::<str>::from(filter));
    assert!(b.worker(W0).heard.lock().view.contains(&of_a("old")), "what was known is kept");
    ab.set_down(false);
    let now = BTreeSet::from([of_a("new"), of_a("old")]);
    b.worker(W0).until("b has caught up", |heard| heard.view == now).await;
    a.worker(W0).until("the barrier ends", |heard| heard.barriers.contains(&(3, true))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_ends_and_room_follows() {
    let (a, b, _ab, _ba) = pair(1).await;
    b.subscribe(W0, "t", 1).await;
    b.worker(W0).withholds.store(true, Ordering::Release);
    let body = Bytes::from(vec![b'0'; limits::FORWARD_BATCH_BYTES - 64]);
    let mut taken = 0;
    while a.forward.send(W0, b.life.node, runs(body.clone())).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, limits::FORWARD_WINDOW_BYTES / limits::FORWARD_BATCH_BYTES);
    assert_eq!(a.forward.stats().no_credit, 1);
    b.worker(W0).until("all have come", |heard| heard.withheld.len() == taken).await;
    assert_eq!(a.worker(W0).heard.lock().accepted, BTreeMap::new());
    let withheld = std::mem::take(&mut b.worker(W0).heard.lock().withheld);
    withheld.iter().rev().for_each(|batch| batch.receipt.done());
    a.worker(W0).until("there is room", |heard| heard.rooms == 1).await;
    assert!(a.forward.send(W0, b.life.node, runs(body)).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_of_a_peer_starts_anew() {
    let (a, b, _ab, _ba) = pair(1).await;
    assert_eq!(a.forward.send(W0, b.life.node, runs("00000001")), Ok(1));
    let through = |seq| move |heard: &Heard| heard.accepted.get(&NodeId(2)) == Some(&seq);
    a.worker(W0).until("accepted at once, as nobody wants it", through(1)).await;
    b.subscribe(W0, "t", 1).await;
    let old = b.life;
    b.forward.stop();
    assert_eq!(b.forward.send(W0, a.life.node, runs("x")).map_err(|(e, _)| e), Err(SendError::NotLive));
    assert_eq!(a.forward.send(W0, old.node, runs("00000002")), Ok(2));

    let b = Node::start(2, 2, 1);
    let (_ab, _ba) = (a.reach(&b).await, b.reach(&a).await);
    b.live(&[&a]);
    a.worker(W0).pause(true);
    a.live(&[&b]);
    assert_eq!(
        a.forward.send(W0, b.life.node, runs("00000003")).map_err(|(e, _)| e),
        Err(SendError::NotLive),
        "the worker has not heard of the end of the former life"
    );
    a.worker(W0).pause(false);
    a.worker(W0).until("the former life is over", |heard| heard.expired == [old] && heard.view.is_empty()).await;
    b.complete().await;
    b.subscribe(W0, "t", 1).await;
    assert_eq!(a.forward.send(W0, b.life.node, runs("00000004")), Ok(1));
    a.worker(W0).until("the new life accepts", through(1)).await;
    let bodies: Vec<_> =
        b.worker(W0).heard.lock().bodies.iter().map(|(_, _, seq, body)| (*seq, number(body))).collect();
    assert_eq!(bodies, [(1, 4)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_live_peers_that_are_who_they_say_are_heard() {
    let (a, b, _ab, _ba) = pair(1).await;
    let call = async |caller: Option<NodeId>, hello: Hello| {
        let at = b.listen(caller).await;
        let mut client = ForwardClient::connect(format!("http://{at}")).await.unwrap();
        let hello = DataRequest { kind: Some(data_request::Kind::Hello(hello)) };
        client.data(tokio_stream::iter([hello])).await.map(|_| ()).map_err(|status| status.code())
    };
    let good = Hello {
        version: 2,
        node: 1,
        incarnation: 1,
        target_node: 2,
        target_incarnation: 1,
        first: 1,
        stream: u64::MAX,
        ..Hello::default()
    };
    assert_eq!(call(None, good).await, Err(Code::PermissionDenied));
    assert_eq!(call(Some(NodeId(3)), good).await, Err(Code::PermissionDenied));
    let me = Some(a.life.node);
    for version in [1, 9] {
        assert_eq!(call(me, Hello { version, ..good }).await, Err(Code::Unimplemented));
    }
    assert_eq!(call(me, Hello { target_incarnation: 2, ..good }).await, Err(Code::FailedPrecondition));
    assert_eq!(call(me, Hello { incarnation: 0, ..good }).await, Err(Code::PermissionDenied));
    assert_eq!(call(me, Hello { incarnation: 2, ..good }).await, Err(Code::Unavailable));
    assert_eq!(call(me, good).await, Ok(()));
}
