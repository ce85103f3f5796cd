//! A malformed packet ends its own connection, with the standard's reason code where there is one, and nobody else's.

use rookery::mqtt::codec::QoS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{connect as admitted, credentials, next_message, start};
use rookery_jepsen::cluster::DEADLINE;

/// A CONNECT of that protocol level with the client ID and token.
pub fn connect(level: u8, client: &str, token: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT".to_vec();
    body.extend([level, 0xc2, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    for text in [client, "anything", token] {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = vec![0x10];
    let mut length = body.len();
    while length >= 128 {
        packet.push((length % 128) as u8 | 128);
        length /= 128;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

/// What the server sends until it closes.
async fn answers(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket.write_all(bytes).await.expect("is taken");
    let mut said = Vec::new();
    // A reset is a close as well.
    let _ = timeout(DEADLINE, socket.read_to_end(&mut said)).await.expect("the server closes");
    said
}

#[tokio::test]
async fn t40_malformed_packets_end_their_own_connection() {
    let cluster = start(1).await;
    let [(bad, bad_token), good] = credentials(&cluster).try_into().expect("dev issues two credentials");
    let mut bystander = admitted(&cluster, 1, &good).await;
    bystander.subscribe(&[("t", QoS::AtLeastOnce)]).await.expect("subscribes");
    let address = &cluster.info().node(1).mqtt;

    // Before a CONNECT nothing is answered but the socket.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00\x00", b"\x30\x03\x00\x01t", b"\x10\xff\xff\xff\xff\x01"] {
        answers(address, garbage).await;
    }
    // (packet after the CONNECT of 5.0, reason code of the DISCONNECT, the packet of 3.1.1)
    let malformed: [(&[u8], u8, &[u8]); 4] = [
        (b"\x36\x06\x00\x01t\x00\x01\x00", 0x81, b"\x36\x05\x00\x01t\x00\x01"), // QoS 3
        (b"\x30\x05\x00\x02t\xff\x00", 0x81, b"\x30\x04\x00\x02t\xff"),         // a topic that is not UTF-8
        (b"\x82\x05\x00\x01\x00\x00\x01", 0x81, b"\x82\x04\x00\x01\x00\x02"),   // a filter that ends too early
        (b"\x10\x00", 0x82, b"\x10\x00"),                                       // a second CONNECT
    ];
    for (packet, reason, older) in malformed {
        let said = answers(address, &[&connect(5, &bad, &bad_token), packet].concat()).await;
        assert_eq!(said.first(), Some(&0x20), "{packet:x?} after a CONNACK: {said:x?}");
        let disconnect = &said[usize::from(said[1]) + 2..];
        assert_eq!(disconnect.first(), Some(&0xe0), "{packet:x?} is answered with DISCONNECT: {said:x?}");
        assert_eq!(disconnect.get(2), Some(&reason), "{packet:x?}: {said:x?}");
        let said = answers(address, &[&connect(4, &bad, &bad_token), older].concat()).await;
        assert_eq!(said, [0x20, 2, 0, 0], "3.1.1 has only the socket to say it with");
    }
    let mut publisher = admitted(&cluster, 1, &(bad, bad_token)).await;
    publisher.publish("t", "still here", QoS::AtLeastOnce, false).await.expect("is acknowledged");
    assert_eq!(next_message(&mut bystander).await.1, "still here");
}
