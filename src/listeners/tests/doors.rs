//! Opening, bounds and closing.

use std::net::TcpListener as StdListener;

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::mqtt::codec::QoS;

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_started() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let off = ListenersConfig { mqtt: None, mqtts: None, ws: None, wss: None, tls: None };
    let config = ListenersConfig { mqtt: Some(free), ws: Some(taken.1), ..off.clone() };
    let start = |config| Listeners::start(config, Bounds::new(1), None, Vec::new(), &Handle::current());
    let error = start(&config).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {} (listeners.ws): ", taken.1)), "{text}");
    StdListener::bind(free).expect("nothing listens here");

    let error = start(&ListenersConfig { wss: Some(free), ..off }).unwrap_err();
    assert_eq!(error.to_string(), "listeners.wss needs a certificate");
}

#[tokio::test]
async fn ipv6_serves_both_families() {
    // Machines without IPv6 have nothing to test here.
    if StdListener::bind("[::1]:0").is_err() {
        return;
    }
    let any = Some("[::]:0".parse().unwrap());
    let config = ListenersConfig { mqtt: any, mqtts: None, ws: None, wss: None, tls: None };
    let mailbox: Arc<Mailbox> = Arc::default();
    let listeners = Listeners::start(&config, Bounds::new(9), None, vec![mailbox.clone()], &Handle::current()).unwrap();
    let port = listeners.local_addrs()[&Transport::Tcp].port();
    for host in ["127.0.0.1", "[::1]"] {
        let client = TcpStream::connect(format!("{host}:{port}")).await.unwrap();
        let mut mail = Vec::new();
        within(mailbox.collect(&mut mail)).await;
        let [Mail::Adopt { from, .. }] = &mail[..] else { panic!("one connection") };
        assert_eq!(*from, client.local_addr().unwrap());
    }
}

#[tokio::test]
async fn what_a_handshake_took_counts_for_the_connect() {
    let at = Some("127.0.0.1:0".parse().unwrap());
    let config = ListenersConfig { mqtt: None, mqtts: None, ws: at, wss: None, tls: None };
    let mailbox: Arc<Mailbox> = Arc::default();
    let listeners = Listeners::start(&config, Bounds::new(9), None, vec![mailbox.clone()], &Handle::current()).unwrap();
    let mut client = TcpStream::connect(listeners.local_addrs()[&Transport::Ws]).await.unwrap();
    // Not a wait for something: it is the time that must be counted.
    let slow = Duration::from_millis(20);
    tokio::time::sleep(slow).await;
    let upgrade = "GET /mqtt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut client, upgrade.as_bytes()).await.unwrap();
    let mut mail = Vec::new();
    within(mailbox.collect(&mut mail)).await;
    let [Mail::Adopt { spent, .. }] = &mail[..] else { panic!("one connection") };
    assert!(*spent >= slow, "{spent:?}");
}

#[tokio::test]
async fn a_slow_handshake_ends_at_the_deadline() {
    let bounds = Bounds { deadline: Duration::from_millis(50), ..Bounds::new(1000) };
    let world = World::with(1, Settings::default(), bounds);
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        let mut silent = world.tcp(transport).await;
        assert_eq!(within(silent.read(&mut [0; 1])).await.unwrap(), 0);
        until(|| world.failures(transport, Failure::Timeout) == 1).await;
    }
    assert_eq!(world.listeners.connections(), 0);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_until_one_ends() {
    let world = World::with(2, Settings::default(), Bounds::new(2));
    let first = world.connect(Transport::Tcp, "a").await;
    let _silent = world.tcp(Transport::Wss).await;
    until(|| world.listeners.connections() == 2).await;
    for (n, transport) in (1..).zip([Transport::Tcp, Transport::Tls]) {
        let mut refused = world.tcp(transport).await;
        assert_eq!(within(refused.read(&mut [0; 1])).await.unwrap(), 0);
        let refusals = || world.listeners.stats().values().map(|stats| stats.refused_by_cap).sum::<u64>();
        until(|| refusals() == n).await;
    }
    first.disconnect().await.unwrap();
    until(|| world.listeners.connections() == 1).await;
    world.connect(Transport::Tls, "b").await;
}

#[tokio::test]
async fn handshakes_beyond_their_bound_wait_their_turn() {
    let world = World::with(1, Settings::default(), Bounds { handshakes: 1, ..Bounds::new(1000) });
    let silent = world.tcp(Transport::Tls).await;
    until(|| world.listeners.stats()[&Transport::Tls].accepted == 1).await;
    let options = world.options(Transport::Tls, "c");
    let waiting = Client::connect(&options);
    let others = async {
        // Another listener has places of its own; when it has answered, the first had its chance to accept.
        world.connect(Transport::Wss, "d").await;
        assert_eq!(world.listeners.stats()[&Transport::Tls].accepted, 1);
        drop(silent);
    };
    within(async { tokio::join!(waiting, others) }).await.0.unwrap();
}

#[tokio::test]
async fn after_stopping_nobody_new_comes_in_and_the_others_stay() {
    let world = World::new(1);
    let mut client = world.connect(Transport::Wss, "c").await;
    world.listeners.stop_accepting();
    for transport in ALL {
        let address = world.address(transport);
        until(|| std::net::TcpStream::connect(address).is_err()).await;
    }
    client.publish("t", "x", QoS::AtLeastOnce, false).await.unwrap();
}
