//! What a node says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::NodeLife;

/// Largest encoded card, bytes: it travels in one datagram with everything else.
pub const MAX_CARD_BYTES: usize = 512;

/// A node's card: hints for operators and placement, never routing truth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// Whose card it is.
    pub life: NodeLife,
    /// Counts the changes of the card within that life; the largest is in force.
    pub revision: u64,
    /// Region, from the node's configuration.
    pub region: String,
    /// Zone within the region: what may fail together.
    pub zone: String,
    /// The program's version.
    pub version: String,
    /// Addresses by purpose, such as `peer`, `mqtt`, `admin`: `host:port`.
    pub addresses: BTreeMap<String, String>,
}

/// A card that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node's card may have {MAX_CARD_BYTES} bytes, this one has {0}: shorten the region, zone or addresses")]
pub struct BadCard(pub usize);

impl NodeCard {
    /// # Errors
    /// Where the card is above [`MAX_CARD_BYTES`] encoded.
    pub fn check(&self) -> Result<(), BadCard> {
        // Encoding plain data fails only for want of memory.
        let size = postcard::to_stdvec(self).map_or(usize::MAX, |bytes| bytes.len());
        if size > MAX_CARD_BYTES { Err(BadCard(size)) } else { Ok(()) }
    }
}
