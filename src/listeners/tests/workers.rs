//! Two workers: what passes between them, slow subscribers, takeover, the end.

use std::io::{Read as _, Write as _};

use bytes::BytesMut;
use rookery_cluster::handle::{Holder, InterestChange};

use super::fake::{BROKER, PEER};
use super::*;
use crate::broker::core::DropReason;
use crate::client::{ClientError, message as publish};
use crate::mqtt::codec::{Connect, Packet, QoS, Version, encode};
use crate::mqtt::session::Dropped;

/// A subscriber of `t/#` on one worker, then a publisher on the other.
async fn on_two_workers(world: &World, transport: Transport) -> (Client, Client) {
    let mut subscriber = world.connect(transport, "subscriber").await;
    let publisher = world.connect(transport, "publisher").await;
    until(|| world.workers.iter().all(|worker| worker.stats().read().1 == 1)).await;
    subscriber.subscribe(&[("t/#", QoS::AtLeastOnce)]).await.unwrap();
    (subscriber, publisher)
}

#[tokio::test]
async fn a_publish_reaches_the_other_worker_and_is_acknowledged() {
    let world = World::new(2);
    let (mut subscriber, mut publisher) = on_two_workers(&world, Transport::Tcp).await;
    let nobody = publisher.publish("u", "x", QoS::AtLeastOnce, false).await.unwrap();
    assert_eq!(nobody, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    let somebody = publisher.publish("t/1", "x", QoS::AtLeastOnce, false).await.unwrap();
    assert_eq!(somebody, ReasonCode::SUCCESS);
    assert_eq!(message(&mut subscriber).await.topic, "t/1");
    subscriber.unsubscribe(&["t/#"]).await.unwrap();
    loop {
        // Interest is withdrawn without a barrier.
        let reason = publisher.publish("t/1", "x", QoS::AtLeastOnce, false).await.unwrap();
        if reason == ReasonCode::NO_MATCHING_SUBSCRIBERS {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_recognised_needs_no_check() {
    let world = World::new(1);
    world.connect(Transport::Tcp, "stranger").await;
    assert_eq!(world.fake.sources().len(), 1);
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut known = world.connect(transport, "known").await;
        let reason = known.publish("u", "x", QoS::AtLeastOnce, false).await.unwrap();
        assert_eq!(reason, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    }
    assert_eq!(world.fake.sources(), []);
}

#[tokio::test]
async fn a_thousand_messages_arrive_in_order() {
    let world = World::new(2);
    for transport in [Transport::Tcp, Transport::Wss] {
        let (mut subscriber, mut publisher) = on_two_workers(&world, transport).await;
        for n in 0..1000 {
            let qos = if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            publisher.start_publish(publish(&format!("t/{}", n % 3), n.to_string(), qos)).unwrap();
        }
        let acknowledged = async {
            for _ in 0..500 {
                let event = within(publisher.next()).await.unwrap();
                assert!(matches!(event, Event::Acked(_, ReasonCode::SUCCESS)), "{event:?}");
            }
        };
        let received = async {
            for n in 0..1000 {
                assert_eq!(message(&mut subscriber).await.payload, n.to_string());
            }
        };
        tokio::join!(acknowledged, received);
        drop((subscriber, publisher));
        until(|| world.listeners.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_flood_of_many_publishers_is_paused_not_refused() {
    const EACH: usize = 200;
    let world = World::new(2);
    let mut subscriber = world.connect(Transport::Tcp, "subscriber").await;
    subscriber.subscribe(&[("t", QoS::AtMostOnce)]).await.unwrap();
    let mut publishers = Vec::new();
    for n in 0..60 {
        publishers.push(world.connect(Transport::Tcp, &format!("publisher-{n}")).await);
    }
    // All of it is there before the workers read any: more in one turn than may be on the way between them.
    let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = Arc::new(Mutex::new(wait));
    for worker in &world.workers {
        let wait = wait.clone();
        worker.mailbox().post(Mail::Sync(Box::new(move || assert!(wait.lock().recv().is_err()))));
    }
    for publisher in &mut publishers {
        for _ in 0..EACH {
            publisher.start_publish(publish("t", vec![7; 2000], QoS::AtLeastOnce)).unwrap();
        }
        within(publisher.flush()).await.unwrap();
    }
    drop(go_on);
    for publisher in &mut publishers {
        for _ in 0..EACH {
            let event = within(publisher.next()).await.unwrap();
            assert!(matches!(event, Event::Acked(_, ReasonCode::SUCCESS)), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_costs_its_own_messages_only() {
    const COUNT: u64 = 400;
    const SIZE: usize = 64 << 10;
    for transport in [Transport::Tcp, Transport::Ws] {
        let settings = Settings { outbound_bytes: 1 << 20, ..Settings::default() };
        let world = World::with(2, settings, Bounds::new(1000));
        let (mut slow, mut publisher) = on_two_workers(&world, transport).await;
        let mut fast = world.connect(transport, "fast").await;
        fast.subscribe(&[("t/#", QoS::AtMostOnce)]).await.unwrap();
        for n in 0..COUNT {
            publisher.publish(&format!("t/{n}"), vec![0; SIZE], QoS::AtMostOnce, false).await.unwrap();
            assert_eq!(message(&mut fast).await.topic, format!("t/{n}"));
        }
        let slow_drops =
            |stats: &Stats| stats.dropped.get(&DropReason::Subscriber(Dropped::SlowSubscriber)).copied().unwrap_or(0);
        let delivered = || world.sum(|stats| stats.publishes_delivered);
        until(|| delivered() + world.sum(slow_drops) == 2 * COUNT).await;
        let kept = COUNT - world.sum(slow_drops);
        assert!(kept < COUNT, "the kernel took it all: the test needs more bytes");
        assert!(kept * SIZE as u64 >= 1 << 20, "only {kept} were kept");
        for n in 0..kept {
            assert_eq!(message(&mut slow).await.topic, format!("t/{n}"), "the first ones, in order");
        }
        publisher.publish("t/end", "x", QoS::AtLeastOnce, false).await.unwrap();
        assert_eq!(message(&mut slow).await.topic, "t/end");
    }
}

#[tokio::test]
async fn what_waits_behind_a_full_socket_goes_out_when_the_client_reads_again() {
    const COUNT: usize = 300;
    for (transport, outbound_bytes) in [(Transport::Tcp, 1), (Transport::Tcp, 256 << 10), (Transport::Ws, 1)] {
        let settings = Settings { outbound_bytes, queue_bytes: 64 << 20, ..Settings::default() };
        let world = World::with(2, settings, Bounds::new(1000));
        let (mut slow, mut publisher) = on_two_workers(&world, transport).await;
        // What is of QoS 0 gets no answer from the client: reading alone must make the queue move.
        for _ in 0..COUNT {
            publisher.publish("t/0", vec![0; 64 << 10], QoS::AtMostOnce, false).await.unwrap();
        }
        for n in 0..COUNT {
            publisher.publish("t/1", n.to_string(), QoS::AtLeastOnce, false).await.unwrap();
        }
        let mut queued = Vec::new();
        while queued.len() < COUNT {
            let next = message(&mut slow).await;
            queued.extend((next.qos == QoS::AtLeastOnce).then_some(next.payload));
        }
        assert!(queued.iter().enumerate().all(|(n, payload)| *payload == n.to_string()));
        let queue_full = DropReason::Subscriber(Dropped::QueueFull);
        assert_eq!(world.sum(|stats| stats.dropped.get(&queue_full).copied().unwrap_or(0)), 0);
    }
}

#[tokio::test]
async fn batches_to_a_peer_keep_their_order_when_credit_runs_out() {
    let world = World::new(1);
    let wanted = InterestChange::Add { holder: Holder::Peer(PEER), broker: BROKER, filter: "t".into() };
    let wanted = ClusterEvent::Interest { token: 1 << 40, changes: [wanted].into() };
    world.workers[0].mailbox().post(Mail::Cluster(wanted));
    let mut subscriber = world.connect(Transport::Tcp, "subscriber").await;
    subscriber.subscribe(&[("t", QoS::AtMostOnce)]).await.unwrap();
    let mut publishers = Vec::new();
    let mut order = Vec::new();
    // Each fills a batch, and is not read from any more then.
    for n in 0..4 {
        let mut publisher = world.connect(Transport::Tcp, &format!("publisher-{n}")).await;
        publisher.publish("t", vec![n; 700_000], QoS::AtMostOnce, false).await.unwrap();
        publishers.push(publisher);
        order.push(message(&mut subscriber).await.payload[0]);
    }
    for credit in [1, 2, 1] {
        let before = world.fake.taken().len();
        world.fake.give_credit(credit);
        until(|| world.fake.taken().len() == before + credit).await;
    }
    assert_eq!(world.fake.taken(), order);
}

#[tokio::test]
async fn a_client_that_vanishes_gives_its_claim_back() {
    let world = World::new(1);
    for (n, transport) in (1..).zip(ALL) {
        let mut client = world.connect(transport, "c").await;
        client.subscribe(&[("#", QoS::AtMostOnce)]).await.unwrap();
        drop(client);
        until(|| world.fake.released() == n).await;
    }
    until(|| world.workers[0].stats().read().1 == 0).await;
}

#[tokio::test]
async fn the_newer_connection_takes_over_and_the_older_is_told() {
    let world = World::new(2);
    for transport in ALL {
        let mut older = world.connect(transport, "c").await;
        let mut newer = world.connect(transport, "c").await;
        match within(older.next()).await {
            Err(ClientError::Disconnected { reason, .. }) => assert_eq!(reason, ReasonCode::SESSION_TAKEN_OVER),
            other => panic!("{other:?}"),
        }
        newer.publish("t", "x", QoS::AtLeastOnce, false).await.unwrap();
        newer.disconnect().await.unwrap();
        until(|| world.listeners.connections() == 0).await;
    }
}

/// A client that is not asynchronous, so that the worker's own thread can look at its socket.
fn raw_client(world: &World, client_id: &str) -> std::net::TcpStream {
    let mut socket = std::net::TcpStream::connect(world.address(Transport::Tcp)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = BytesMut::new();
    encode(&Packet::Connect(Box::new(Connect::new(Version::V5, client_id))), Version::V5, &mut bytes).unwrap();
    socket.write_all(&bytes).unwrap();
    socket
}

/// Reads the CONNACK.
fn welcomed(socket: &mut std::net::TcpStream) {
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x20);
    socket.read_exact(&mut vec![0; usize::from(head[1])]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_connection_has_its_0x8e_before_the_claim_goes_back() {
    let world = World::new(1);
    let mut older = raw_client(&world, "c");
    welcomed(&mut older);
    let (seen, told) = tokio::sync::oneshot::channel();
    // While this runs the worker can write nothing more: what is not at the client by now came too late.
    world.fake.at_release(move || {
        let mut head = [0; 3];
        older.read_exact(&mut head).unwrap();
        seen.send(head).unwrap();
    });
    world.fake.revoke("c");
    let head = within(told).await.unwrap();
    assert_eq!((head[0], head[2]), (0xe0, ReasonCode::SESSION_TAKEN_OVER.value()));
    until(|| world.fake.released() == 1).await;
}

#[tokio::test]
async fn an_older_connection_that_does_not_read_holds_nobody_up() {
    let world = World::new(2);
    for transport in ALL {
        let (slow, mut publisher) = on_two_workers(&world, transport).await;
        for _ in 0..200 {
            publisher.publish("t/1", vec![0; 64 << 10], QoS::AtMostOnce, false).await.unwrap();
        }
        let newer = world.connect(transport, "subscriber").await;
        newer.disconnect().await.unwrap();
        publisher.disconnect().await.unwrap();
        until(|| world.listeners.connections() == 0).await;
        drop(slow);
    }
}

#[tokio::test]
async fn a_stopping_worker_says_so_to_its_clients() {
    let mut world = World::new(1);
    let mut clients = Vec::new();
    for transport in ALL {
        clients.push(world.connect(transport, &format!("{transport:?}")).await);
    }
    world.workers[0].mailbox().post(Mail::Stop { reason: ReasonCode::SERVER_SHUTTING_DOWN });
    for mut client in clients {
        match within(client.next()).await {
            Err(ClientError::Disconnected { reason, .. }) => assert_eq!(reason, ReasonCode::SERVER_SHUTTING_DOWN),
            other => panic!("{other:?}"),
        }
    }
    world.workers.remove(0).join();
    assert_eq!(world.fake.released(), 4);
}
