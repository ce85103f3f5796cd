//! Tables of bytes, kept as data so that they can be sent to a running broker as well.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// 4 or 5; 0 before CONNECT.
    version: u8,
    from: String,
    hex: String,
    /// Why it is refused; none when it is accepted.
    reason: Option<String>,
    /// In which version's format a CONNACK may answer.
    connack: Option<u8>,
    /// What an accepted packet looks like when written, where that differs.
    again: Option<String>,
}

impl Case {
    fn version(&self) -> Option<Version> {
        version(self.version)
    }

    fn outcome(&self) -> Result<Packet, DecodeError> {
        let sender = match self.from.as_str() {
            "client" => Sender::Client,
            "server" => Sender::Server,
            other => panic!("{}: from {other}", self.name),
        };
        let bytes = hex(&self.hex);
        let frame = split(&bytes, MAX_PACKET)?.unwrap_or_else(|| panic!("{}: not complete", self.name));
        assert_eq!(frame.total, bytes.len(), "{}: one packet", self.name);
        decode(self.version(), sender, frame.first_byte, frame.body(&bytes))
    }
}

fn version(number: u8) -> Option<Version> {
    match number {
        4 => Some(Version::V311),
        5 => Some(Version::V5),
        _ => None,
    }
}

#[test]
fn malformed() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../../tests/wire/malformed.json")).unwrap();
    for case in &cases {
        let error = match case.outcome() {
            Ok(packet) => panic!("{}: accepted as {packet:?}", case.name),
            Err(error) => error,
        };
        let reason = format!("{:#04x}", error.reason.value());
        assert_eq!(Some(reason), case.reason, "{}: {error}", case.name);
        assert_eq!(error.connack, case.connack.and_then(version), "{}: connack", case.name);
    }
    assert!(cases.len() > 100);
}

#[test]
fn accepted() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../../tests/wire/accepted.json")).unwrap();
    for case in &cases {
        let packet = case.outcome().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let version = case.version().unwrap_or(match &packet {
            Packet::Connect(connect) => connect.version,
            _ => Version::V5,
        });
        let again = case.again.as_deref().unwrap_or(&case.hex);
        assert_eq!(write(&packet, version), hex(again)[..], "{}: {packet:?}", case.name);
    }
}
