//! WebSocket as bytes: frames by a client that can send anything.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::broker::transport::Offence;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// A frame of a client, its mask all zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The beginning of a frame of `length` bytes.
fn long(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

async fn upgraded(world: &World) -> TcpStream {
    let mut socket = world.tcp(Transport::Ws).await;
    // Browsers send it as one piece, and nothing says that others do.
    socket.set_nodelay(true).unwrap();
    for byte in REQUEST.bytes() {
        socket.write_all(&[byte]).await.unwrap();
    }
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(within(socket.read_u8()).await.unwrap()));
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
    socket
}

/// The next frame of the server: its first byte and its payload.
async fn answer(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let (first, length) = (within(socket.read_u8()).await.unwrap(), within(socket.read_u8()).await.unwrap());
    assert!(length < 126, "the server does not mask, and says nothing long here");
    let mut payload = vec![0; usize::from(length)];
    within(socket.read_exact(&mut payload)).await.unwrap();
    (first, payload)
}

/// As [`upgraded`], with the CONNACK read.
async fn admitted(world: &World) -> TcpStream {
    let mut socket = upgraded(world).await;
    socket.write_all(&frame(BINARY, &bytes(&[connect("c")]))).await.unwrap();
    let (first, payload) = answer(&mut socket).await;
    assert_eq!((first, payload[0]), (BINARY, 0x20));
    socket
}

#[tokio::test]
async fn an_offence_is_answered_with_its_close_code_and_counted() {
    let world = World::new(1);
    let mut unmasked = frame(BINARY, b"\xc0\0");
    unmasked[1] &= 0x7f;
    unmasked.drain(2..6);
    let endless = [frame(0x02, b"\xc0\0"), long(0x00, 2 << 20)].concat();
    let mut counted = std::collections::BTreeMap::new();
    for (bytes, code, offence) in [
        (frame(TEXT, b"text"), 1003, Offence::Text),
        (frame(TEXT, b"\xff"), 1003, Offence::Text),
        (unmasked, 1002, Offence::Protocol),
        (frame(BINARY | 0x40, b"\xc0\0"), 1002, Offence::Protocol),
        (frame(0x83, b""), 1002, Offence::Protocol),
        (frame(0x80, b"continues nothing"), 1002, Offence::Protocol),
        (frame(0x09, b"a ping in parts"), 1002, Offence::Protocol),
        ([frame(0x02, b"\xc0"), frame(BINARY, b"\0")].concat(), 1002, Offence::Protocol),
        (long(BINARY, 2 << 20), 1009, Offence::TooLarge),
        (long(BINARY, u64::MAX >> 1), 1009, Offence::TooLarge),
        (endless, 1009, Offence::TooLarge),
    ] {
        let mut socket = admitted(&world).await;
        // More of the same does not hide the code behind a reset.
        let _ = socket.write_all(&[&bytes[..], &[0; 200_000]].concat()).await;
        let (first, payload) = answer(&mut socket).await;
        assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (CLOSE, code), "{bytes:x?}");
        assert_eq!(within(socket.read(&mut [0; 1])).await.unwrap(), 0, "{bytes:x?}");
        drop(socket);
        until(|| world.listeners.connections() == 0).await;
        *counted.entry(offence.label()).or_insert(0) += 1;
    }
    until(|| world.workers[0].stats().read().0.transport_errors == counted).await;
    until(|| world.workers[0].stats().read().1 == 0).await;
}

#[tokio::test]
async fn a_message_may_come_in_frames_with_pings_between() {
    let world = World::new(1);
    let mut socket = upgraded(&world).await;
    let packet = bytes(&[connect("c"), Packet::Pingreq]);
    for (at, byte) in packet.iter().enumerate() {
        let first = if at == 0 { 0x02 } else { 0x00 } | if at + 1 == packet.len() { 0x80 } else { 0 };
        socket.write_all(&frame(first, &[*byte])).await.unwrap();
        if at == 3 {
            socket.write_all(&frame(PING, b"there?")).await.unwrap();
            assert_eq!(answer(&mut socket).await, (0x8a, b"there?".to_vec()));
        }
    }
    let mut said = Vec::new();
    while !said.ends_with(&[0xd0, 0]) {
        let (first, payload) = answer(&mut socket).await;
        assert_eq!(first, BINARY);
        said.extend(payload);
    }
    assert_eq!(said[0], 0x20);
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_holds_nobody_up() {
    let world = World::new(1);
    let mut flood = admitted(&world).await;
    flood.write_all(&frame(PING, b"x").repeat(1000)).await.unwrap();
    flood.write_all(&frame(BINARY, &bytes(&[Packet::Pingreq]))).await.unwrap();
    loop {
        let (first, payload) = answer(&mut flood).await;
        assert!(first == 0x8a || (first == BINARY && payload == [0xd0, 0]));
        if first == BINARY {
            break;
        }
    }
    world.connect(Transport::Ws, "other").await;
}

#[tokio::test]
async fn a_close_is_answered() {
    let world = World::new(1);
    for (payload, answered) in [(&b""[..], &b""[..]), (b"\x03\xe8bye", b"\x03\xe8bye"), (b"\x03\xe9", b"\x03\xe9")] {
        let mut socket = admitted(&world).await;
        socket.write_all(&frame(CLOSE, payload)).await.unwrap();
        assert_eq!(answer(&mut socket).await, (CLOSE, answered.to_vec()));
        assert!(is_closed(&mut socket).await);
        until(|| world.listeners.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_refused_request_has_its_status_and_an_end() {
    let world = World::new(1);
    let cases = [
        (REQUEST.replace("mqtt HTTP", "other HTTP"), "404", Failure::Path),
        (REQUEST.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400", Failure::Subprotocol),
        (REQUEST.replace("Upgrade: websocket\r\n", ""), "426", Failure::WebSocket),
        (REQUEST.replace("GET", "PUT"), "405", Failure::WebSocket),
        (format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(20_000)), "431", Failure::TooLarge),
    ];
    for (request, status, failure) in cases {
        let before = world.failures(Transport::Ws, failure);
        let mut socket = world.tcp(Transport::Ws).await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        within(socket.read_to_string(&mut said)).await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        drop(socket);
        until(|| world.failures(Transport::Ws, failure) == before + 1).await;
    }
    let mut no_http = world.tcp(Transport::Ws).await;
    no_http.write_all(&bytes(&[connect("mqtt at the websocket's port")])).await.unwrap();
    assert!(is_closed(&mut no_http).await, "without waiting for the deadline");
    until(|| world.listeners.connections() == 0).await;
}
