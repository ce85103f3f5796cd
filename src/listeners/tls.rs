//! TLS as clients meet it.

use std::sync::Arc;

use rookery_cluster::clock::SharedClock;
use rookery_cluster::pki::{PkiError, server_config_for_clients};
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::ResolvesServerCert;

/// What clients may ask for in ALPN: MQTT itself, and what browsers and libraries ask for ahead of a WebSocket.
/// Clients that send no ALPN are welcome too.
const ALPN: &[&[u8]] = &[b"mqtt", b"http/1.1"];

/// TLS 1.2 and 1.3 with the certificates of `resolver`, without client certificates, and with session tickets, so
/// that clients that come back after a failover cost no signature and the node keeps nothing for them.
///
/// # Errors
/// Not for anything a caller does: the system's random generator or the crypto provider failed.
pub fn server_config(resolver: Arc<dyn ResolvesServerCert>, clock: SharedClock) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = Arc::unwrap_or_clone(server_config_for_clients(resolver, ALPN, clock)?);
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}
