//! Reason codes (2.4) and their 3.1.1 counterparts.

use std::fmt;

use super::wire::Reader;
use super::{DecodeError, PacketType, Sender};

/// A version 5 reason code. The same value may have several names (0 is success, a normal disconnection and a granted
/// QoS 0), so it is a number with names, not an enum.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReasonCode(u8);

macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        #[expect(missing_docs, reason = "the names are the standard's")]
        impl ReasonCode {
            $(pub const $name: ReasonCode = ReasonCode($value);)*

            /// The code with this value, if the standard defines one.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self(value)),)*
                    _ => None,
                }
            }

            /// The standard's name in lowercase.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "unknown",
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0x00, "success";
    GRANTED_QOS_1 = 0x01, "granted qos 1";
    GRANTED_QOS_2 = 0x02, "granted qos 2";
    DISCONNECT_WITH_WILL = 0x04, "disconnect with will message";
    NO_MATCHING_SUBSCRIBERS = 0x10, "no matching subscribers";
    NO_SUBSCRIPTION_EXISTED = 0x11, "no subscription existed";
    CONTINUE_AUTHENTICATION = 0x18, "continue authentication";
    REAUTHENTICATE = 0x19, "re-authenticate";
    UNSPECIFIED_ERROR = 0x80, "unspecified error";
    MALFORMED_PACKET = 0x81, "malformed packet";
    PROTOCOL_ERROR = 0x82, "protocol error";
    IMPLEMENTATION_SPECIFIC = 0x83, "implementation specific error";
    UNSUPPORTED_VERSION = 0x84, "unsupported protocol version";
    CLIENT_ID_INVALID = 0x85, "client identifier not valid";
    BAD_CREDENTIALS = 0x86, "bad user name or password";
    NOT_AUTHORIZED = 0x87, "not authorized";
    SERVER_UNAVAILABLE = 0x88, "server unavailable";
    SERVER_BUSY = 0x89, "server busy";
    BANNED = 0x8a, "banned";
    SERVER_SHUTTING_DOWN = 0x8b, "server shutting down";
    BAD_AUTHENTICATION_METHOD = 0x8c, "bad authentication method";
    KEEP_ALIVE_TIMEOUT = 0x8d, "keep alive timeout";
    SESSION_TAKEN_OVER = 0x8e, "session taken over";
    TOPIC_FILTER_INVALID = 0x8f, "topic filter invalid";
    TOPIC_NAME_INVALID = 0x90, "topic name invalid";
    PACKET_ID_IN_USE = 0x91, "packet identifier in use";
    PACKET_ID_NOT_FOUND = 0x92, "packet identifier not found";
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive maximum exceeded";
    TOPIC_ALIAS_INVALID = 0x94, "topic alias invalid";
    PACKET_TOO_LARGE = 0x95, "packet too large";
    MESSAGE_RATE_TOO_HIGH = 0x96, "message rate too high";
    QUOTA_EXCEEDED = 0x97, "quota exceeded";
    ADMINISTRATIVE_ACTION = 0x98, "administrative action";
    PAYLOAD_FORMAT_INVALID = 0x99, "payload format invalid";
    RETAIN_NOT_SUPPORTED = 0x9a, "retain not supported";
    QOS_NOT_SUPPORTED = 0x9b, "qos not supported";
    USE_ANOTHER_SERVER = 0x9c, "use another server";
    SERVER_MOVED = 0x9d, "server moved";
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9e, "shared subscriptions not supported";
    CONNECTION_RATE_EXCEEDED = 0x9f, "connection rate exceeded";
    MAXIMUM_CONNECT_TIME = 0xa0, "maximum connect time";
    SUBSCRIPTION_IDS_NOT_SUPPORTED = 0xa1, "subscription identifiers not supported";
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xa2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// DISCONNECT 0x00.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::SUCCESS;
    /// SUBACK 0x00.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::SUCCESS;

    /// The byte on the wire.
    pub const fn value(self) -> u8 {
        self.0
    }

    /// 0x80 and up are failures.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The SUBACK code that grants this QoS.
    pub const fn granted(qos: super::QoS) -> Self {
        Self(qos as u8)
    }
}

impl fmt::Debug for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReasonCode({:#04x} {})", self.0, self.name())
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}", self.0, self.name())
    }
}

/// A CONNACK's return code in 3.1.1 (3.1.1: 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum ConnectReturnCode {
    Accepted = 0,
    UnacceptableProtocolVersion = 1,
    IdentifierRejected = 2,
    ServerUnavailable = 3,
    BadUserNameOrPassword = 4,
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// The code with this value; 6 and up are reserved.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// What version 5 says for it.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Accepted => ReasonCode::SUCCESS,
            Self::UnacceptableProtocolVersion => ReasonCode::UNSUPPORTED_VERSION,
            Self::IdentifierRejected => ReasonCode::CLIENT_ID_INVALID,
            Self::ServerUnavailable => ReasonCode::SERVER_UNAVAILABLE,
            Self::BadUserNameOrPassword => ReasonCode::BAD_CREDENTIALS,
            Self::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        }
    }
}

/// What 3.1.1 says in a CONNACK where version 5 says `reason`. Whatever 3.1.1 has no word for is "server unavailable"
/// when trying again may help, and "not authorized" when it will not.
pub const fn connack_code_v311(reason: ReasonCode) -> u8 {
    let code = match reason {
        _ if !reason.is_error() => ConnectReturnCode::Accepted,
        ReasonCode::UNSUPPORTED_VERSION => ConnectReturnCode::UnacceptableProtocolVersion,
        ReasonCode::CLIENT_ID_INVALID => ConnectReturnCode::IdentifierRejected,
        ReasonCode::BAD_CREDENTIALS => ConnectReturnCode::BadUserNameOrPassword,
        ReasonCode::NOT_AUTHORIZED
        | ReasonCode::BANNED
        | ReasonCode::BAD_AUTHENTICATION_METHOD
        | ReasonCode::TOPIC_NAME_INVALID
        | ReasonCode::PACKET_TOO_LARGE
        | ReasonCode::PAYLOAD_FORMAT_INVALID
        | ReasonCode::RETAIN_NOT_SUPPORTED
        | ReasonCode::QOS_NOT_SUPPORTED => ConnectReturnCode::NotAuthorized,
        _ => ConnectReturnCode::ServerUnavailable,
    };
    code as u8
}

/// What 3.1.1 says in a SUBACK where version 5 says `reason`: the granted QoS, or 0x80 for every failure.
pub const fn suback_code_v311(reason: ReasonCode) -> u8 {
    if reason.is_error() { 0x80 } else { reason.value() }
}

/// Whether the standard lists `code` for this packet. A DISCONNECT's code is taken from either side, since the
/// connection ends all the same.
const fn listed(kind: PacketType, code: u8) -> bool {
    match kind {
        PacketType::Connack => {
            matches!(code, 0 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f)
        }
        PacketType::Puback | PacketType::Pubrec => {
            matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
        }
        PacketType::Pubrel | PacketType::Pubcomp => matches!(code, 0 | 0x92),
        PacketType::Suback => {
            matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2)
        }
        PacketType::Unsuback => matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91),
        PacketType::Disconnect => {
            matches!(code, 0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2)
        }
        PacketType::Auth => matches!(code, 0 | 0x18 | 0x19),
        _ => false,
    }
}

/// Reads a reason code that this packet may have.
pub(super) fn read_reason(r: &mut Reader<'_>, kind: PacketType) -> Result<ReasonCode, DecodeError> {
    let code = r.u8()?;
    if !listed(kind, code) {
        return Err(DecodeError::protocol("a reason code that this packet does not allow"));
    }
    Ok(ReasonCode(code))
}

/// Reads an AUTH's reason code: success is the server's to send, re-authenticate the client's (3.15.2.1).
pub(super) fn read_auth_reason(r: &mut Reader<'_>, sender: Sender) -> Result<ReasonCode, DecodeError> {
    let code = if r.is_empty() { ReasonCode::SUCCESS } else { read_reason(r, PacketType::Auth)? };
    match (code, sender) {
        (ReasonCode::SUCCESS, Sender::Client) | (ReasonCode::REAUTHENTICATE, Sender::Server) => {
            Err(DecodeError::protocol("an auth reason code that is the other side's to send"))
        }
        _ => Ok(code),
    }
}
