//! Opening, bounds and closing.

use std::net::TcpListener as StdListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::mqtt::codec::QoS;

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_started() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = ListenersConfig { mqtt: vec![free], ws: vec![taken.1], ..ListenersConfig::default() };
    let start = |config| Listeners::start(config, Bounds::new(1), None, Vec::new(), &Handle::current());
    let error = start(&config).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {} (listeners.ws): ", taken.1)), "{text}");
    StdListener::bind(free).expect("nothing listens here");

    let error = start(&ListenersConfig { wss: vec![free], ..ListenersConfig::default() }).unwrap_err();
    assert_eq!(error.to_string(), "listeners.wss needs a certificate");
}

#[tokio::test]
async fn ipv6_serves_both_families() {
    // Machines without IPv6 have nothing to test here.
    if StdListener::bind("[::1]:0").is_err() {
        return;
    }
    let config = ListenersConfig { mqtt: vec!["[::]:0".parse().unwrap()], ..ListenersConfig::default() };
    let mailbox: Arc<Mailbox> = Arc::default();
    let listeners = Listeners::start(&config, Bounds::new(9), None, vec![mailbox.clone()], &Handle::current()).unwrap();
    let port = listeners.local_addrs()[&Transport::Tcp][0].port();
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
    let config = ListenersConfig { ws: vec!["127.0.0.1:0".parse().unwrap()], ..ListenersConfig::default() };
    let mailbox: Arc<Mailbox> = Arc::default();
    let listeners = Listeners::start(&config, Bounds::new(9), None, vec![mailbox.clone()], &Handle::current()).unwrap();
    let mut client = TcpStream::connect(listeners.local_addrs()[&Transport::Ws][0]).await.unwrap();
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
        let refusals = || ALL.map(|transport| world.refused(transport, Refusal::Connections)).iter().sum::<u64>();
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

#[tokio::test]
async fn each_address_of_a_listener_serves() {
    let mut config = on_loopback();
    config.mqtt = ["127.0.0.1:0", "127.0.0.2:0"].map(|at| at.parse().unwrap()).into();
    let world = World::of(&config, 1, Settings::default(), Bounds::new(1000));
    let addresses = &world.listeners.local_addrs()[&Transport::Tcp];
    assert_eq!(
        addresses.iter().map(|at| at.ip()).collect::<Vec<_>>(),
        config.mqtt.iter().map(|at| at.ip()).collect::<Vec<_>>()
    );
    for (n, address) in (1..).zip(addresses) {
        let options = Options { dial: Some(address.to_string()), ..world.options(Transport::Tcp, "c") };
        Client::connect(&options).await.unwrap().0.disconnect().await.unwrap();
        until(|| world.listeners.stats()[&Transport::Tcp].handed_over == n).await;
    }
}

#[tokio::test]
async fn an_address_with_its_share_gets_no_more_and_others_do() {
    let bounds = Bounds { per_address: 2, ..Bounds::new(1000) };
    let world = World::with(1, Settings::default(), bounds);
    let first = world.connect(Transport::Tcp, "a").await;
    let _second = world.connect(Transport::Wss, "b").await;
    for (n, transport) in ALL.into_iter().enumerate() {
        let mut refused = world.tcp(transport).await;
        assert!(is_closed(&mut refused).await, "{transport:?}");
        until(|| ALL.map(|at| world.refused(at, Refusal::Address)).iter().sum::<u64>() == n as u64 + 1).await;
    }
    assert_eq!(world.listeners.connections(), 2);
    let mut other = tcp_from("127.0.0.9", world.address(Transport::Tcp)).await;
    other.write_all(&bytes(&[connect("c")])).await.unwrap();
    assert_eq!(within(other.read_u8()).await.unwrap(), 0x20, "another address is served");
    first.disconnect().await.unwrap();
    until(|| world.listeners.connections() == 2).await;
    world.connect(Transport::Tls, "d").await;
}

#[tokio::test]
async fn an_address_has_so_many_handshakes_at_a_time() {
    let bounds = Bounds { handshakes_per_address: 1, ..Bounds::new(1000) };
    let world = World::with(1, Settings::default(), bounds);
    let silent = world.tcp(Transport::Tls).await;
    until(|| world.listeners.stats()[&Transport::Tls].accepted == 1).await;
    let mut refused = world.tcp(Transport::Ws).await;
    assert!(is_closed(&mut refused).await);
    until(|| world.refused(Transport::Ws, Refusal::Handshakes) == 1).await;
    let mut other = tcp_from("127.0.0.9", world.address(Transport::Ws)).await;
    other.write_all(b"\x10").await.unwrap();
    until(|| world.failures(Transport::Ws, Failure::WebSocket) == 1).await;
    // Plain MQTT has no handshake, and one that is over has none either.
    let _plain = world.connect(Transport::Tcp, "a").await;
    drop(silent);
    until(|| world.failures(Transport::Tls, Failure::Gone) == 1).await;
    let _kept = [world.connect(Transport::Tls, "b").await, world.connect(Transport::Wss, "c").await];
}
