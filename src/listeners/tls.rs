//! TLS as clients meet it.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rookery_cluster::clock::SharedClock;
use rookery_cluster::pki::{PkiError, server_config_for_clients};
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};
use tokio_rustls::TlsAcceptor;

use crate::broker::core::Transport;

/// What a client that names protocols (ALPN) must name where MQTT follows TLS, and where a WebSocket does. A client that
/// names none is welcome: few MQTT libraries do.
const ALPN_MQTT: &[u8] = b"mqtt";
const ALPN_HTTP: &[u8] = b"http/1.1";
/// TLS 1.2 sessions kept for clients that take no tickets; each is some 200 bytes.
const KEPT_SESSIONS: usize = 1024;

/// TLS 1.2 and 1.3 without client certificates, and with session tickets, so that clients that come back after a
/// failover cost no signature and the node keeps nothing for them. The tickets' key changes every 6 hours, and a ticket
/// is good for 12 at most.
pub struct ClientTls {
    resolver: Arc<dyn ResolvesServerCert>,
    clock: SharedClock,
    current: RwLock<Acceptors>,
}

struct Acceptors {
    mqtt: TlsAcceptor,
    http: TlsAcceptor,
}

impl ClientTls {
    /// With the certificates of `resolver`.
    ///
    /// # Errors
    /// Not for anything a caller does: the system's random generator or the crypto provider failed.
    pub fn new(resolver: Arc<dyn ResolvesServerCert>, clock: SharedClock) -> Result<Arc<Self>, PkiError> {
        let current = RwLock::new(Acceptors::new(&resolver, &clock)?);
        Ok(Arc::new(Self { resolver, clock, current }))
    }

    /// Forgets the sessions of earlier connections, so that all that begin from now on see a certificate: one that was
    /// replaced may have been for other names, or stolen. Open connections stay.
    ///
    /// # Errors
    /// As [`new`](Self::new); the sessions stay then.
    pub fn renew(&self) -> Result<(), PkiError> {
        let renewed = Acceptors::new(&self.resolver, &self.clock)?;
        *self.current.write() = renewed;
        Ok(())
    }

    /// For the next connection at a listener of that kind.
    pub(super) fn acceptor(&self, transport: Transport) -> TlsAcceptor {
        let current = self.current.read();
        match transport {
            Transport::Tcp | Transport::Tls => current.mqtt.clone(),
            Transport::Ws | Transport::Wss => current.http.clone(),
        }
    }
}

impl Acceptors {
    fn new(resolver: &Arc<dyn ResolvesServerCert>, clock: &SharedClock) -> Result<Self, PkiError> {
        let acceptor = |alpn| Ok::<_, PkiError>(server_config(resolver.clone(), alpn, clock.clone())?.into());
        Ok(Self { mqtt: acceptor(ALPN_MQTT)?, http: acceptor(ALPN_HTTP)? })
    }
}

fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    alpn: &[u8],
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = Arc::unwrap_or_clone(server_config_for_clients(resolver, &[alpn], clock)?);
    config.ticketer = Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(KEPT_SESSIONS);
    Ok(Arc::new(config))
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}
