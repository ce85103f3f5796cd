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
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use super::core::Outbound;
use super::{Seat, Source};

/// Slices of one vectored write: enough for a turn's shared payloads, small enough for the stack.
const SLICES: usize = 32;
/// WebSocket messages that are not MQTT's (pings) taken in one read: a flood of them costs its own connection's time.
const ASIDES_PER_READ: u32 = 32;

/// A TCP socket that can change runtimes.
#[derive(Debug)]
pub struct Movable {
    socket: Option<TcpStream>,
    parked: Option<std::net::TcpStream>,
    /// Given back with the socket.
    seat: Seat,
}

impl Movable {
    /// A non-blocking socket of no runtime yet, which occupies `seat` until it is dropped.
    pub fn parked(socket: std::net::TcpStream, seat: Seat) -> Self {
        Self { socket: None, parked: Some(socket), seat }
    }

    /// Counts its seat as one of `source`; `false` if that has all that it may have.
    #[must_use]
    pub fn settle(&mut self, source: Source) -> bool {
        self.seat.settle(source)
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

/// A client's stream over `S`, which is a TCP socket but for those who try what else a client may send.
pub enum Incoming<S = Movable> {
    /// Bytes over TCP.
    Tcp(S),
    /// Bytes over TLS.
    Tls(Box<TlsStream<S>>),
    /// WebSocket messages over TCP.
    Ws(Box<WebSocketStream<S>>),
    /// WebSocket messages over TLS.
    Wss(Box<WebSocketStream<TlsStream<S>>>),
}

/// What a read brought.
pub enum Read {
    /// That many bytes are in the buffer.
    Filled(usize),
    /// A message of its own.
    Message(Bytes),
    /// The client closed.
    End,
    /// The client broke the rules of its transport: a close frame that says so waits to be flushed.
    Offence(Offence),
}

/// How a client breaks the rules of WebSocket, or MQTT's for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// A text message (MQTT-6.0.0-1); close code 1003.
    Text,
    /// A frame that is against RFC 6455; close code 1002.
    Protocol,
    /// A message larger than the listener's bound; close code 1009.
    TooLarge,
}

impl Offence {
    /// The label of the counter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
        }
    }

    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::Text => (CloseCode::Unsupported, "mqtt is sent in binary messages"),
            Self::Protocol => (CloseCode::Protocol, ""),
            Self::TooLarge => (CloseCode::Size, ""),
        };
        CloseFrame { code, reason: reason.into() }
    }

    /// What `error` says of the client; `None` if it is none of its doing, or it just went away.
    fn of(error: &tungstenite::Error) -> Option<Self> {
        match error {
            // Text that is no text is text all the same.
            tungstenite::Error::Utf8(_) => Some(Self::Text),
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            tungstenite::Error::Protocol(_) => Some(Self::Protocol),
            tungstenite::Error::Capacity(_) => Some(Self::TooLarge),
            _ => None,
        }
    }
}

impl Incoming {
    /// See [`Movable::park`].
    pub fn park(&mut self) -> io::Result<()> {
        self.socket().park()
    }

    /// See [`Movable::attach`].
    pub fn attach(&mut self) -> io::Result<()> {
        self.socket().attach()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    fn socket(&mut self) -> &mut S {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(tls) => tls.get_mut().0,
            Self::Ws(ws) => ws.get_mut(),
            Self::Wss(ws) => ws.get_mut().get_mut().0,
        }
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

    /// Takes whatever bytes still come, in the transport's stead; `End` when the client closed its socket.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Read>> {
        poll_bytes(Pin::new(self.socket()), cx, buf)
    }

    /// Tells the client's socket that nothing more comes.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket()).poll_shutdown(cx)
    }

    /// Whether the transport's goodbye is more than the end of the bytes.
    pub fn has_goodbye(&self) -> bool {
        !matches!(self, Self::Tcp(_))
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
    for _ in 0..ASIDES_PER_READ {
        let offence = match ready!(ws.as_mut().poll_next(cx)) {
            None => return Poll::Ready(Ok(Read::End)),
            Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Ok(Read::Message(bytes))),
            // The library answers pings, and a close: that answer leaves with the next look.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Text(_))) => Offence::Text,
            Some(Err(error)) => match Offence::of(&error) {
                Some(offence) => offence,
                None => return Poll::Ready(Err(to_io(error))),
            },
        };
        ws.start_send(Message::Close(Some(offence.frame()))).map_err(to_io)?;
        return Poll::Ready(Ok(Read::Offence(offence)));
    }
    cx.waker().wake_by_ref();
    Poll::Pending
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
