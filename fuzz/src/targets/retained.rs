//! Retained messages: the store's file as it may be on a disk, and records in any order.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::clock::{Clock, Moment, UnixMillis};
use rookery_cluster::disk::{Disk, MemDisk};
use rookery_cluster::ids::{BrokerId, NodeId};
use rookery_cluster::retained::store::{Store, StoreConfig, Write};
use rookery_cluster::retained::{Came, Pages, Record, Stamp, Time};

use super::{ensure, head};

const DIR: &str = "/retained";
const FILE: &str = "/retained/000000000001.retained";
/// Bytes of the file before its batches, and of a batch before its entries.
const HEADER: usize = 24;
/// Turns of the writer that one opening may take.
pub const TURNS: usize = 16;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Moment {
        Moment::default()
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(1_000_000)
    }
}

struct Zero;

impl rookery_cluster::rng::Rng for Zero {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

/// Opens the store, by hand.
pub fn open(disk: &MemDisk) -> Result<Store, String> {
    let config = StoreConfig { by_hand: true, ..StoreConfig::new(Arc::new(Fixed), Arc::new(Zero)) };
    Store::open(Path::new(DIR), Arc::new(disk.clone()), config).map_err(|why| format!("the store does not open: {why}"))
}

/// A byte for what it is: a whole file, or the entries of a batch, to which sound checksums are given.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    let disk = MemDisk::new(1);
    let failed = |why| format!("the model of a disk: {why}");
    disk.create_dir_all(Path::new(DIR)).map_err(failed)?;
    let file = disk.create(Path::new(FILE)).map_err(failed)?;
    file.append(&if how & 1 == 0 { bytes.to_vec() } else { framed(bytes) }).map_err(failed)?;
    let store = open(&disk)?;
    let totals = store.totals();
    let most = Pages { messages: 10, bytes: 1000, steps: 100 };
    for broker in store.brokers() {
        store.page(broker, "#", None, most, drop);
        store.page(broker, "+/b/#", None, most, drop);
    }
    store.caught_up();
    (0..TURNS).take_while(|_| store.turn()).count();
    store.close();
    drop(store);
    let again = open(&disk)?;
    ensure(again.totals() == totals, || format!("{totals:?} became {:?}", again.totals()))?;
    again.tick(None);
    Ok(())
}

/// A file with one batch, salt 0.
fn framed(entries: &[u8]) -> Vec<u8> {
    let mut file = b"RKRETAIN\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    let seed = crc32c::crc32c_append(crc32c::crc32c(&0_u64.to_le_bytes()), &1_u64.to_le_bytes());
    let mut batch = b"RKR\xb7\x01\0\0\0\0\0\0\0".to_vec();
    batch.extend((entries.len() as u32).to_le_bytes());
    batch.extend(crc32c::crc32c_append(seed, entries).to_le_bytes());
    batch.extend(crc32c::crc32c_append(seed, &batch).to_le_bytes());
    [file, batch, entries.to_vec()].concat()
}

/// A file that the store wrote, and the entries in it.
pub fn seeds() -> Vec<Vec<u8>> {
    let disk = MemDisk::new(1);
    let store = open(&disk).expect("an empty disk");
    let stamp = |time| Stamp { time: Time(time), node: NodeId(1) };
    let write = |topic: &str, time, message: Option<&'static [u8]>| Write {
        broker: BrokerId(9),
        topic: topic.into(),
        record: Record {
            stamp: stamp(time),
            expires: Some(UnixMillis(time)),
            message: message.map(Bytes::from_static),
        },
    };
    let writes = [write("a", 1, Some(b"x")), write("a/b/c", 2 << 30, Some(b"yy")), write("a", 3, None)];
    store.take(&writes, Came::Copied, None, || ());
    store.caught_up();
    (0..TURNS).take_while(|_| store.turn()).count();
    store.remove(BrokerId(8));
    store.close();
    let file = disk.content(Path::new(FILE)).unwrap_or_default();
    let entries = file.get(2 * HEADER..).unwrap_or_default();
    vec![[&[0], &file[..]].concat(), [&[1], entries].concat()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_sound() {
        let disk = MemDisk::new(1);
        disk.create_dir_all(Path::new(DIR)).expect("a folder");
        let entries = &seeds()[1][1..];
        assert!(!entries.is_empty());
        disk.create(Path::new(FILE)).expect("a file").append(&framed(entries)).expect("room");
        assert!(open(&disk).expect("a store").totals().records > 0);
    }
}
