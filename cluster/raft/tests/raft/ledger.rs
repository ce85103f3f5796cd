//! A state machine that knows in which order it applied what, and applies each request once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use imbl::OrdMap;
use parking_lot::Mutex;
use rookery_cluster::consensus::{Replicated, UnknownCommand};
use rookery_cluster::ids::LogIndex;

/// What a reader sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub applied: LogIndex,
    /// Position of each request in the order of first application.
    pub order: OrdMap<(u64, u64), u64>,
    /// Over the requests in that order.
    pub hash: u64,
}

/// Shared with the test.
pub type SharedView = Arc<Mutex<View>>;

pub struct Ledger {
    view: SharedView,
    order: OrdMap<(u64, u64), u64>,
    hash: u64,
    /// Commands of a later version than this are not known.
    version: u8,
}

/// A request of `client`, its `seq`th, in a command of `version`, with `padding` more bytes.
pub fn command(version: u8, client: u64, seq: u64, padding: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(17 + padding);
    bytes.put_u8(version);
    bytes.put_u64(client);
    bytes.put_u64(seq);
    bytes.put_bytes(0x5a, padding);
    bytes.freeze()
}

impl Ledger {
    pub fn new(view: SharedView, version: u8) -> Ledger {
        Ledger { view, order: OrdMap::new(), hash: 0, version }
    }
}

impl Replicated for Ledger {
    fn apply(&mut self, _: LogIndex, mut command: &[u8]) -> Result<Bytes, UnknownCommand> {
        assert!(command.len() >= 17, "not a command of this machine");
        let version = command.get_u8();
        if version > self.version {
            return Err(UnknownCommand(format!("version {version}")));
        }
        let id = (command.get_u64(), command.get_u64());
        let next = self.order.len() as u64;
        let place = *self.order.entry(id).or_insert(next);
        if place == next {
            let mut hasher = DefaultHasher::new();
            (self.hash, id).hash(&mut hasher);
            self.hash = hasher.finish();
        }
        Ok(Bytes::copy_from_slice(&place.to_be_bytes()))
    }

    fn applied(&mut self, applied: LogIndex) {
        *self.view.lock() = View { applied, order: self.order.clone(), hash: self.hash };
    }

    fn snapshot(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64(self.hash);
        for ((client, seq), place) in &self.order {
            bytes.put_u64(*client);
            bytes.put_u64(*seq);
            bytes.put_u64(*place);
        }
        bytes.freeze()
    }

    fn restore(&mut self, mut snapshot: &[u8]) -> Result<(), UnknownCommand> {
        self.hash = snapshot.get_u64();
        self.order.clear();
        while snapshot.has_remaining() {
            self.order.insert((snapshot.get_u64(), snapshot.get_u64()), snapshot.get_u64());
        }
        Ok(())
    }
}
