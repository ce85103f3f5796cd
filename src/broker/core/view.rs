//! What the core sees of the world outside: clocks, metadata, and who a client is.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::ids::{BrokerId, ClientId};
use rookery_cluster::topics::Acl;

use super::{Settings, Transport};
use crate::mqtt::codec::ReasonCode;

/// What one step sees of the world: one truth for the whole step.
pub trait View {
    /// Until when this node may serve (R1).
    fn serving_until(&self) -> Moment;
    /// The wall clock.
    fn wall(&self) -> UnixMillis;
    /// Where clients find other nodes that serve, as Server Reference says it (MQTT 5 §4.11): addresses for `transport`
    /// with a space between them, if there are any.
    fn elsewhere(&self, transport: Transport) -> Option<String>;
    /// Whether a connection that was admitted may stay: its broker, its token and the key that signed it are as good
    /// as they were.
    fn admits(&self, admitted: &Admitted) -> Result<(), ReasonCode>;
}

/// What a CONNECT claims to be.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// TLS server name or Host header, where there was one.
    pub server_name: Option<Arc<str>>,
    /// Client ID as sent, maybe empty.
    pub client_id: String,
    /// User name as sent.
    pub user_name: Option<String>,
    /// Password as sent: the token.
    pub password: Option<Bytes>,
    /// Where it comes from, for the log.
    pub from: SocketAddr,
}

impl std::fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRequest")
            .field("client_id", &self.client_id)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// A CONNECT whose sender is known.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The broker.
    pub broker: BrokerId,
    /// The client, from the token.
    pub client: ClientId,
    /// The token's identifier.
    pub jti: Arc<str>,
    /// The key that signed it.
    pub kid: Arc<str>,
    /// When the token ends.
    pub expires: Option<UnixMillis>,
    /// What topics the token allows.
    pub acl: Arc<Acl>,
    /// The broker's limits.
    pub settings: Arc<Settings>,
}
