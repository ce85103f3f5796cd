//! WebSocket after its handshake: what frames bring a worker, beside what RFC 6455 says that they bring.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use rookery::broker::core::Outbound;
use rookery::broker::transport::{Incoming, Read};
use rookery::listeners::websocket::websocket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ensure, head};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Protocol: mqtt\r\n\r\n";
/// What is answered to each message.
const ECHO: &[u8] = b"\xd0\x00";
/// No input is as long as this, and no listener's bound is below it.
const LARGE: u64 = 1 << 20;
/// Polls beyond one for each byte and answer.
const PATIENCE: usize = 10_000;

const CONTINUES: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A byte for how the socket behaves, then what a client sends after its request.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, frames) = head(input);
    let mut context = Context::from_waker(Waker::noop());
    let socket = Socket { rest: frames, request: Some(REQUEST), piece: piece(how), sent: Vec::new(), idle: false };
    let mut shaking = pin!(websocket(socket, None));
    let most = PATIENCE + 4 * frames.len();
    let shaken = (0..most).find_map(|_| ready(shaking.as_mut().poll(&mut context)));
    let (stream, _) = shaken.ok_or("no end of shaking hands")?.map_err(|why| format!("the request: {why:?}"))?;
    let mut incoming = Incoming::Ws(Box::new(stream));
    let mut brought = Brought::default();
    let mut out = Outbound::default();
    let mut buffer = [0; 16];
    for _ in 0..most {
        let _ = incoming.poll_write(&mut context, &mut out);
        match incoming.poll_read(&mut context, &mut buffer) {
            Poll::Pending => continue,
            Poll::Ready(Ok(Read::Message(bytes))) => {
                brought.bytes.extend(&bytes);
                brought.messages += 1;
                out.copy(ECHO);
            }
            Poll::Ready(Ok(Read::Filled(_))) => return Err("bytes from a stream of messages".to_owned()),
            Poll::Ready(Ok(Read::Offence(_))) => brought.end = Some(End::Offence),
            Poll::Ready(Ok(Read::End) | Err(_)) => brought.end = Some(End::Gone),
        }
        if brought.end.is_some() {
            break;
        }
    }
    ensure(brought.end.is_some(), || format!("no end of {} bytes", frames.len()))?;
    let closed = (0..most).any(|_| incoming.poll_shutdown(&mut context).is_ready());
    ensure(closed, || "no end of saying goodbye".to_owned())?;
    let Incoming::Ws(stream) = &incoming else { return Err("another stream".to_owned()) };
    compared(&brought, &expected(frames))?;
    said(&stream.get_ref().sent, &brought)
}

/// Bytes of one read and of one write.
fn piece(how: u8) -> usize {
    if how & 1 == 0 { usize::MAX } else { 1 + usize::from(how >> 1) }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What came of a client's bytes.
#[derive(Debug, Default)]
struct Brought {
    bytes: Vec<u8>,
    messages: usize,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Offence,
    Gone,
    /// Either: who breaks a rule in the middle of a frame and goes may not have been found out.
    Any,
}

/// What RFC 6455 (§5) and MQTT (§6) make of them.
fn expected(mut rest: &[u8]) -> Brought {
    let mut brought = Brought::default();
    let mut begun: Option<Vec<u8>> = None;
    let ends = |brought: Brought, end| Brought { end: Some(end), ..brought };
    loop {
        let Some(frame) = Frame::read(rest) else { return ends(brought, End::Gone) };
        let Some(payload) = frame.payload(rest) else {
            let end = if frame.is_sound(begun.is_some()) { End::Gone } else { End::Any };
            // A text is found out when it is whole, or before.
            return ends(brought, if frame.code == TEXT { End::Any } else { end });
        };
        if !frame.is_sound(begun.is_some()) {
            return ends(brought, End::Offence);
        }
        rest = &rest[frame.head + payload.len()..];
        match frame.code {
            // Those with a payload that may not be are an offence.
            CLOSE => return ends(brought, End::Any),
            TEXT => return ends(brought, if frame.last { End::Offence } else { End::Any }),
            PING | PONG => {}
            _ => {
                let mut message = begun.take().unwrap_or_default();
                message.extend(payload);
                if frame.last {
                    brought.bytes.extend(message);
                    brought.messages += 1;
                } else {
                    begun = Some(message);
                }
            }
        }
    }
}

/// The head of a frame.
struct Frame {
    last: bool,
    reserved: u8,
    code: u8,
    mask: Option<[u8; 4]>,
    length: u64,
    /// Bytes before the payload.
    head: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second] = *bytes.first_chunk()?;
        let (length, head) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let (mask, head) = match second & 0x80 {
            0 => (None, head),
            _ => (Some(*bytes.get(head..)?.first_chunk()?), head + 4),
        };
        Some(Self { last: first & 0x80 != 0, reserved: first & 0x70, code: first & 0x0f, mask, length, head })
    }

    fn payload(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let payload = bytes.get(self.head..)?.get(..usize::try_from(self.length).ok()?)?;
        let mask = self.mask.unwrap_or_default();
        Some(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
    }

    /// Whether it may come from a client. `begun`: in the middle of a message.
    fn is_sound(&self, begun: bool) -> bool {
        let fits = match self.code {
            CONTINUES => begun,
            TEXT | BINARY => !begun,
            CLOSE | PING | PONG => self.last && self.length < 126,
            _ => false,
        };
        fits && self.reserved == 0 && self.mask.is_some() && self.length <= LARGE
    }
}

fn compared(brought: &Brought, expected: &Brought) -> Result<(), String> {
    let alike = (&brought.bytes, brought.messages) == (&expected.bytes, expected.messages);
    let ends = expected.end == Some(End::Any) || brought.end == expected.end;
    ensure(alike && ends, || format!("{brought:02x?}, not {expected:02x?}"))
}

/// What the server wrote are the response and whole frames: an answer to each message at most, pongs, and one close, the
/// last.
fn said(sent: &[u8], brought: &Brought) -> Result<(), String> {
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no response")?;
    let (mut rest, mut answers, mut closed) = (&sent[end + 4..], 0, false);
    while !rest.is_empty() {
        let wrong = || format!("{rest:02x?} in what was sent");
        let frame = Frame::read(rest).ok_or_else(wrong)?;
        let payload = frame.payload(rest).ok_or_else(wrong)?;
        ensure(frame.mask.is_none() && frame.reserved == 0 && frame.last && !closed, wrong)?;
        match frame.code {
            BINARY => answers += payload.len() / ECHO.len(),
            CLOSE => closed = true,
            PONG => {}
            _ => return Err(wrong()),
        }
        rest = &rest[frame.head + payload.len()..];
    }
    ensure(answers <= brought.messages, || format!("{answers} answers to {} messages", brought.messages))
}

/// A client's socket: a request, what it sends, and its end; what is written is kept.
struct Socket<'a> {
    request: Option<&'a [u8]>,
    rest: &'a [u8],
    piece: usize,
    sent: Vec<u8>,
    /// Every other poll of a socket with short pieces finds it idle.
    idle: bool,
}

impl Socket<'_> {
    fn is_idle(&mut self) -> bool {
        self.idle = self.piece != usize::MAX && !self.idle;
        self.idle
    }
}

impl AsyncRead for Socket<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(request) = self.request.take() {
            out.put_slice(request);
        } else if self.is_idle() {
            return Poll::Pending;
        } else {
            let (now, rest) = self.rest.split_at(self.rest.len().min(self.piece).min(out.remaining()));
            out.put_slice(now);
            self.rest = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_idle() {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.piece);
        self.sent.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Frames of each kind, whole and in pieces, and offences.
pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 1, 2, 3, 4], payload].concat();
    let long = |first: u8, length: u64| [&[first, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    let unmasked = [&[0x82, 2][..], b"\xc0\0"].concat();
    let middle = [&[0x82, 0xfe, 1, 0, 0, 0, 0, 0][..], &[7; 256]].concat();
    let parts = [frame(2, b"\x10"), frame(0x89, b"there?"), frame(0, b"\x01"), frame(0x80, b"\x02")].concat();
    let all = [
        frame(0x82, b"\xc0\0"),
        parts.clone(),
        frame(0x81, b"text"),
        frame(0x88, &[2, 0xea, 3]),
        frame(0x8a, b"pong"),
        [frame(0x82, b"\xc0\0"), middle, frame(0x89, b""), frame(0x88, b"")].concat(),
        [parts, unmasked].concat(),
        [frame(0x02, b"a"), frame(0x82, b"b")].concat(),
        frame(0xc2, b"reserved"),
        frame(0x83, b"unknown"),
        long(0x82, 2 << 20),
        long(0x82, u64::MAX),
    ];
    [0, 1, 9].iter().flat_map(|how| all.iter().map(move |frames| [&[*how], &frames[..]].concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_seeds_agree() {
        seeds().iter().for_each(|seed| assert_eq!(run(seed), Ok(()), "{seed:02x?}"));
        let whole = expected(&seeds()[5][1..]);
        assert_eq!((whole.messages, whole.bytes.len(), whole.end), (2, 258, Some(End::Any)));
    }

    #[test]
    fn a_difference_is_told() {
        let brought = Brought { bytes: vec![1], messages: 1, end: Some(End::Gone) };
        assert!(compared(&brought, &expected(b"")).is_err());
        assert!(said(b"HTTP/1.1 101 \r\n\r\n\x81\x01a", &brought).is_err());
    }
}
