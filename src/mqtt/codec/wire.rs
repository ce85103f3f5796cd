//! The standard's data types (1.5), read and written.

use bytes::{BufMut, BytesMut};

use super::{DecodeError, EncodeError, MAX_REMAINING, PacketId};

type Read<T> = Result<T, DecodeError>;

/// A bounded slice that is read from its front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(DecodeError::malformed("a field is cut short"))?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk().ok_or(DecodeError::malformed("a field is cut short"))?;
        self.0 = rest;
        Ok(*front)
    }

    pub fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form (1.5.5).
    pub fn varint(&mut self) -> Read<u32> {
        let (value, len) = varint(self.0)?.ok_or(DecodeError::malformed("a field is cut short"))?;
        self.0 = &self.0[len..];
        Ok(value)
    }

    pub fn binary(&mut self) -> Read<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A string: UTF-8 without surrogates (as std has it) and without U+0000 (1.5.4).
    pub fn text(&mut self) -> Read<&'a str> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(DecodeError::malformed("u+0000 in a string"));
        }
        std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("a string is not utf-8"))
    }

    pub fn packet_id(&mut self) -> Read<PacketId> {
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier 0"))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Read<()> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::malformed("bytes after the end of the packet's fields")) }
    }
}

/// A variable byte integer at the front of `bytes` and how many bytes it takes; `None` when more bytes are needed.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Read<Option<(u32, usize)>> {
    let mut value = 0;
    for at in 0..4 {
        let Some(&byte) = bytes.get(at) else { return Ok(None) };
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(DecodeError::malformed("a variable byte integer is not in its shortest form"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    Err(DecodeError::malformed("a variable byte integer exceeds four bytes"))
}

/// Bytes that `put_varint` takes for `value`.
pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Writes `value`, at most `MAX_REMAINING`, in its shortest form.
pub(super) fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The length prefix of a string or binary field.
pub(super) fn field_len(field: &[u8]) -> Result<u16, EncodeError> {
    u16::try_from(field.len()).map_err(|_| EncodeError::FieldTooLong)
}

pub(super) fn put_binary(out: &mut BytesMut, field: &[u8]) -> Result<(), EncodeError> {
    out.put_u16(field_len(field)?);
    out.put_slice(field);
    Ok(())
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) -> Result<(), EncodeError> {
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::Invalid("u+0000 in a string"));
    }
    put_binary(out, text.as_bytes())
}

/// Appends a whole packet: first byte, length, body. Returns its size.
pub(super) fn put_packet(out: &mut BytesMut, first_byte: u8, body: &[u8]) -> Result<usize, EncodeError> {
    let size = packet_len(body.len())?;
    out.reserve(size);
    out.put_u8(first_byte);
    put_varint(out, body.len());
    out.put_slice(body);
    Ok(size)
}

/// Size of a packet with this remaining length.
pub(super) fn packet_len(remaining: usize) -> Result<usize, EncodeError> {
    let size = remaining.saturating_add(1 + varint_len(remaining));
    if remaining > MAX_REMAINING {
        return Err(EncodeError::PacketTooLarge { size, limit: super::MAX_PACKET });
    }
    Ok(size)
}
