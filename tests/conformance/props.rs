//! The properties of MQTT 5 (§2.2.2.2): numbers, types, and which packet may carry which.

/// How a property's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Byte,
    Two,
    Four,
    Varint,
    Text,
    Binary,
    Pair,
}

/// One property.
pub struct Property {
    pub id: u8,
    /// Its name in the case files.
    pub name: &'static str,
    pub kind: Kind,
    /// The packets of a server that may carry it.
    pub from_server: &'static [&'static str],
}

const REASONED: &[&str] =
    &["connack", "puback", "pubrec", "pubrel", "pubcomp", "suback", "unsuback", "disconnect", "auth"];
const ANYWHERE: &[&str] =
    &["connack", "publish", "puback", "pubrec", "pubrel", "pubcomp", "suback", "unsuback", "disconnect", "auth"];

const fn p(id: u8, name: &'static str, kind: Kind, from_server: &'static [&'static str]) -> Property {
    Property { id, name, kind, from_server }
}

/// All of them.
pub const PROPERTIES: &[Property] = &[
    p(0x01, "format", Kind::Byte, &["publish"]),
    p(0x02, "expiry", Kind::Four, &["publish"]),
    p(0x03, "content_type", Kind::Text, &["publish"]),
    p(0x08, "response_topic", Kind::Text, &["publish"]),
    p(0x09, "correlation", Kind::Binary, &["publish"]),
    p(0x0b, "subid", Kind::Varint, &["publish"]),
    p(0x11, "session_expiry", Kind::Four, &["connack"]),
    p(0x12, "assigned_id", Kind::Text, &["connack"]),
    p(0x13, "server_keepalive", Kind::Two, &["connack"]),
    p(0x15, "auth_method", Kind::Text, &["connack", "auth"]),
    p(0x16, "auth_data", Kind::Binary, &["connack", "auth"]),
    p(0x17, "request_problem", Kind::Byte, &[]),
    p(0x18, "will_delay", Kind::Four, &[]),
    p(0x19, "request_response", Kind::Byte, &[]),
    p(0x1a, "response_info", Kind::Text, &["connack"]),
    p(0x1c, "server_reference", Kind::Text, &["connack", "disconnect"]),
    p(0x1f, "reason", Kind::Text, REASONED),
    p(0x21, "receive_maximum", Kind::Two, &["connack"]),
    p(0x22, "alias_maximum", Kind::Two, &["connack"]),
    p(0x23, "alias", Kind::Two, &["publish"]),
    p(0x24, "maximum_qos", Kind::Byte, &["connack"]),
    p(0x25, "retain_available", Kind::Byte, &["connack"]),
    p(0x26, "user", Kind::Pair, ANYWHERE),
    p(0x27, "maximum_packet", Kind::Four, &["connack"]),
    p(0x28, "wildcard_available", Kind::Byte, &["connack"]),
    p(0x29, "subid_available", Kind::Byte, &["connack"]),
    p(0x2a, "shared_available", Kind::Byte, &["connack"]),
];

/// The property of that name.
pub fn named(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.name == name)
}

/// The property of that number.
pub fn numbered(id: u8) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.id == id)
}
