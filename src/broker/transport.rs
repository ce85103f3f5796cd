//! A client's byte stream, whatever carries it: TCP, TLS, WebSocket, or WebSocket over TLS.
//!
//! Handshakes happen on the control plane's threads (R18); then the socket moves, once, to its worker's
//! runtime: it is parked there and attached here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::Seat;
use super::core::Outbound;

/// Slices of one vectored write: enough for a turn's shared payloads, small enough for the stack.
const SLICES: usize = 32;

/// A TCP socket that can change runtimes.
#[derive(Debug)]
pub struct Movable {
    socket: Option<TcpStream>,
    parked: Option<std::net::TcpStream>,
    /// Given back with the socket.
    _seat: Option<Seat>,
}

impl Movable {
    /// A socket of the current runtime.
    pub fn new(socket: TcpStream) -> Self {
        Self { socket: Some(socket), parked: None, _seat: None }
    }

    /// A socket of the current runtime that occupies `seat` until it is dropped.
    pub fn seated(socket: TcpStream, seat: Seat) -> Self {
        Self { _seat: Some(seat), ..Self::new(socket) }
    }

    /// Takes the socket out of the current runtime.
    pub fn park(&mut self) -> io::Result<()> {
        if let Some(socket) = self.socket.take() {
            self.parked = Some(socket.into_std()?);
        }
        Ok(())
    }

    /// Registers the socket with the current runtime.
    pub fn attach(&mut self) -> io::Result<()> {
        if let Some(parked) = self.parked.take() {
            self.socket = Some(TcpStream::from_std(parked)?);
        }
        Ok(())
    }

    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Movable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Movable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(cx)
    }
}

/// A client's stream.
pub enum Incoming {
    /// Bytes over TCP.
    Tcp(Movable),
    /// Bytes over TLS.
    Tls(Box<TlsStream<Movable>>),
    /// WebSocket messages over TCP.
    Ws(Box<WebSocketStream<Movable>>),
    /// WebSocket messages over TLS.
    Wss(Box<WebSocketStream<TlsStream<Movable>>>),
}

/// What a read brought.
pub enum Read {
    /// That many bytes are in the buffer.
    Filled(usize),
    /// A message of its own.
    Message(Bytes),
    /// The client closed.
    End,
}

impl Incoming {
    fn movable(&mut self) -> &mut Movable {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(tls) => tls.get_mut().0,
            Self::Ws(ws) => ws.get_mut(),
            Self::Wss(ws) => ws.get_mut().get_mut().0,
        }
    }

    /// See [`Movable::park`].
    pub fn park(&mut self) -> io::Result<()> {
        self.movable().park()
    }

    /// See [`Movable::attach`].
    pub fn attach(&mut self) -> io::Result<()> {
        self.movable().attach()
    }

    /// Reads what is there.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Read>> {
        match self {
            Self::Tcp(socket) => poll_bytes(Pin::new(socket), cx, buf),
            Self::Tls(tls) => poll_bytes(Pin::new(&mut **tls), cx, buf),
            Self::Ws(ws) => poll_message(Pin::new(&mut **ws), cx),
            Self::Wss(ws) => poll_message(Pin::new(&mut **ws), cx),
        }
    }

    /// Writes what waits, until all of it is written (`Ready`) or the socket is full.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut Outbound) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => poll_drain(Pin::new(socket), cx, out),
            Self::Tls(tls) => {
                ready!(poll_drain(Pin::new(&mut **tls), cx, out))?;
                Pin::new(&mut **tls).poll_flush(cx)
            }
            Self::Ws(ws) => poll_send(Pin::new(&mut **ws), cx, out),
            Self::Wss(ws) => poll_send(Pin::new(&mut **ws), cx, out),
        }
    }

    /// Says goodbye in the transport's own way.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::Ws(ws) => Pin::new(&mut **ws).poll_close(cx).map_err(to_io),
            Self::Wss(ws) => Pin::new(&mut **ws).poll_close(cx).map_err(to_io),
        }
    }
}

fn poll_bytes<T: AsyncRead>(from: Pin<&mut T>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Read>> {
    let mut buf = ReadBuf::new(buf);
    ready!(from.poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(match buf.filled().len() {
        0 => Read::End,
        n => Read::Filled(n),
    }))
}

fn poll_drain<T: AsyncWrite>(mut to: Pin<&mut T>, cx: &mut Context<'_>, out: &mut Outbound) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = out.slices(&mut slices);
        let n = ready!(to.as_mut().poll_write_vectored(cx, &slices[..used]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(n);
    }
    Poll::Ready(Ok(()))
}

fn poll_message<T>(mut ws: Pin<&mut WebSocketStream<T>>, cx: &mut Context<'_>) -> Poll<io::Result<Read>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let read = match ready!(ws.as_mut().poll_next(cx)) {
            None | Some(Ok(Message::Close(_))) => Read::End,
            Some(Ok(Message::Binary(bytes))) => Read::Message(bytes),
            // A ping is answered by the library; MQTT-6.0.0-1 allows no text.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a websocket message that is not binary",
                )));
            }
            Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
        };
        return Poll::Ready(Ok(read));
    }
}

fn poll_send<T>(mut ws: Pin<&mut WebSocketStream<T>>, cx: &mut Context<'_>, out: &mut Outbound) -> Poll<io::Result<()>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // The sink is asked first: what was given to it is no longer counted against the client's bound, so it gets
    // the next piece only when the last one is with the socket.
    ready!(ws.as_mut().poll_flush(cx)).map_err(to_io)?;
    while !out.is_empty() {
        ready!(ws.as_mut().poll_ready(cx)).map_err(to_io)?;
        ws.as_mut().start_send(Message::Binary(out.take())).map_err(to_io)?;
        ready!(ws.as_mut().poll_flush(cx)).map_err(to_io)?;
    }
    Poll::Ready(Ok(()))
}

fn to_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
