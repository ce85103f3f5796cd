//! One way of connecting at a time: what gets through, and what is refused.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::mqtt::codec::{QoS, Sender, decode, split};

#[tokio::test]
async fn a_round_trip_over_each_transport() {
    let world = World::new(1);
    for transport in ALL {
        for version in [Version::V5, Version::V311] {
            let mut client = {
                let options = Options { version, ..world.options(transport, "c") };
                Client::connect(&options).await.unwrap().0
            };
            let named = (transport != Transport::Tcp).then(|| NAME.into());
            assert_eq!(world.fake.names(), [named], "{transport:?}");
            let granted = client.subscribe(&[("t/#", QoS::AtLeastOnce)]).await.unwrap();
            assert_eq!(granted, [ReasonCode::GRANTED_QOS_1]);
            // Small, larger than a TLS record or a read buffer, and nearly as large as a packet may be.
            for size in [1, 100_000, 1_000_000] {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                    client.publish("t/1", vec![7; size], qos, false).await.unwrap();
                    let got = message(&mut client).await;
                    assert_eq!((got.topic.as_str(), got.qos), ("t/1", qos));
                    assert_eq!(got.payload, vec![7; size], "{transport:?}");
                }
            }
            client.disconnect().await.unwrap();
            until(|| world.listeners.connections() == 0).await;
        }
    }
    for stats in world.listeners.stats().values() {
        assert_eq!(*stats, ListenerStats { accepted: 2, handed_over: 2, ..ListenerStats::default() });
    }
}

/// Performs the client's half of a WebSocket handshake.
async fn upgrade(
    world: &World,
    transport: Transport,
    host: &str,
    path: &str,
    protocol: Option<&'static str>,
) -> Result<WebSocketStream<Pin<Box<dyn Stream>>>, Error> {
    let mut request = format!("ws://{host}{path}").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
    }
    let below = world.below_websocket(transport).await;
    Ok(within(tokio_tungstenite::client_async(request, below)).await?.0)
}

#[tokio::test]
async fn requests_that_are_not_for_mqtt_get_an_http_status() {
    let world = World::new(1);
    let cases = [
        (Transport::Ws, "any", "/other", Some("mqtt"), StatusCode::NOT_FOUND, Failure::Path),
        (Transport::Ws, "any", "/mqtt/x", Some("mqtt"), StatusCode::NOT_FOUND, Failure::Path),
        (Transport::Ws, "any", "/mqtt", None, StatusCode::BAD_REQUEST, Failure::Subprotocol),
        (Transport::Wss, NAME, "/mqtt", Some("soap,wamp"), StatusCode::BAD_REQUEST, Failure::Subprotocol),
        (Transport::Wss, "other.acme.rookery.localhost", "/mqtt", Some("mqtt"), StatusCode::BAD_REQUEST, Failure::Host),
    ];
    for (transport, host, path, protocol, status, failure) in cases {
        let before = world.failures(transport, failure);
        match upgrade(&world, transport, host, path, protocol).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{path} {protocol:?}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        until(|| world.failures(transport, failure) == before + 1).await;
    }
    for path in ["/", "/mqtt", "/mqtt?a=b"] {
        upgrade(&world, Transport::Ws, "any", path, Some("x, mqtt")).await.unwrap();
    }
    until(|| world.listeners.connections() == 0).await;
}

/// Packets from the server until `count` have come.
async fn packets(socket: &mut WebSocketStream<Pin<Box<dyn Stream>>>, count: usize) -> Vec<Packet> {
    let (mut input, mut all) = (BytesMut::new(), Vec::new());
    while all.len() < count {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Binary(bytes) => input.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
        while let Some(frame) = split(&input, usize::MAX).unwrap() {
            let packet = input.split_to(frame.total);
            all.push(decode(Some(Version::V5), Sender::Server, frame.first_byte, frame.body(&packet)).unwrap());
        }
    }
    all
}

#[tokio::test]
async fn packets_and_websocket_messages_need_not_end_together() {
    let world = World::new(1);
    for transport in [Transport::Ws, Transport::Wss] {
        let mut socket = upgrade(&world, transport, NAME, "/mqtt", Some("mqtt")).await.unwrap();
        for byte in bytes(&[connect("split"), Packet::Pingreq]) {
            socket.send(Message::Binary(vec![byte].into())).await.unwrap();
        }
        let got = packets(&mut socket, 2).await;
        assert!(matches!(&got[..], [Packet::Connack(_), Packet::Pingresp]), "{got:?}");
        socket.send(Message::Binary(bytes(&[Packet::Pingreq, Packet::Pingreq, Packet::Pingreq]))).await.unwrap();
        assert_eq!(packets(&mut socket, 3).await.len(), 3);
        // Ping frames are the WebSocket's own affair.
        socket.send(Message::Ping("x".into())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::Pong("x".into()));
    }
}

#[tokio::test]
async fn what_is_not_tls_is_counted_and_closed() {
    let world = World::new(1);
    let mut garbage = world.tcp(Transport::Tls).await;
    garbage.write_all(&bytes(&[connect("plain mqtt at the tls port")])).await.unwrap();
    let mut rest = Vec::new();
    // An alert may come before the end, or a reset instead of it.
    let _ = within(garbage.read_to_end(&mut rest)).await;
    until(|| world.failures(Transport::Tls, Failure::Tls) == 1).await;
    let gone = world.tcp(Transport::Wss).await;
    drop(gone);
    until(|| world.failures(Transport::Wss, Failure::Gone) == 1).await;
    let refused = TlsConnector::from(Arc::new(world.client_tls()))
        .connect(ServerName::try_from("none.acme.rookery.localhost").unwrap(), world.tcp(Transport::Tls).await);
    assert!(within(refused).await.is_err());
    until(|| world.failures(Transport::Tls, Failure::Tls) == 2).await;
    assert_eq!(world.listeners.connections(), 0);
}
