//! The server's half of a WebSocket handshake, over its stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::limits::MAX_PACKET_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::Failure;
use super::upgrade::{Answer, Upgrade};

/// Largest message, bytes: a packet of the largest size, with small ones beside it. What spans more must be sent
/// as several messages, for MQTT does not mind where they end (MQTT-6.0.0-2).
const MAX_MESSAGE_BYTES: usize = MAX_PACKET_BYTES + (64 << 10);
/// Every connection has a read buffer of this size as long as it lives, so a small one.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// One read of a request, bytes.
const REQUEST_READ_BYTES: usize = 2 << 10;
/// How long a refused client may take to close, and what it may send until then: a socket that is closed with bytes
/// unread resets the connection, and the response may be lost with it.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 64 << 10;

/// Shakes hands over `stream`, whose TLS server name was `sni`. Returns what the client called the server.
///
/// # Errors
/// It is refused, and was told why, or is gone.
pub async fn websocket<S>(
    mut stream: S,
    sni: Option<Arc<str>>,
) -> Result<(WebSocketStream<S>, Option<Arc<str>>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Answer { response, verdict } = request(&mut stream, sni).await?;
    let written = write(&mut stream, &response).await;
    match verdict {
        Ok(name) => {
            written.map_err(|_| Failure::Gone)?;
            Ok((WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await, name))
        }
        Err(failure) => {
            // Whether the client waits to hear it is its own affair.
            let _ = timeout(LINGER, linger(&mut stream)).await;
            Err(failure)
        }
    }
}

async fn request<S: AsyncRead + Unpin>(stream: &mut S, sni: Option<Arc<str>>) -> Result<Answer, Failure> {
    let mut upgrade = Upgrade::new(sni);
    let mut buffer = [0; REQUEST_READ_BYTES];
    loop {
        let room = upgrade.room().min(buffer.len());
        let count = stream.read(&mut buffer[..room]).await.map_err(|_| Failure::Gone)?;
        if count == 0 {
            return Err(Failure::Gone);
        }
        if let Some(answer) = upgrade.feed(&buffer[..count]) {
            return Ok(answer);
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.flush().await
}

async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}
