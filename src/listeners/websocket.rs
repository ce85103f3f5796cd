//! The server's half of a WebSocket handshake (MQTT 5.0 §6, RFC 6455 §4.2).

use std::sync::Arc;

use rookery_cluster::limits::MAX_PACKET_BYTES;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{HOST, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::Failure;

/// Where the WebSocket is. The root as well, for clients that cannot set a path.
const PATHS: [&str; 2] = ["/", "/mqtt"];
/// The subprotocol (MQTT-6.0.0-3).
const SUBPROTOCOL: &str = "mqtt";
/// Largest message, bytes: a packet of the largest size, with small ones beside it. What spans more must be sent
/// as several messages, for MQTT does not mind where they end (MQTT-6.0.0-2).
const MAX_MESSAGE_BYTES: usize = MAX_PACKET_BYTES + (64 << 10);
/// Every connection has a read buffer of this size as long as it lives, so a small one.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Shakes hands over `stream`, whose TLS server name was `sni`. Returns what the client called the server.
pub(super) async fn websocket<S>(
    stream: S,
    sni: Option<Arc<str>>,
) -> Result<(WebSocketStream<S>, Option<Arc<str>>), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut verdict = Err(Failure::WebSocket);
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let judge = |request: &Request, mut response: Response| {
        verdict = check(request, sni);
        match verdict {
            Ok(_) => {
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
                Ok(response)
            }
            Err(failure) => Err(refusal(failure)),
        }
    };
    match accept_hdr_async_with_config(stream, judge, Some(config())).await {
        Ok(stream) => Ok((stream, verdict?)),
        Err(Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete)) => Err(Failure::Gone),
        Err(_) => Err(verdict.err().unwrap_or(Failure::WebSocket)),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// Whether the request is for us: the name by which it calls us.
fn check(request: &Request, sni: Option<Arc<str>>) -> Result<Option<Arc<str>>, Failure> {
    if !PATHS.contains(&request.uri().path()) {
        return Err(Failure::Path);
    }
    if !offers_mqtt(request.headers()) {
        return Err(Failure::Subprotocol);
    }
    match (sni, host(request.headers())?) {
        // One would choose the certificate and the other the broker.
        (Some(sni), Some(host)) if sni != host => Err(Failure::Host),
        (Some(name), _) | (None, Some(name)) => Ok(Some(name)),
        (None, None) => Ok(None),
    }
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
    if lines.next().is_some() || authority.is_empty() {
        return Err(Failure::Host);
    }
    let name = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or(Failure::Host)?.0,
        None => authority.split_once(':').map_or(authority, |(name, _)| name),
    };
    // The root's dot says the same name, and TLS leaves it out.
    Ok(Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()))
}

fn refusal(failure: Failure) -> ErrorResponse {
    let (status, text) = match failure {
        Failure::Path => (StatusCode::NOT_FOUND, "mqtt is at / and /mqtt\n"),
        Failure::Subprotocol => (StatusCode::BAD_REQUEST, "the websocket subprotocol is mqtt\n"),
        Failure::Host => (StatusCode::BAD_REQUEST, "the host header is not the tls server name\n"),
        Failure::Timeout | Failure::Gone | Failure::Tls | Failure::WebSocket => (StatusCode::BAD_REQUEST, "refused\n"),
    };
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_host(value: &str) -> Result<Option<Arc<str>>, Failure> {
        let mut headers = HeaderMap::new();
        headers.append(HOST, value.parse().unwrap());
        host(&headers)
    }

    #[test]
    fn host_headers_lose_port_case_and_final_dot() {
        for (value, name) in [
            ("a.b.example", "a.b.example"),
            ("A.B.Example:8884", "a.b.example"),
            ("a.b.example.:443", "a.b.example"),
            ("127.0.0.1:8083", "127.0.0.1"),
            ("[::1]:8083", "::1"),
        ] {
            assert_eq!(check_host(value), Ok(Some(name.into())), "{value}");
        }
        assert_eq!(check_host("[::1"), Err(Failure::Host));
        assert_eq!(check_host(""), Err(Failure::Host));
        assert_eq!(host(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn the_tls_name_and_the_host_header_must_agree() {
        let request = |host: Option<&str>| {
            let mut request = Request::new(());
            *request.uri_mut() = "/mqtt".parse().unwrap();
            request.headers_mut().append(SEC_WEBSOCKET_PROTOCOL, "mqttv3.1, mqtt".parse().unwrap());
            if let Some(host) = host {
                request.headers_mut().append(HOST, host.parse().unwrap());
            }
            request
        };
        assert_eq!(check(&request(Some("a:1")), Some("a".into())), Ok(Some("a".into())));
        assert_eq!(check(&request(Some("b:1")), Some("a".into())), Err(Failure::Host));
        assert_eq!(check(&request(Some("b:1")), None), Ok(Some("b".into())));
        assert_eq!(check(&request(None), Some("a".into())), Ok(Some("a".into())));
        assert_eq!(check(&request(None), None), Ok(None));
    }
}
