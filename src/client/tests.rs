use std::pin::Pin;

use bytes::BytesMut;
use rookery_cluster::net::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

use super::*;
use crate::mqtt::codec::{MAX_PACKET, Sender, Suback, decode, encode, split};

/// A server that expects packets and answers, one client, packet by packet.
struct Script {
    stream: Pin<Box<dyn Stream>>,
    input: BytesMut,
    version: Option<Version>,
}

impl Script {
    async fn listen() -> (TcpListener, Options) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        (listener, Options::new(url.parse().unwrap()))
    }

    async fn accept(listener: TcpListener) -> (Self, Connect) {
        Self::accept_on(Box::pin(listener.accept().await.unwrap().0)).await
    }

    async fn accept_on(stream: Pin<Box<dyn Stream>>) -> (Self, Connect) {
        let mut script = Self { stream, input: BytesMut::new(), version: None };
        let Packet::Connect(connect) = script.expect().await else { panic!("no connect") };
        script.version = Some(connect.version);
        (script, *connect)
    }

    async fn expect(&mut self) -> Packet {
        loop {
            if let Some(frame) = split(&self.input, MAX_PACKET).unwrap() {
                let bytes = self.input.split_to(frame.total);
                return decode(self.version, Sender::Client, frame.first_byte, frame.body(&bytes)).unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0);
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        encode(&packet, self.version.unwrap(), &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn welcome(&mut self) {
        self.send(Packet::Connack(Box::new(Connack::new(false, ReasonCode::SUCCESS)))).await;
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn from_server(topic: &str, qos: QoS, number: u16) -> Packet {
    Packet::Publish(Box::new(Publish { packet_id: PacketId::new(number), ..message(topic, "x", qos) }))
}

#[tokio::test]
async fn a_refusal_names_its_code_in_both_versions() {
    for (version, expected) in [(Version::V5, ReasonCode::BANNED), (Version::V311, ReasonCode::NOT_AUTHORIZED)] {
        let (listener, options) = Script::listen().await;
        let server = async {
            let (mut script, _) = Script::accept(listener).await;
            script.send(Packet::Connack(Box::new(Connack::new(false, ReasonCode::BANNED)))).await;
        };
        let options = Options { version, ..options };
        let (result, ()) = tokio::join!(Client::connect(&options), server);
        let Err(ClientError::Refused { reason, .. }) = result else { panic!("not refused") };
        assert_eq!(reason, expected);
    }
}

#[tokio::test]
async fn credentials_and_the_assigned_client_id() {
    let (listener, mut options) = Script::listen().await;
    options.user_name = Some("anything".into());
    options.password = Some("token".into());
    let server = async {
        let (mut script, connect) = Script::accept(listener).await;
        let mut connack = Connack::new(false, ReasonCode::SUCCESS);
        connack.properties.assigned_client_id = Some("given".into());
        script.send(Packet::Connack(Box::new(connack))).await;
        connect
    };
    let (client, connect) = tokio::join!(Client::connect(&options), server);
    assert_eq!(client.unwrap().0.client_id(), "given");
    assert_eq!((connect.user_name.as_deref(), connect.password.as_deref()), (Some("anything"), Some(&b"token"[..])));
}

#[tokio::test]
async fn messages_that_arrive_while_an_answer_is_awaited_are_kept_in_order() {
    let (listener, options) = Script::listen().await;
    let server = async {
        let (mut script, _) = Script::accept(listener).await;
        script.welcome().await;
        let Packet::Subscribe(subscribe) = script.expect().await else { panic!("no subscribe") };
        script.send(from_server("a", QoS::AtMostOnce, 0)).await;
        script.send(from_server("b", QoS::AtLeastOnce, 7)).await;
        let reasons = vec![ReasonCode::GRANTED_QOS_1];
        let answer = Suback { packet_id: subscribe.packet_id, reasons, properties: Default::default() };
        script.send(Packet::Suback(answer)).await;
        assert_eq!(script.expect().await, Packet::Puback(Ack::new(id(7), ReasonCode::SUCCESS)));
    };
    let client = async {
        let (mut client, _) = Client::connect(&options).await.unwrap();
        assert_eq!(client.subscribe(&[("#", QoS::AtLeastOnce)]).await.unwrap(), [ReasonCode::GRANTED_QOS_1]);
        for topic in ["a", "b"] {
            let Event::Message(message) = client.next().await.unwrap() else { panic!("no message") };
            assert_eq!(message.topic, topic);
        }
        client.flush().await.unwrap();
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn qos_2_both_ways_delivers_once() {
    let (listener, options) = Script::listen().await;
    let server = async {
        let (mut script, _) = Script::accept(listener).await;
        script.welcome().await;
        let Packet::Publish(publish) = script.expect().await else { panic!("no publish") };
        let packet_id = publish.packet_id.unwrap();
        script.send(Packet::Pubrec(Ack::new(packet_id, ReasonCode::SUCCESS))).await;
        assert_eq!(script.expect().await, Packet::Pubrel(Ack::new(packet_id, ReasonCode::SUCCESS)));
        script.send(from_server("once", QoS::ExactlyOnce, 9)).await;
        script.send(from_server("once", QoS::ExactlyOnce, 9)).await;
        script.send(Packet::Pubcomp(Ack::new(packet_id, ReasonCode::SUCCESS))).await;
        let rec = Packet::Pubrec(Ack::new(id(9), ReasonCode::SUCCESS));
        assert_eq!((script.expect().await, script.expect().await), (rec.clone(), rec));
        script.send(Packet::Pubrel(Ack::new(id(9), ReasonCode::SUCCESS))).await;
        assert_eq!(script.expect().await, Packet::Pubcomp(Ack::new(id(9), ReasonCode::SUCCESS)));
        script.send(Packet::Disconnect(Disconnect::new(ReasonCode::SESSION_TAKEN_OVER))).await;
    };
    let client = async {
        let (mut client, _) = Client::connect(&options).await.unwrap();
        client.publish("t", "x", QoS::ExactlyOnce, false).await.unwrap();
        assert!(matches!(client.next().await, Ok(Event::Message(_))));
        let Err(ClientError::Disconnected { reason, .. }) = client.next().await else { panic!("not disconnected") };
        assert_eq!(reason, ReasonCode::SESSION_TAKEN_OVER);
    };
    tokio::join!(client, server);
}

#[tokio::test]
async fn a_refused_publish_is_an_error_and_the_connection_goes_on() {
    let (listener, options) = Script::listen().await;
    let server = async {
        let (mut script, _) = Script::accept(listener).await;
        script.welcome().await;
        let Packet::Publish(publish) = script.expect().await else { panic!("no publish") };
        let ack = Ack::new(publish.packet_id.unwrap(), ReasonCode::QUOTA_EXCEEDED);
        script.send(Packet::Puback(ack)).await;
        assert_eq!(script.expect().await, Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)));
    };
    let client = async {
        let (mut client, _) = Client::connect(&options).await.unwrap();
        let error = client.publish("t", "x", QoS::AtLeastOnce, false).await.unwrap_err();
        assert_eq!(error.to_string(), "publish failed: 0x97 quota exceeded");
        client.disconnect().await.unwrap();
    };
    tokio::join!(client, server);
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn answer_mqtt(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let wanted = request.headers().get("Sec-WebSocket-Protocol").cloned();
    assert_eq!(wanted.as_ref().map(|value| value.as_bytes()), Some(&b"mqtt"[..]));
    response.headers_mut().extend([(SEC_WEBSOCKET_PROTOCOL, wanted.unwrap())]);
    Ok(response)
}

#[tokio::test]
async fn over_a_websocket() {
    let (listener, mut options) = Script::listen().await;
    options.url.scheme = Scheme::Ws;
    let server = async {
        let tcp = listener.accept().await.unwrap().0;
        let socket = tokio_tungstenite::accept_hdr_async(tcp, answer_mqtt).await.unwrap();
        let (mut script, _) = Script::accept_on(Box::pin(ws::WsStream::new(socket))).await;
        script.welcome().await;
        let Packet::Publish(publish) = script.expect().await else { panic!("no publish") };
        assert_eq!(publish.payload.len(), 100_000);
    };
    let client = async {
        let (mut client, _) = Client::connect(&options).await.unwrap();
        client.publish("t", vec![0; 100_000], QoS::AtMostOnce, false).await.unwrap();
    };
    tokio::join!(client, server);
}

#[test]
fn urls() {
    let parsed = |text: &str| text.parse::<ServerUrl>().map(|url| url.to_string()).map_err(|e| e.to_string());
    assert_eq!(parsed("mqtts://b.n.example.com").unwrap(), "mqtts://b.n.example.com:8883");
    assert_eq!(parsed("mqtt://[::1]:1884").unwrap(), "mqtt://[::1]:1884");
    assert_eq!(parsed("wss://h").unwrap(), "wss://h:8884/mqtt");
    assert_eq!(parsed("ws://h:80/x/y").unwrap(), "ws://h:80/x/y");
    for bad in ["host:1883", "http://h", "mqtt://", "mqtt://h:0", "mqtt://h:x", "mqtt://u@h", "mqtt://[::1"] {
        assert!(parsed(bad).unwrap_err().contains("is not a server's URL"), "{bad}");
    }
}
