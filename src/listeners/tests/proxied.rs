//! Behind a proxy that says whose connections it passes on.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Where the proxy connects from.
const PROXY: &str = "127.0.0.1";

/// Each kind of listener has an address for clients, and one for the proxy.
fn world(bounds: Bounds) -> World {
    let both: Vec<SocketAddr> = ["127.0.0.1:0", "127.0.0.2:0"].map(|at| at.parse().unwrap()).into();
    let config = ListenersConfig {
        mqtt: both.clone(),
        mqtts: both.clone(),
        ws: both.clone(),
        wss: both.clone(),
        tls: None,
        proxy: vec![both[1]],
        proxy_from: vec![PROXY.parse().unwrap()],
    };
    World::of(&config, 1, Settings::default(), bounds)
}

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

/// A header for a connection of `client`, with a note (TLV) behind the addresses.
fn of(client: &str) -> Vec<u8> {
    let note = b"\x05\x00\x02id";
    match client.parse().unwrap() {
        SocketAddr::V4(v4) => {
            let port = v4.port().to_be_bytes();
            header(0x21, 0x11, &[&v4.ip().octets()[..], &[192, 0, 2, 1], &port, &[0, 1], note].concat())
        }
        SocketAddr::V6(v6) => {
            let port = v6.port().to_be_bytes();
            header(0x21, 0x21, &[&v6.ip().octets()[..], &[0; 16], &port, &[0, 1], note].concat())
        }
    }
}

fn local() -> Vec<u8> {
    header(0x20, 0, &[])
}

async fn from_proxy(world: &World, transport: Transport) -> TcpStream {
    tcp_from(PROXY, world.listeners.local_addrs()[&transport][1]).await
}

/// Sends `header` and a CONNECT, as one piece; the socket after the CONNACK's first byte, if one came.
async fn connected(world: &World, header: &[u8]) -> Option<TcpStream> {
    let mut socket = from_proxy(world, Transport::Tcp).await;
    let _ = socket.write_all(&[header, &bytes(&[connect("c")])].concat()).await;
    (within(socket.read_u8()).await.ok() == Some(0x20)).then_some(socket)
}

#[tokio::test]
async fn the_address_in_the_header_is_the_clients() {
    let world = world(Bounds::new(1000));
    for client in ["192.0.2.7:4660", "[2001:db8::7]:4660"] {
        assert!(connected(&world, &of(client)).await.is_some());
        assert_eq!(world.fake.sources(), [client.parse().unwrap()]);
    }
    for own in [local(), header(0x20, 0x11, b"whatever it is"), header(0x21, 0, b"")] {
        let socket = connected(&world, &own).await.expect("the proxy's own connection is served");
        assert_eq!(world.fake.sources(), [socket.local_addr().unwrap()]);
    }
}

#[tokio::test]
async fn the_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let world = world(Bounds::new(1000));
    let mut socket = from_proxy(&world, Transport::Tcp).await;
    socket.set_nodelay(true).unwrap();
    for byte in [of("192.0.2.7:4660"), bytes(&[connect("c"), Packet::Pingreq]).to_vec()].concat() {
        socket.write_all(&[byte]).await.unwrap();
    }
    let mut said = Vec::new();
    while !said.ends_with(&[0xd0, 0]) {
        said.push(within(socket.read_u8()).await.unwrap());
    }
    assert_eq!(said[0], 0x20);
}

#[tokio::test]
async fn it_comes_before_tls_and_websocket() {
    let world = world(Bounds::new(1000));
    for transport in [Transport::Tls, Transport::Wss] {
        let mut socket = from_proxy(&world, transport).await;
        socket.write_all(&of("192.0.2.7:4660")).await.unwrap();
        let connector = TlsConnector::from(Arc::new(world.client_tls()));
        within(connector.connect(ServerName::try_from(NAME).unwrap(), socket)).await.unwrap();
    }
    let mut socket = from_proxy(&world, Transport::Ws).await;
    socket.write_all(&[&of("192.0.2.7:4660")[..], b"GET /other HTTP/1.1\r\n\r\n"].concat()).await.unwrap();
    let mut said = String::new();
    within(socket.read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
}

#[tokio::test]
async fn what_is_no_header_closes_and_is_counted() {
    let world = world(Bounds::new(1000));
    for (n, garbage) in (1..).zip([&b""[..], b"\r\n\r\n\0\r\nQUIX", &header(0x21, 0x12, &[0; 12])]) {
        assert!(connected(&world, garbage).await.is_none());
        until(|| world.failures(Transport::Tcp, Failure::Proxy) == n).await;
    }
    assert!(connected(&world, b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n").await.is_none());
    until(|| world.failures(Transport::Tcp, Failure::ProxyV1) == 1).await;
    let mut cut = from_proxy(&world, Transport::Wss).await;
    cut.write_all(&of("192.0.2.7:4660")[..20]).await.unwrap();
    drop(cut);
    until(|| world.failures(Transport::Wss, Failure::Gone) == 1).await;
    until(|| world.listeners.connections() == 0).await;
    assert_eq!(world.fake.sources(), []);
}

#[tokio::test]
async fn only_proxies_connect_there_and_only_there_a_header_means_something() {
    let world = world(Bounds::new(1000));
    for transport in ALL {
        let mut stranger = tcp_from("127.0.0.9", world.listeners.local_addrs()[&transport][1]).await;
        let _ = stranger.write_all(&of("192.0.2.7:4660")).await;
        assert!(is_closed(&mut stranger).await);
        until(|| world.refused(transport, Refusal::ProxySource) == 1).await;
    }
    let mut direct = tcp_from(PROXY, world.address(Transport::Tcp)).await;
    direct.write_all(&[of("192.0.2.7:4660"), bytes(&[connect("c")]).to_vec()].concat()).await.unwrap();
    assert!(is_closed(&mut direct).await, "no mqtt");
    assert_eq!(world.fake.sources(), []);
    world.connect(Transport::Tcp, "c").await;
}

#[tokio::test]
async fn the_client_has_its_share_and_the_proxy_is_not_in_the_way() {
    let world = world(Bounds { per_address: 1, ..Bounds::new(1000) });
    let _first = connected(&world, &of("192.0.2.7:1")).await.unwrap();
    assert!(connected(&world, &of("192.0.2.7:2")).await.is_none());
    until(|| world.refused(Transport::Tcp, Refusal::Address) == 1).await;
    let _others = [
        connected(&world, &of("192.0.2.8:1")).await.unwrap(),
        connected(&world, &of("[2001:db8::1]:1")).await.unwrap(),
        connected(&world, &of("[2001:db8:0:1::1]:1")).await.unwrap(),
        connected(&world, &local()).await.unwrap(),
    ];
    assert!(connected(&world, &of("[2001:db8::2]:1")).await.is_none(), "of the same /64");
    until(|| world.refused(Transport::Tcp, Refusal::Address) == 2).await;
    assert_eq!(world.listeners.connections(), 5);
}

#[tokio::test]
async fn a_header_that_does_not_end_meets_the_deadline() {
    let world = world(Bounds { deadline: Duration::from_millis(50), ..Bounds::new(1000) });
    let mut slow = from_proxy(&world, Transport::Tcp).await;
    slow.write_all(&of("192.0.2.7:4660")[..20]).await.unwrap();
    assert!(is_closed(&mut slow).await);
    until(|| world.failures(Transport::Tcp, Failure::Timeout) == 1).await;
}
