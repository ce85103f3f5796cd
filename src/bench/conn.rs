//! A connection in the hot loop: a non-blocking socket, what is not yet a packet, what is not yet written.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::mqtt::codec::{ReasonCode, Version};

use super::BenchError;
use super::setup::Link;
use super::wire::{Seen, scan};

/// Packets that a read brings are scanned where they lie; the buffer is the loop's, for all connections.
pub(super) const SCRATCH_BYTES: usize = 256 << 10;

/// A connection.
pub(super) struct Conn {
    stream: TcpStream,
    server: String,
    client_id: String,
    rest: Vec<u8>,
    pub(super) out: Vec<u8>,
    written: usize,
    /// The socket took no more; it will say when it does.
    blocked: bool,
}

impl Conn {
    /// Takes over a link that is set up.
    pub(super) fn new(link: Link, registry: &Registry, token: Token) -> Result<Self, BenchError> {
        link.stream.set_nonblocking(true)?;
        let rest = link.rest();
        let mut stream = TcpStream::from_std(link.stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (server, client_id) = (link.server, link.client_id);
        Ok(Self { stream, server, client_id, rest, out: Vec::new(), written: 0, blocked: false })
    }

    /// Reads until the socket is empty and hands over every packet. `before` is called once per read, before its
    /// packets.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        version: Version,
        mut before: impl FnMut(),
        mut on: impl FnMut(Seen, &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), BenchError> {
        loop {
            let kept = self.rest.len();
            scratch[..kept].copy_from_slice(&self.rest);
            let end = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => return Err(self.closed(None)),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(self.closed(None)),
            };
            before();
            let mut at = 0;
            while let Some((seen, len)) =
                scan(&scratch[at..end], version).map_err(|error| self.protocol(error.to_string()))?
            {
                at += len;
                if let Seen::Disconnect(code) = seen {
                    return Err(self.closed(ReasonCode::from_u8(code)));
                }
                on(seen, &mut self.out).map_err(|what| self.protocol(what))?;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&scratch[at..end]);
            // A short read emptied the socket (epoll(7)); what comes later is a new event.
            if end < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Writes what is to be written; whether nothing is left.
    pub(super) fn flush(&mut self) -> Result<bool, BenchError> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.closed(None)),
            }
        }
        self.out.clear();
        self.written = 0;
        self.blocked = false;
        Ok(true)
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether the socket took no more at the last write.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Says goodbye, if the socket takes it.
    pub(super) fn end(&mut self) {
        self.out.extend_from_slice(&[0xe0, 0]);
        // The run is over: whether the server reads it changes nothing.
        let _ = self.flush();
    }

    fn closed(&self, reason: Option<ReasonCode>) -> BenchError {
        BenchError::Closed { server: self.server.clone(), client: self.client_id.clone(), reason }
    }

    fn protocol(&self, what: String) -> BenchError {
        BenchError::Protocol { server: self.server.clone(), what }
    }
}
