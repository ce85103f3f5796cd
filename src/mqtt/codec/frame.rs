//! Where one packet ends and the next begins (2.1).

use super::wire::varint;
use super::{DecodeError, PacketType, ReasonCode};

/// A complete packet at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type and flags, checked.
    pub first_byte: u8,
    /// Where the body begins: after the first byte and the remaining length.
    pub body_at: usize,
    /// Size of the whole packet, bytes: what to take off the buffer.
    pub total: usize,
}

impl Frame {
    /// The packet's body in the buffer that it was split from (or in the packet taken off it).
    pub fn body<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.body_at..self.total]
    }

    /// Whether it is a PUBLISH, for which there is a decoder of its own.
    pub const fn is_publish(&self) -> bool {
        self.first_byte >> 4 == PacketType::Publish as u8
    }
}

/// Finds the packet at the front of `buf`: `None` until all of it is there. `max_packet` bounds the whole packet, and is
/// applied as soon as its length is known, so no more than that ever needs to be kept.
///
/// # Errors
/// 0x81 for a reserved type, wrong flags (2.1.3) or a length not in its shortest form; 0x95 for a packet over the limit.
pub fn split(buf: &[u8], max_packet: usize) -> Result<Option<Frame>, DecodeError> {
    let Some((&first_byte, rest)) = buf.split_first() else { return Ok(None) };
    check_first_byte(first_byte)?;
    let Some((remaining, len)) = varint(rest)? else { return Ok(None) };
    let body_at = 1 + len;
    let total = body_at + remaining as usize;
    if total > max_packet {
        return Err(DecodeError::with(ReasonCode::PACKET_TOO_LARGE, "the packet exceeds the maximum packet size"));
    }
    Ok((buf.len() >= total).then_some(Frame { first_byte, body_at, total }))
}

/// Checks type and flags (2.1.3, and 3.3.1 for PUBLISH).
pub(super) fn check_first_byte(first_byte: u8) -> Result<PacketType, DecodeError> {
    let kind = PacketType::of(first_byte).ok_or(DecodeError::malformed("packet type 0"))?;
    match kind.fixed_flags() {
        Some(flags) if flags != first_byte & 0x0f => Err(DecodeError::malformed("reserved flags of the first byte")),
        Some(_) => Ok(kind),
        None if first_byte & 0b0110 == 0b0110 => Err(DecodeError::malformed("qos 3")),
        None if first_byte & 0b1110 == 0b1000 => Err(DecodeError::malformed("dup with qos 0")),
        None => Ok(kind),
    }
}
