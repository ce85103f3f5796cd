//! A client's socket, over TCP and over WebSocket (RFC 6455, by hand), that can send anything in any pieces.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How packets become writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// A write a packet.
    Whole,
    /// A write a byte.
    Bytes,
    /// As many packets a write as the case allows.
    Coalesced,
}

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    WebSocket,
}

/// An open socket.
pub struct Socket {
    stream: TcpStream,
    carrier: Carrier,
    /// What came of WebSocket frames and is not whole yet.
    frames: Vec<u8>,
    /// What came of MQTT.
    pub received: Vec<u8>,
    /// Whether the server closed.
    pub closed: bool,
}

impl Socket {
    /// Connects to `address`.
    pub async fn open(address: &str, carrier: Carrier) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (frames, received) = (Vec::new(), Vec::new());
        let mut socket = Self { stream, carrier, frames, received, closed: false };
        if carrier == Carrier::WebSocket {
            let head = socket.upgrade(address, "/mqtt", Some("mqtt")).await?;
            if !head.starts_with("http/1.1 101 ") || !head.contains("\r\nsec-websocket-protocol: mqtt\r\n") {
                return Err(format!("the upgrade was answered with {head:?}"));
            }
        }
        Ok(socket)
    }

    /// Asks for an upgrade on a socket of its own; the head of the answer, in lower case.
    pub async fn try_upgrade(address: &str, path: &str, protocol: Option<&str>) -> Result<String, String> {
        let mut socket = Self::open(address, Carrier::Tcp).await?;
        socket.upgrade(address, path, protocol).await
    }

    async fn upgrade(&mut self, host: &str, path: &str, protocol: Option<&str>) -> Result<String, String> {
        let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = self.stream.read_u8().await.map_err(|error| format!("the upgrade was not answered: {error}"))?;
            head.push(byte);
        }
        Ok(String::from_utf8_lossy(&head).to_lowercase())
    }

    /// Writes `bytes` in `pieces`. That the server does not take them is seen when reading.
    pub async fn send(&mut self, bytes: &[u8], pieces: Pieces) {
        if pieces == Pieces::Bytes {
            for byte in bytes {
                self.send_piece(&[*byte]).await;
            }
        } else {
            self.send_piece(bytes).await;
        }
    }

    async fn send_piece(&mut self, bytes: &[u8]) {
        match self.carrier {
            Carrier::Tcp => {
                let _ = self.stream.write_all(bytes).await;
            }
            Carrier::WebSocket => self.send_frame(2, bytes).await,
        }
    }

    /// A WebSocket frame of that kind: 1 is text, 2 binary.
    pub async fn send_frame(&mut self, kind: u8, bytes: &[u8]) {
        let mask = [0x5a, 0xa5, 0x0f, 0xf0];
        let mut frame = vec![0x80 | kind];
        match bytes.len() {
            short if short < 126 => frame.push(0x80 | short as u8),
            middle if middle < 1 << 16 => {
                frame.push(0x80 | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        let _ = self.stream.write_all(&frame).await;
    }

    /// Takes what comes next, waiting at most `patience`.
    pub async fn read(&mut self, patience: Duration) -> Result<(), String> {
        let mut chunk = [0; 16 << 10];
        let got = timeout(patience, self.stream.read(&mut chunk)).await.map_err(|_| "nothing comes".to_owned())?;
        // A reset is a close as well.
        let length = got.unwrap_or(0);
        self.closed |= length == 0;
        match self.carrier {
            Carrier::Tcp => self.received.extend(&chunk[..length]),
            Carrier::WebSocket => {
                self.frames.extend(&chunk[..length]);
                self.unwrap_frames().await?;
            }
        }
        Ok(())
    }

    async fn unwrap_frames(&mut self) -> Result<(), String> {
        while let Some((kind, payload, size)) = frame(&self.frames)? {
            self.frames.drain(..size);
            match kind {
                0 | 2 => self.received.extend(payload),
                8 => self.closed = true,
                9 => self.send_frame(10, &payload).await,
                10 => {}
                other => return Err(format!("the server sent a websocket frame of kind {other}")),
            }
        }
        Ok(())
    }

    /// Ends it without a word. What waits is thrown away, so that the server sees a reset, or a close.
    pub fn drop_it(self) {
        drop(self.stream);
    }
}

/// The first frame of `bytes`: kind, payload, size.
fn frame(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err("the server masks its websocket frames".into());
    }
    let (length, head) = match second & 0x7f {
        126 => {
            let Some(length) = rest.first_chunk::<2>() else { return Ok(None) };
            (usize::from(u16::from_be_bytes(*length)), 4)
        }
        127 => {
            let Some(length) = rest.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*length) as usize, 10)
        }
        short => (usize::from(short), 2),
    };
    let Some(payload) = bytes.get(head..head + length) else { return Ok(None) };
    Ok(Some((first & 0x0f, payload.to_vec(), head + length)))
}
