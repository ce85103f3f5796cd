//! How to reach a server, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::mqtt::codec::{Version, Will};

use super::ClientError;

/// Everything that `connect` needs.
#[derive(Clone)]
pub struct Options {
    /// Where.
    pub url: ServerUrl,
    /// `host:port` to dial instead of what the URL says, which then only names the server (TLS, Host header).
    pub dial: Option<String>,
    /// Whom to trust, with TLS.
    pub trust: Trust,
    /// The protocol version.
    pub version: Version,
    /// Empty: the server assigns one.
    pub client_id: String,
    /// Clean Start.
    pub clean_start: bool,
    /// Seconds the session outlives the connection, version 5.
    pub session_expiry: Option<u32>,
    /// User name.
    pub user_name: Option<String>,
    /// Password: the token.
    pub password: Option<String>,
    /// Whole seconds; 0 is none.
    pub keep_alive: Duration,
    /// The will.
    pub will: Option<Will>,
    /// For all steps up to the CONNACK together.
    pub timeout: Duration,
}

impl Options {
    /// Version 5, clean start, no credentials, keep-alive 60 s, 10 s to connect.
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            dial: None,
            trust: Trust::System,
            version: Version::V5,
            client_id: String::new(),
            clean_start: true,
            session_expiry: None,
            user_name: None,
            password: None,
            keep_alive: Duration::from_secs(60),
            will: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The machine's certificate authorities.
    System,
    /// Those of this PEM file, and nobody else.
    CaFile(PathBuf),
    /// Those of this PEM text, and nobody else.
    CaPem(String),
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TCP: `mqtt`.
    Mqtt,
    /// TLS: `mqtts`.
    Mqtts,
    /// WebSocket: `ws`.
    Ws,
    /// WebSocket over TLS: `wss`.
    Wss,
}

impl Scheme {
    /// Whether there is TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Mqtts | Scheme::Wss)
    }

    /// Whether there is a WebSocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Mqtt => 1883,
            Scheme::Mqtts => 8883,
            Scheme::Ws => 8083,
            Scheme::Wss => 8884,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }
}

/// `scheme://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// How bytes travel.
    pub scheme: Scheme,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// With a leading `/`; for WebSocket.
    pub path: String,
}

impl ServerUrl {
    /// `host:port`, as a Host header and a socket have it.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())?;
        if self.scheme.is_websocket() { f.write_str(&self.path) } else { Ok(()) }
    }
}

impl FromStr for ServerUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = |problem| ClientError::Url { url: text.to_owned(), problem };
        let (scheme, rest) =
            text.split_once("://").ok_or(bad("it needs mqtt://, mqtts://, ws:// or wss:// in front"))?;
        let scheme = match scheme {
            "mqtt" | "tcp" => Scheme::Mqtt,
            "mqtts" | "ssl" | "tls" => Scheme::Mqtts,
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(bad("the scheme is mqtt, mqtts, ws or wss")),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(bad("credentials do not belong into a URL"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or(bad("a bracket is not closed"))?,
            None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => scheme.default_port(),
            None => return Err(bad("a port follows a colon")),
            Some(number) => {
                number.parse().ok().filter(|&p| p != 0).ok_or(bad("the port is a number from 1 to 65535"))?
            }
        };
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let path = if path.len() <= 1 { "/mqtt".to_owned() } else { path.to_owned() };
        Ok(Self { scheme, host: host.to_owned(), port, path })
    }
}
