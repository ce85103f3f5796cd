//! Whole packets: from bytes, to bytes.

use bytes::BytesMut;

use super::frame::check_first_byte;
use super::wire::{Reader, put_packet};
use super::{
    Ack, Auth, Connack, Connect, DecodeError, Disconnect, EncodeError, MAX_PACKET, Packet, PacketType, Sender, Suback,
    Subscribe, Unsuback, Unsubscribe, UserProperties, Version, decode_publish,
};

/// Reads a packet from its first byte and body, as `split` found them. `version` is that of the connection: none before
/// CONNECT, the CONNECT's afterwards; so a first packet that is no CONNECT and a second CONNECT are errors. For PUBLISH a
/// broker has `decode_publish`, which does not copy.
///
/// # Errors
/// What is wrong with the packet, see `DecodeError`.
pub fn decode(version: Option<Version>, sender: Sender, first_byte: u8, body: &[u8]) -> Result<Packet, DecodeError> {
    let kind = check_first_byte(first_byte)?;
    let mut r = Reader::new(body);
    let Some(version) = version else {
        if (kind, sender) != (PacketType::Connect, Sender::Client) {
            return Err(DecodeError::protocol("the first packet is not a connect"));
        }
        return Ok(Packet::Connect(Box::new(Connect::read(&mut r)?)));
    };
    check_direction(kind, version, sender)?;
    let r = &mut r;
    let packet = match kind {
        PacketType::Connect => return Err(DecodeError::protocol("a second connect")),
        PacketType::Connack => Packet::Connack(Box::new(Connack::read(r, version)?)),
        PacketType::Publish => {
            return Ok(Packet::Publish(Box::new(decode_publish(version, sender, first_byte, body)?.into())));
        }
        PacketType::Puback => Packet::Puback(Ack::read(r, kind, version)?),
        PacketType::Pubrec => Packet::Pubrec(Ack::read(r, kind, version)?),
        PacketType::Pubrel => Packet::Pubrel(Ack::read(r, kind, version)?),
        PacketType::Pubcomp => Packet::Pubcomp(Ack::read(r, kind, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::read(r, version)?),
        PacketType::Suback => Packet::Suback(Suback::read(r, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::read(r, version)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::read(r, version)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::read(r, version, sender)?),
        PacketType::Auth => Packet::Auth(Auth::read(r, sender)?),
    };
    r.end()?;
    Ok(packet)
}

/// Who may send what (2.1.2).
fn check_direction(kind: PacketType, version: Version, sender: Sender) -> Result<(), DecodeError> {
    let only = match (kind, version) {
        (PacketType::Auth, Version::V311) => return Err(DecodeError::malformed("packet type 15")),
        (PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::Pingreq, _)
        | (PacketType::Disconnect, Version::V311) => Sender::Client,
        (PacketType::Connack | PacketType::Suback | PacketType::Unsuback | PacketType::Pingresp, _) => Sender::Server,
        _ => return Ok(()),
    };
    if only == sender { Ok(()) } else { Err(DecodeError::protocol("a packet that is the other side's to send")) }
}

/// Appends a packet to `out`, which need not be empty; returns its size. A CONNECT is written in its own version.
/// What 3.1.1 does not have (properties, reason codes) is left out.
///
/// # Errors
/// A field or packet too long for the encoding, or contents that the standard does not allow; nothing was written then.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<usize, EncodeError> {
    let kind = packet.packet_type();
    let mut body = BytesMut::new();
    match packet {
        Packet::Publish(p) => return p.write(version, out),
        Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
            return p.write(kind, version, out);
        }
        Packet::Connect(p) => p.write(&mut body)?,
        Packet::Connack(p) => p.write(version, &mut body)?,
        Packet::Subscribe(p) => p.write(version, &mut body)?,
        Packet::Suback(p) => p.write(version, &mut body)?,
        Packet::Unsubscribe(p) => p.write(version, &mut body)?,
        Packet::Unsuback(p) => p.write(version, &mut body)?,
        Packet::Pingreq | Packet::Pingresp => {}
        Packet::Disconnect(p) => p.write(version, &mut body)?,
        Packet::Auth(_) if version == Version::V311 => return Err(EncodeError::Invalid("auth in 3.1.1")),
        Packet::Auth(p) => p.write(&mut body)?,
    }
    put_packet(out, (kind as u8) << 4 | kind.fixed_flags().unwrap_or(0), &body)
}

/// As `encode`, for a receiver that takes packets of at most `limit` bytes: if need be, user properties are left out,
/// then the reason string (3.2.2.3.9, 3.4.2.2.2 and so on). Not for PUBLISH, whose properties are its sender's.
///
/// # Errors
/// Those of `encode`, and `PacketTooLarge` when leaving out does not help; nothing was written then.
pub fn encode_within(
    mut packet: Packet,
    version: Version,
    limit: usize,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    let limit = limit.min(MAX_PACKET);
    let start = out.len();
    let mut size = encode(&packet, version, out)?;
    for part in [Spare::UserProperties, Spare::ReasonString] {
        if size <= limit {
            return Ok(size);
        }
        if packet.leave_out(part) {
            out.truncate(start);
            size = encode(&packet, version, out)?;
        }
    }
    if size <= limit {
        return Ok(size);
    }
    out.truncate(start);
    Err(EncodeError::PacketTooLarge { size, limit })
}

/// What a packet can do without.
#[derive(Clone, Copy)]
enum Spare {
    UserProperties,
    ReasonString,
}

impl Packet {
    /// Whether there was something to leave out.
    fn leave_out(&mut self, part: Spare) -> bool {
        match (part, self.spare()) {
            (_, None) => false,
            (Spare::UserProperties, Some((users, _))) => !std::mem::take(users).is_empty(),
            (Spare::ReasonString, Some((_, reason))) => reason.take().is_some(),
        }
    }

    /// Itself without its reason string, which is for people.
    #[cfg(test)]
    pub fn unexplained(mut self) -> Self {
        self.leave_out(Spare::ReasonString);
        self
    }

    fn spare(&mut self) -> Option<(&mut UserProperties, &mut Option<String>)> {
        let (users, reason) = match self {
            Self::Connack(p) => (&mut p.properties.user_properties, &mut p.properties.reason_string),
            Self::Puback(p) | Self::Pubrec(p) | Self::Pubrel(p) | Self::Pubcomp(p) => {
                (&mut p.properties.user_properties, &mut p.properties.reason_string)
            }
            Self::Suback(p) => (&mut p.properties.user_properties, &mut p.properties.reason_string),
            Self::Unsuback(p) => (&mut p.properties.user_properties, &mut p.properties.reason_string),
            Self::Disconnect(p) => (&mut p.properties.user_properties, &mut p.properties.reason_string),
            Self::Auth(p) => (&mut p.properties.user_properties, &mut p.properties.reason_string),
            _ => return None,
        };
        Some((users, reason))
    }
}
