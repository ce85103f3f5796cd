//! Packets over a byte stream, and the keep-alive.

use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use rookery_cluster::net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use crate::mqtt::codec::{MAX_PACKET, Packet, Sender, Version, decode, encode, split};

use super::ClientError;

/// Room made for one read, bytes.
const READ_BYTES: usize = 16 << 10;

/// A connection: what arrived and is not yet a packet, what is encoded and not yet written.
pub(super) struct Connection {
    stream: Pin<Box<dyn Stream>>,
    version: Version,
    input: BytesMut,
    output: BytesMut,
    keep_alive: Duration,
    /// Ends when a PINGREQ is due.
    quiet: Pin<Box<Sleep>>,
    /// A PINGREQ is not answered yet.
    pinged: bool,
}

impl Connection {
    pub(super) fn new(stream: Pin<Box<dyn Stream>>, version: Version, keep_alive: Duration) -> Self {
        Self {
            stream,
            version,
            input: BytesMut::new(),
            output: BytesMut::new(),
            keep_alive,
            quiet: Box::pin(tokio::time::sleep(ping_after(keep_alive))),
            pinged: false,
        }
    }

    /// Changes the keep-alive to what the server asks for.
    pub(super) fn keep_alive(&mut self, keep_alive: Duration) {
        self.keep_alive = keep_alive;
        self.quiet = Box::pin(tokio::time::sleep(ping_after(keep_alive)));
    }

    /// Queues a packet for the next flush.
    pub(super) fn send(&mut self, packet: &Packet) -> Result<(), ClientError> {
        encode(packet, self.version, &mut self.output).map(|_| ()).map_err(ClientError::Encode)
    }

    /// Writes all that is queued.
    pub(super) async fn flush(&mut self) -> Result<(), ClientError> {
        if self.output.is_empty() {
            return Ok(());
        }
        while !self.output.is_empty() {
            self.stream.write_buf(&mut self.output).await.map_err(ClientError::lost)?;
        }
        self.stream.flush().await.map_err(ClientError::lost)?;
        self.quiet = Box::pin(tokio::time::sleep(ping_after(self.keep_alive)));
        Ok(())
    }

    /// Flushes, then the next packet that arrives; sends pings while none does.
    pub(super) async fn next(&mut self) -> Result<Packet, ClientError> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            self.flush().await?;
            self.input.reserve(READ_BYTES);
            let read = tokio::select! {
                read = self.stream.read_buf(&mut self.input) => Some(read.map_err(ClientError::lost)?),
                () = self.quiet.as_mut() => None,
            };
            match read {
                Some(0) => return Err(ClientError::Closed),
                Some(_) => {}
                None if self.pinged => {
                    return Err(ClientError::Timeout { what: "pingresp", after: ping_after(self.keep_alive) });
                }
                None => {
                    self.pinged = true;
                    self.send(&Packet::Pingreq)?;
                }
            }
        }
    }

    pub(super) async fn shutdown(&mut self) -> Result<(), ClientError> {
        self.stream.shutdown().await.map_err(ClientError::lost)
    }

    fn take(&mut self) -> Result<Option<Packet>, ClientError> {
        let Some(frame) = split(&self.input, MAX_PACKET).map_err(ClientError::Decode)? else { return Ok(None) };
        let bytes = self.input.split_to(frame.total);
        let packet = decode(Some(self.version), Sender::Server, frame.first_byte, frame.body(&bytes))
            .map_err(ClientError::Decode)?;
        self.pinged &= packet != Packet::Pingresp;
        Ok(Some(packet))
    }
}

/// When to ping: early enough for the answer to come within the keep-alive. 0 is no keep-alive: a month.
fn ping_after(keep_alive: Duration) -> Duration {
    if keep_alive.is_zero() { Duration::from_secs(30 * 86_400) } else { keep_alive * 3 / 4 }
}
