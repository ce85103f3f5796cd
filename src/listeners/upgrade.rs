//! What the server makes of a WebSocket request (MQTT 5.0 §6, RFC 6455 §4.2), without its socket.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{HOST, HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::Failure;

/// Largest request, bytes; what browsers send with all their cookies is some 4 KB.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Where the WebSocket is. The root as well, for clients that cannot set a path.
const PATHS: [&str; 2] = ["/", "/mqtt"];
/// The subprotocol (MQTT-6.0.0-3).
const SUBPROTOCOL: &str = "mqtt";
/// How a request ends.
const END: &[u8] = b"\r\n\r\n";

/// A request that is being read.
#[derive(Debug)]
pub struct Upgrade {
    /// The TLS server name, if there was one.
    sni: Option<Arc<str>>,
    read: Vec<u8>,
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response, to be written whole; empty: there is nobody to answer.
    pub response: Vec<u8>,
    /// What the client called the server (lower case, without a port), or why it is refused: then the connection is to
    /// be closed behind the response.
    pub verdict: Result<Option<Arc<str>>, Failure>,
}

impl Upgrade {
    /// Nothing was read yet; `sni` is the TLS server name, lower case.
    pub fn new(sni: Option<Arc<str>>) -> Self {
        Self { sni, read: Vec::new() }
    }

    /// Bytes that it takes before it must have ended.
    pub fn room(&self) -> usize {
        MAX_REQUEST_BYTES.saturating_sub(self.read.len())
    }

    /// Takes what came, [`room`](Self::room) at most; an answer as soon as there is one.
    pub fn feed(&mut self, more: &[u8]) -> Option<Answer> {
        let unseen = self.read.len().saturating_sub(END.len() - 1);
        self.read.extend_from_slice(more);
        // A method begins with a capital. Whoever speaks MQTT or TLS here shall not wait for the deadline.
        if !self.read.first().is_none_or(u8::is_ascii_uppercase) {
            return Some(Answer { response: Vec::new(), verdict: Err(Failure::WebSocket) });
        }
        match self.read[unseen..].windows(END.len()).position(|window| window == END) {
            // The client must wait for the answer: what it sent ahead would be meant for somebody else.
            Some(at) if unseen + at + END.len() < self.read.len() => Some(refusal(Refused::BAD_REQUEST)),
            Some(_) => Some(self.judge().unwrap_or_else(refusal)),
            None if self.room() == 0 => Some(refusal(Refused::TOO_LARGE)),
            None => None,
        }
    }

    fn judge(&self) -> Result<Answer, Refused> {
        let (_, request) = Request::try_parse(&self.read)?.ok_or(Refused::BAD_REQUEST)?;
        if !PATHS.contains(&request.uri().path()) {
            return Err(Refused::PATH);
        }
        // No extension is named in it: permessage-deflate would cost each connection a window.
        let mut response: Response = create_response(&request)?;
        if !offers_mqtt(request.headers()) {
            return Err(Refused::SUBPROTOCOL);
        }
        let name = self.name(request.headers()).map_err(|_| Refused::HOST)?;
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let mut bytes = Vec::new();
        write_response(&mut bytes, &response)?;
        Ok(Answer { response: bytes, verdict: Ok(name) })
    }

    /// The name by which the client calls the server.
    fn name(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, Failure> {
        match (self.sni.clone(), host(headers)?) {
            // One would choose the certificate and the other the broker.
            (Some(sni), Some(host)) if sni != host => Err(Failure::Host),
            (Some(name), _) | (None, Some(name)) => Ok(Some(name)),
            (None, None) => Ok(None),
        }
    }
}

/// A refusal in HTTP.
#[derive(Clone, Copy)]
struct Refused {
    failure: Failure,
    /// Status, reason, and header lines of its own, each with its line end.
    status: &'static str,
    headers: &'static str,
    text: &'static str,
}

impl Refused {
    const BAD_REQUEST: Self = Self::new(Failure::WebSocket, "400 Bad Request", "not a websocket request\n");
    const METHOD: Self = Self {
        headers: "Allow: GET\r\n",
        ..Self::new(Failure::WebSocket, "405 Method Not Allowed", "a websocket begins with GET\n")
    };
    const UPGRADE: Self = Self {
        headers: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        ..Self::new(Failure::WebSocket, "426 Upgrade Required", "this is for websockets of version 13\n")
    };
    const TOO_LARGE: Self = Self::new(Failure::TooLarge, "431 Request Header Fields Too Large", "too large\n");
    const PATH: Self = Self::new(Failure::Path, "404 Not Found", "mqtt is at / and /mqtt\n");
    const SUBPROTOCOL: Self = Self::new(Failure::Subprotocol, "400 Bad Request", "the websocket subprotocol is mqtt\n");
    const HOST: Self = Self::new(Failure::Host, "400 Bad Request", "the host header is not the tls server name\n");

    const fn new(failure: Failure, status: &'static str, text: &'static str) -> Self {
        Self { failure, status, headers: "", text }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Protocol(ProtocolError::WrongHttpMethod) => Self::METHOD,
            Error::Protocol(
                ProtocolError::WrongHttpVersion
                | ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingSecWebSocketVersionHeader,
            ) => Self::UPGRADE,
            Error::Capacity(CapacityError::TooManyHeaders) => Self::TOO_LARGE,
            _ => Self::BAD_REQUEST,
        }
    }
}

fn refusal(Refused { failure, status, headers, text }: Refused) -> Answer {
    let length = text.len();
    // What a proxy in between may keep (RFC 9111) must not be a refusal that depends on headers.
    let response = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    );
    Answer { response: response.into_bytes(), verdict: Err(failure) }
}

fn offers_mqtt(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offered| offered.trim() == SUBPROTOCOL)
}

/// The Host header without its port, lower case; `None` if there is none.
fn host(headers: &HeaderMap) -> Result<Option<Arc<str>>, Failure> {
    let mut lines = headers.get_all(HOST).into_iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let authority = line.to_str().map_err(|_| Failure::Host)?.trim();
    if lines.next().is_some() {
        return Err(Failure::Host);
    }
    let name = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or(Failure::Host)?.0,
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    };
    // The root's dot says the same name, and TLS leaves it out.
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() { Err(Failure::Host) } else { Ok(Some(name.to_ascii_lowercase().into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: a.b.example:8083\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: x, mqtt\r\n\
                        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

    fn answer(request: &str, sni: Option<&str>) -> Answer {
        Upgrade::new(sni.map(Into::into)).feed(request.as_bytes()).expect("an answer")
    }

    #[test]
    fn a_good_request_is_accepted_however_it_is_cut() {
        let whole = answer(GOOD, None);
        let text = String::from_utf8(whole.response.clone()).unwrap();
        assert_eq!(whole.verdict, Ok(Some("a.b.example".into())));
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
        let text = text.to_ascii_lowercase();
        assert!(text.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{text}");
        assert!(text.contains("sec-websocket-protocol: mqtt\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.contains("extensions"), "{text}");
        for cut in 1..GOOD.len() {
            let mut upgrade = Upgrade::new(None);
            assert_eq!(upgrade.feed(&GOOD.as_bytes()[..cut]), None, "{cut}");
            assert_eq!(upgrade.feed(&GOOD.as_bytes()[cut..]).as_ref(), Some(&whole), "{cut}");
        }
        let mut upgrade = Upgrade::new(None);
        let answers: Vec<_> = GOOD.bytes().filter_map(|byte| upgrade.feed(&[byte])).collect();
        assert_eq!(answers, [whole]);
    }

    #[test]
    fn each_offence_has_its_status() {
        let large = format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(MAX_REQUEST_BYTES));
        let many = GOOD.replace("Host", &format!("{}Host", "A: b\r\n".repeat(200)));
        let without = |line: &str| GOOD.replace(line, "");
        for (request, status, failure) in [
            (GOOD.replace("/mqtt", "/other"), "404", Failure::Path),
            (GOOD.replace("/mqtt", "/mqtt/"), "404", Failure::Path),
            (GOOD.replace("x, mqtt", "mqttv3.1"), "400", Failure::Subprotocol),
            (GOOD.replace("x, mqtt", "MQTT"), "400", Failure::Subprotocol),
            (without("Sec-WebSocket-Protocol: x, mqtt\r\n"), "400", Failure::Subprotocol),
            (GOOD.replace("a.b.example", ""), "400", Failure::Host),
            (GOOD.replace("GET", "POST"), "405", Failure::WebSocket),
            (GOOD.replace("HTTP/1.1", "HTTP/1.0"), "426", Failure::WebSocket),
            (GOOD.replace("Version: 13", "Version: 8"), "426", Failure::WebSocket),
            (without("Upgrade: websocket\r\n"), "426", Failure::WebSocket),
            (without("Connection: keep-alive, Upgrade\r\n"), "426", Failure::WebSocket),
            (without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "400", Failure::WebSocket),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400", Failure::WebSocket),
            (format!("{GOOD}more"), "400", Failure::WebSocket),
            (large[..MAX_REQUEST_BYTES].to_owned(), "431", Failure::TooLarge),
            (many, "431", Failure::TooLarge),
        ] {
            let answer = answer(&request, None);
            let text = String::from_utf8(answer.response).unwrap();
            assert_eq!(answer.verdict, Err(failure), "{request}");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Connection: close"));
        }
        for no_http in ["\x10\x0d\0\x04MQTT", "\x16\x03\x01", "get / HTTP/1.1"] {
            let expected = Answer { response: Vec::new(), verdict: Err(Failure::WebSocket) };
            assert_eq!(answer(no_http, None), expected);
        }
    }

    #[test]
    fn host_headers_lose_port_case_and_final_dot() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(HOST, value.parse().unwrap());
            host(&headers)
        };
        for (value, name) in [
            ("a.b.example", "a.b.example"),
            ("A.B.Example:8884", "a.b.example"),
            ("a.b.example.:443", "a.b.example"),
            ("127.0.0.1:8083", "127.0.0.1"),
            ("[::1]:8083", "::1"),
        ] {
            assert_eq!(check(value), Ok(Some(name.into())), "{value}");
        }
        assert_eq!(check("[::1"), Err(Failure::Host));
        assert_eq!(check(""), Err(Failure::Host));
        assert_eq!(host(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn the_tls_name_and_the_host_header_must_agree() {
        let request = |host: &str| GOOD.replace("Host: a.b.example:8083\r\n", host);
        let verdict = |host: &str, sni| answer(&request(host), sni).verdict;
        assert_eq!(verdict("Host: a:1\r\n", Some("a")), Ok(Some("a".into())));
        assert_eq!(verdict("Host: b:1\r\n", Some("a")), Err(Failure::Host));
        assert_eq!(verdict("Host: b:1\r\n", None), Ok(Some("b".into())));
        assert_eq!(verdict("", Some("a")), Ok(Some("a".into())));
        assert_eq!(verdict("", None), Ok(None));
    }
}
