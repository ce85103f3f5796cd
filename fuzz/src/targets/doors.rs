//! What comes before MQTT: the WebSocket request, the PROXY header.

use rookery::listeners::proxy::{Header, parse};
use rookery::listeners::upgrade::{MAX_REQUEST_BYTES, Upgrade};

use super::{ensure, head};

/// A byte, then the request: however it is cut, the answer is the same.
pub fn upgrade(input: &[u8]) -> Result<(), String> {
    let (how, request) = head(input);
    let request = &request[..request.len().min(MAX_REQUEST_BYTES)];
    let sni = (how & 1 == 1).then(|| "a.b.example".into());
    let mut whole = Upgrade::new(sni.clone());
    let answer = whole.feed(request);
    if let Some(answer) = &answer {
        let head = String::from_utf8_lossy(&answer.response);
        let ends = head.is_empty() || (head.starts_with("HTTP/1.1 ") && head.contains("\r\n\r\n"));
        ensure(ends && (answer.verdict.is_err() || head.starts_with("HTTP/1.1 101 ")), || format!("{answer:?}"))?;
    }
    let mut cut = Upgrade::new(sni);
    let mut pieces = request.chunks(1 + usize::from(how >> 1)).filter_map(|piece| cut.feed(piece));
    let first = pieces.next();
    // What follows the request in one read is an offence; in two it is not seen any more.
    let ended = request.windows(4).position(|end| end == b"\r\n\r\n").is_none_or(|at| at + 4 == request.len());
    ensure(!ended || first == answer, || format!("whole: {answer:?}, cut: {first:?}"))
}

/// A good request and a refused one.
pub fn upgrade_seeds() -> Vec<Vec<u8>> {
    let good = "GET /mqtt HTTP/1.1\r\nHost: a.b.example:8083\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: x, mqtt\r\n\r\n";
    let requests = [good.to_owned(), good.replace("a.b.example:8083", "[::1]:1"), "POST / HTTP/1.1\r\n\r\n".to_owned()];
    (0..4).flat_map(|how| requests.iter().map(move |r| [&[how], r.as_bytes()].concat())).collect()
}

/// A header: what is needed is always more than there is, and with it there is an answer.
pub fn proxy(input: &[u8]) -> Result<(), String> {
    match parse(input) {
        Ok(Header::Needs(bytes)) => {
            ensure(bytes > input.len(), || format!("{bytes} needed, {} there", input.len()))?;
            ensure(bytes <= 16 + 4096, || format!("{bytes} needed"))
        }
        Ok(Header::Local | Header::Proxied(_)) => {
            for end in 0..input.len().min(64) {
                ensure(parse(&input[..end]).is_ok(), || format!("refused after {end} bytes"))?;
            }
            Ok(())
        }
        Err(_) => Ok(()),
    }
}

/// A header of each kind.
pub fn proxy_seeds() -> Vec<Vec<u8>> {
    let header = |kind: &[u8], rest: &[u8]| {
        let length = (rest.len() as u16).to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", kind, &length, rest].concat()
    };
    vec![
        header(&[0x20, 0], &[]),
        header(&[0x21, 0x11], &[1; 12]),
        header(&[0x21, 0x21], &[2; 36]),
        header(&[0x21, 0x11], &[3; 40]),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec(),
    ]
}
