//! The snapshot of one group, in one file: `<dir>/<group>.snap`.
//!
//! Format, integers little-endian: magic `RKSN`, version, group (u32), length of the head (u32), head (as
//! [`codec::meta_to_bytes`] makes it), length of the state (u64), state, CRC-32C of all before it (u32).
//! A new one is written beside it, synced, and renamed over it, so that there is always a whole one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rookery_cluster::ids::GroupId;

use crate::codec;
use crate::types::{LogId, Snapshot, SnapshotMeta};

const MAGIC: &[u8; 4] = b"RKSN";
const VERSION: u8 = 1;
const FIXED: usize = 4 + 1 + 4 + 4;

/// The place of a group's snapshot. Clones share it.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    group: GroupId,
    path: Arc<PathBuf>,
    /// Log id of what the file holds; held locked while the file is written.
    saved: Arc<Mutex<Option<LogId>>>,
}

impl SnapshotFile {
    /// Opens and checks the file, if there is one, and removes what a crash left half written. Blocks.
    pub(crate) fn open(dir: &Path, group: GroupId) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{group}.snap"));
        match fs::remove_file(beside(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = Self { group, path: Arc::new(path), saved: Arc::default() };
        let found = file.read()?;
        *file.saved.lock() = found.and_then(|snapshot| snapshot.meta.last_log_id);
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Log id of the last entry that the saved snapshot covers.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        *self.saved.lock()
    }

    /// The saved snapshot. Blocks.
    pub(crate) fn read(&self) -> io::Result<Option<Snapshot>> {
        let bytes = match fs::read(&*self.path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match decode(self.group, bytes) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        }
    }

    /// Saves a snapshot, unless a later one is saved already. On return it survives a power loss. Blocks.
    pub(crate) fn save(&self, meta: &SnapshotMeta, state: &Bytes) -> io::Result<()> {
        let mut saved = self.saved.lock();
        if saved.is_some() && *saved >= meta.last_log_id {
            return Ok(());
        }
        let head = encode_head(self.group, meta, state.len());
        let tail = crc32c::crc32c_append(crc32c::crc32c(&head), state);
        let new = beside(&self.path);
        let mut file = File::create(&new)?;
        file.write_all(&head)?;
        file.write_all(state)?;
        file.write_all(&tail.to_le_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &*self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        *saved = meta.last_log_id;
        Ok(())
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("snap.new")
}

pub(crate) fn encode_head(group: GroupId, meta: &SnapshotMeta, state: usize) -> Bytes {
    let meta = codec::meta_to_bytes(meta);
    let mut head = BytesMut::with_capacity(FIXED + meta.len() + 8);
    head.put_slice(MAGIC);
    head.put_u8(VERSION);
    head.put_u32_le(group.0);
    head.put_u32_le(u32::try_from(meta.len()).unwrap_or(u32::MAX));
    head.put_slice(&meta);
    head.put_u64_le(state as u64);
    head.freeze()
}

pub(crate) fn decode(group: GroupId, mut bytes: Bytes) -> Result<Snapshot, String> {
    if bytes.len() < FIXED + 8 + 4 || !bytes.starts_with(MAGIC) {
        return Err("this is not a snapshot, or its beginning is missing".to_owned());
    }
    if bytes[4] != VERSION {
        return Err(format!("snapshot version {} is not known to this binary (it knows {VERSION})", bytes[4]));
    }
    let sum = bytes.split_off(bytes.len() - 4).get_u32_le();
    if crc32c::crc32c(&bytes) != sum {
        return Err("the checksum does not match: the file is damaged".to_owned());
    }
    bytes.advance(5);
    let found = bytes.get_u32_le();
    if found != group.0 {
        return Err(format!("this is a snapshot of group {found}"));
    }
    let head = bytes.get_u32_le() as usize;
    if bytes.len() < head + 8 {
        return Err("the head is longer than the file".to_owned());
    }
    let meta = codec::meta_from_bytes(&bytes.split_to(head)).map_err(|e| e.to_string())?;
    if bytes.get_u64_le() != bytes.len() as u64 {
        return Err("the length does not match".to_owned());
    }
    Ok(Snapshot { meta, snapshot: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;
    use openraft::vote::RaftLeaderId;

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta { last_log_id: Some(LogId::new(LeaderId::new(1, 2), index)), ..SnapshotMeta::default() }
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("rookery-snap-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn what_is_saved_is_read_back_and_older_ones_do_not_replace_it() {
        let dir = dir("saved");
        let file = SnapshotFile::open(&dir, GroupId(3)).unwrap();
        assert!(file.read().unwrap().is_none());
        file.save(&meta(10), &Bytes::from_static(b"state")).unwrap();
        file.save(&meta(9), &Bytes::from_static(b"older")).unwrap();
        fs::write(beside(file.path()), b"half").unwrap();

        let again = SnapshotFile::open(&dir, GroupId(3)).unwrap();
        let snapshot = again.read().unwrap().unwrap();
        assert_eq!((snapshot.meta, &snapshot.snapshot[..]), (meta(10), &b"state"[..]));
        assert_eq!(again.last_log_id(), meta(10).last_log_id);
        assert!(!beside(file.path()).exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let dir = dir("damage");
        let file = SnapshotFile::open(&dir, GroupId(3)).unwrap();
        file.save(&meta(10), &Bytes::from_static(b"state")).unwrap();
        let good = fs::read(file.path()).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(GroupId(3), Bytes::from(bad)).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(decode(GroupId(3), Bytes::copy_from_slice(&good[..len])).is_err(), "cut at {len}");
        }
        assert!(decode(GroupId(4), Bytes::from(good)).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
