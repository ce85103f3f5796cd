//! From a socket to a client's stream: TLS, then WebSocket, as the listener says.

use std::io;
use std::sync::Arc;

use rustls::HandshakeKind;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Failure;
use super::websocket::websocket;
use crate::broker::core::Transport;
use crate::broker::transport::{Incoming, Movable};

/// A connection that is ready for its worker.
pub(super) struct Arrived {
    pub incoming: Incoming,
    /// What the client called the server, in TLS or HTTP; lower case, without a port.
    pub server_name: Option<Arc<str>>,
    /// Whether it went on with an earlier TLS session.
    pub resumed: bool,
}

impl Arrived {
    /// One over plain TCP, which needs no handshake.
    pub fn tcp(socket: Movable) -> Self {
        Self { incoming: Incoming::Tcp(socket), server_name: None, resumed: false }
    }
}

/// Shakes hands.
pub(super) async fn shake(transport: Transport, socket: Movable, tls: Option<TlsAcceptor>) -> Result<Arrived, Failure> {
    Ok(match transport {
        Transport::Tcp => Arrived::tcp(socket),
        Transport::Tls => {
            let (stream, server_name) = secure(socket, tls).await?;
            let resumed = resumed(&stream);
            Arrived { incoming: Incoming::Tls(Box::new(stream)), server_name, resumed }
        }
        Transport::Ws => {
            let (stream, server_name) = websocket(socket, None).await?;
            Arrived { incoming: Incoming::Ws(Box::new(stream)), server_name, resumed: false }
        }
        Transport::Wss => {
            let (stream, server_name) = secure(socket, tls).await?;
            let resumed = resumed(&stream);
            let (stream, server_name) = websocket(stream, server_name).await?;
            Arrived { incoming: Incoming::Wss(Box::new(stream)), server_name, resumed }
        }
    })
}

async fn secure(socket: Movable, tls: Option<TlsAcceptor>) -> Result<(TlsStream<Movable>, Option<Arc<str>>), Failure> {
    let stream = tls.ok_or(Failure::Tls)?.accept(socket).await.map_err(|error| fault(&error))?;
    let server_name = stream.get_ref().1.server_name().map(|name| name.to_ascii_lowercase().into());
    Ok((stream, server_name))
}

fn resumed(stream: &TlsStream<Movable>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn fault(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoApplicationProtocol) => Failure::Alpn,
        Some(_) => Failure::Tls,
        None => Failure::Gone,
    }
}
