//! Whether a token that was genuine once is still good: asked at CONNECT and again of live connections (P2).

use std::sync::Arc;

use rookery_cluster::clock::UnixMillis;
use rookery_cluster::ids::{BrokerId, ClientId};
use rookery_cluster::metadata::{Kid, State};
use rookery_cluster::topics::Acl;

/// Who a client is, by a genuine token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The broker whose key signed the token.
    pub broker: BrokerId,
    /// The token's `sub`: the source of truth for the client ID.
    pub client_id: ClientId,
    /// The token's id, by which it is revoked.
    pub jti: Arc<str>,
    /// The key that signed it.
    pub kid: Kid,
    /// From when on it is not valid; `None`: never.
    pub expires: Option<UnixMillis>,
    /// What topics it allows.
    pub acl: Arc<Acl>,
}

impl Verified {
    /// Whether the connection may stay, by a newer view or at a later time. Cheap: three lookups.
    pub fn still_admitted(&self, state: &State, now: UnixMillis) -> Result<(), Denied> {
        admits(state, self.broker, &self.jti, self.expires, now)?;
        match state.broker_of_key(self.kid.as_str()) {
            Some(broker) if broker.id == self.broker => Ok(()),
            _ => Err(Denied::UnknownKey),
        }
    }
}

/// Why a client is not let in, or not any longer. The text is for the log; the client is told the reason code only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No password, so no token.
    #[error("no token")]
    Missing,
    /// Not known to be genuine: to be looked at closer.
    #[error("token not seen before")]
    Unknown,
    /// Longer than `MAX_TOKEN_BYTES`.
    #[error("token of {0} bytes is too long")]
    TooLong(usize),
    /// Not a JWT, or one with another algorithm than EdDSA.
    #[error("malformed token: {0}")]
    Malformed(String),
    /// Its `kid` is no broker's (any longer).
    #[error("token signed by an unknown key")]
    UnknownKey,
    /// It is another broker's than the one that the connection's name belongs to.
    #[error("token of another broker")]
    OtherBroker,
    /// The signature is wrong.
    #[error("token with a wrong signature")]
    BadSignature,
    /// A claim is missing or makes no sense.
    #[error("token with unusable claims: {0}")]
    BadClaims(String),
    /// The CONNECT has another client ID than the token.
    #[error("the client id is not the token's subject")]
    OtherClient,
    /// Its time is over.
    #[error("token expired")]
    Expired,
    /// Its time has not come (`nbf`).
    #[error("token not valid yet")]
    NotYetValid,
    /// It was revoked.
    #[error("token revoked")]
    Revoked,
    /// The broker was deleted.
    #[error("broker deleted")]
    NoBroker,
}

/// What the client is told (MQTT 5 reason codes; MQTT 3.1.1 return codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 0x86; 3.1.1: 4. The credential is not one of this broker's.
    BadUserNameOrPassword,
    /// 0x85; 3.1.1: 2. The credential is good, but for another client ID.
    ClientIdInvalid,
    /// 0x87; 3.1.1: 5. It is, but is not admitted (any longer).
    NotAuthorized,
}

impl Denied {
    /// Whether newer metadata may say otherwise: a key, a broker or an unrevocation that has not come yet.
    pub fn depends_on_view(&self) -> bool {
        matches!(self, Denied::UnknownKey | Denied::NoBroker | Denied::OtherBroker | Denied::Revoked)
    }

    /// What the client is told.
    pub fn reason(&self) -> Reason {
        match self {
            Denied::Expired | Denied::NotYetValid | Denied::Revoked | Denied::NoBroker | Denied::OtherBroker => {
                Reason::NotAuthorized
            }
            Denied::OtherClient => Reason::ClientIdInvalid,
            Denied::Missing
            | Denied::Unknown
            | Denied::TooLong(_)
            | Denied::Malformed(_)
            | Denied::UnknownKey
            | Denied::BadSignature
            | Denied::BadClaims(_) => Reason::BadUserNameOrPassword,
        }
    }
}

/// Whether `broker` admits the token `jti` now. An expiry is the first moment at which it is not valid (RFC 7519
/// §4.1.4), without leeway: the same clock issued it, within what the nodes' clocks differ.
pub fn admits(
    state: &State,
    broker: BrokerId,
    jti: &str,
    expires: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<(), Denied> {
    if state.broker(broker).is_none() {
        return Err(Denied::NoBroker);
    }
    if state.is_revoked(broker, jti) {
        return Err(Denied::Revoked);
    }
    if expires.is_some_and(|expires| now >= expires) {
        return Err(Denied::Expired);
    }
    Ok(())
}
