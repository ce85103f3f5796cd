//! A datagram before sealing: version (1 byte), length of the SWIM packet (2 bytes, big endian), the packet,
//! and a card (the rest; may be absent).

use bytes::{BufMut, Bytes, BytesMut};

use super::NodeCard;

const VERSION: u8 = 1;
/// What this adds to packet and card, bytes.
pub(super) const OVERHEAD: usize = 3;

pub(super) fn close(packet: &[u8], card: Option<&NodeCard>) -> Bytes {
    // Cards were checked for size when taken, and plain data encodes always; without one it goes as well.
    let card = card.and_then(|card| postcard::to_stdvec(card).ok()).unwrap_or_default();
    let mut datagram = BytesMut::with_capacity(OVERHEAD + packet.len() + card.len());
    datagram.put_u8(VERSION);
    // foca's own bound is far below 64 KiB.
    datagram.put_u16(packet.len() as u16);
    datagram.put_slice(packet);
    datagram.put_slice(&card);
    datagram.freeze()
}

pub(super) fn open(datagram: &[u8]) -> Option<(&[u8], Option<NodeCard>)> {
    let (&VERSION, rest) = datagram.split_first()? else { return None };
    let (length, rest) = rest.split_at_checked(2)?;
    let (packet, card) = rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    if card.is_empty() {
        return Some((packet, None));
    }
    let card: NodeCard = postcard::from_bytes(card).ok()?;
    card.check().ok().map(|()| (packet, Some(card)))
}
