//! From a socket to a client's stream: TLS, then WebSocket, as the listener says.

use std::io;
use std::sync::Arc;

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
}

/// Shakes hands.
pub(super) async fn shake(
    transport: Transport,
    socket: Movable,
    tls: Option<&TlsAcceptor>,
) -> Result<Arrived, Failure> {
    Ok(match transport {
        Transport::Tcp => Arrived { incoming: Incoming::Tcp(socket), server_name: None },
        Transport::Tls => {
            let (stream, server_name) = secure(socket, tls).await?;
            Arrived { incoming: Incoming::Tls(Box::new(stream)), server_name }
        }
        Transport::Ws => {
            let (stream, server_name) = websocket(socket, None).await?;
            Arrived { incoming: Incoming::Ws(Box::new(stream)), server_name }
        }
        Transport::Wss => {
            let (stream, server_name) = secure(socket, tls).await?;
            let (stream, server_name) = websocket(stream, server_name).await?;
            Arrived { incoming: Incoming::Wss(Box::new(stream)), server_name }
        }
    })
}

async fn secure(socket: Movable, tls: Option<&TlsAcceptor>) -> Result<(TlsStream<Movable>, Option<Arc<str>>), Failure> {
    let stream = tls.ok_or(Failure::Tls)?.accept(socket).await.map_err(|error| fault(&error))?;
    let server_name = stream.get_ref().1.server_name().map(|name| name.to_ascii_lowercase().into());
    Ok((stream, server_name))
}

fn fault(error: &io::Error) -> Failure {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls { Failure::Tls } else { Failure::Gone }
}
