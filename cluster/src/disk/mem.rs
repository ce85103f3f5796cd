//! A disk in memory that can lose power, fill up, fail a sync and rot, all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile, DiskLock};

/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;

/// A disk in memory. Clones share it. [`MemDisk::crash`] forgets what was not synced: of each file's unsynced
/// writes nothing, a beginning with a torn last write, or any set of sectors survives; of the unsynced changes of
/// names a beginning or any set. Files opened before a crash answer with errors after it.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: u64,
    epoch: u64,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<(PathBuf, NameOp)>,
    inodes: BTreeMap<u64, Inode>,
    locks: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    fail_sync_in: Option<u64>,
    power_fails_in: Option<u64>,
}

enum NameOp {
    Set(u64),
    Remove,
    RenamedFrom(PathBuf),
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

fn overwrite(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, path: PathBuf, op: &NameOp) {
    match op {
        NameOp::Set(inode) => {
            names.insert(path, *inode);
        }
        NameOp::Remove => {
            names.remove(&path);
        }
        NameOp::RenamedFrom(from) => {
            if let Some(inode) = names.remove(from) {
                names.insert(path, inode);
            }
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn eio(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()))
}

impl State {
    /// splitmix64: any seed is a good one.
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.random() % (n as u64).max(1)) as usize
    }

    /// Counts one change to the disk; fails once the power is out.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.power_fails_in {
            Some(0) => Err(eio("the power is out")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|i| self.inodes.get(i)).map(|i| i.live.len() as u64).sum()
    }

    fn change_name(&mut self, path: &Path, op: NameOp) {
        apply_name(&mut self.names, path.to_path_buf(), &op);
        self.unsynced_names.push((path.to_path_buf(), op));
    }

    fn keep_name(&mut self, path: PathBuf, op: &NameOp) {
        apply_name(&mut self.durable_names, path, op);
    }

    /// What of a file's unsynced changes survives, applied to its durable content.
    fn survive(&mut self, inode: &mut Inode) {
        let changes = std::mem::take(&mut inode.unsynced);
        let mode = self.below(3);
        let kept = self.below(changes.len() + 1);
        for (at, change) in changes.into_iter().enumerate() {
            let whole = mode == 1 && at < kept;
            let torn = (mode == 1 && at == kept) || mode == 2;
            match change {
                Change::SetLen(len) if whole || (torn && self.below(2) == 0) => inode.durable.resize(len as usize, 0),
                Change::Write(offset, bytes) if whole => overwrite(&mut inode.durable, offset as usize, &bytes),
                Change::Write(offset, bytes) if torn => self.tear(&mut inode.durable, offset as usize, &bytes),
                _ => {}
            }
        }
        inode.live = inode.durable.clone();
    }

    fn tear(&mut self, content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
            if self.below(2) == 0 {
                overwrite(content, offset + at, &bytes[at..end]);
            }
            at = end;
        }
    }
}

impl MemDisk {
    /// An empty disk whose faults are drawn from `seed`.
    pub fn new(seed: u64) -> MemDisk {
        let state = State {
            rng: seed,
            epoch: 0,
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            inodes: BTreeMap::new(),
            locks: BTreeSet::new(),
            capacity: None,
            fail_sync_in: None,
            power_fails_in: None,
        };
        MemDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Loses power and comes back: only what was synced is sure to be there.
    pub fn crash(&self) {
        let state = &mut *self.state.lock();
        state.epoch += 1;
        state.power_fails_in = None;
        state.fail_sync_in = None;
        state.locks.clear();
        let ops = std::mem::take(&mut state.unsynced_names);
        let (ordered, kept) = (state.below(2) == 0, state.below(ops.len() + 1));
        for (at, (path, op)) in ops.into_iter().enumerate() {
            let survives = if ordered { at < kept } else { state.below(2) == 0 };
            if survives {
                state.keep_name(path, &op);
            }
        }
        state.names = state.durable_names.clone();
        let mut inodes = std::mem::take(&mut state.inodes);
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        inodes.retain(|id, _| named.contains(id));
        for inode in inodes.values_mut() {
            state.survive(inode);
        }
        state.inodes = inodes;
    }

    /// Lets `changes` more changes to the disk through; then every one fails until [`MemDisk::crash`].
    pub fn power_fails_in(&self, changes: u64) {
        self.state.lock().power_fails_in = Some(changes);
    }

    /// After `syncs` more good syncs one fails. As on Linux the bytes it was to write are then counted clean, so
    /// that a later sync succeeds without them.
    pub fn fail_sync_in(&self, syncs: u64) {
        self.state.lock().fail_sync_in = Some(syncs);
    }

    /// Takes back the faults that were announced and have not happened.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        (state.power_fails_in, state.fail_sync_in) = (None, None);
    }

    /// Room on the disk, bytes; a write that needs more fails with `StorageFull`. `None`: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Changes the byte at `offset` by the bits of `mask`, as a rotting disk does. False if there is none.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> bool {
        let state = &mut *self.state.lock();
        let Some(inode) = state.names.get(path).and_then(|i| state.inodes.get_mut(i)) else { return false };
        let at = offset as usize;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= mask;
        }
        inode.live.get_mut(at).map(|byte| *byte ^= mask).is_some()
    }

    /// The content of a file as a reader sees it now.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(path).and_then(|i| state.inodes.get(i)).map(|i| i.live.clone())
    }

    fn file(&self, state: &State, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(MemFile { disk: self.clone(), epoch: state.epoch, inode })
    }
}

impl Disk for MemDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state.lock();
        let inode = *state.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(self.file(&state, inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = &mut *self.state.lock();
        state.change()?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(path, NameOp::Set(inode));
        Ok(self.file(state, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.change()?;
        if !state.names.contains_key(from) {
            return Err(not_found(from));
        }
        state.change_name(to, NameOp::RenamedFrom(from.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.change()?;
        if !state.names.contains_key(path) {
            return Err(not_found(path));
        }
        state.change_name(path, NameOp::Remove);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.change()?;
        let ops = std::mem::take(&mut state.unsynced_names);
        for (path, op) in ops {
            if parent(&path) == dir {
                state.keep_name(path, &op);
            } else {
                state.unsynced_names.push((path, op));
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter(|p| parent(p) == dir);
        Ok(inside.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().names.contains_key(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let state = &mut *self.state.lock();
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemLock { disk: self.clone(), epoch: state.epoch, path: path.to_path_buf() }))
    }
}

struct MemLock {
    disk: MemDisk,
    epoch: u64,
    path: PathBuf,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

struct MemFile {
    disk: MemDisk,
    epoch: u64,
    inode: u64,
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.disk.state.lock();
        if state.epoch != self.epoch {
            return Err(eio("the machine crashed since the file was opened"));
        }
        let mut inode = state.inodes.remove(&self.inode).ok_or_else(|| eio("the file is gone"))?;
        let result = act(state, &mut inode);
        state.inodes.insert(self.inode, inode);
        result
    }
}

impl DiskFile for MemFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.live.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|_, inode| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let bytes = inode.live.get(start..).and_then(|b| b.get(..out.len()));
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, inode| {
            state.change()?;
            let grows = (offset + bytes.len() as u64).saturating_sub(inode.live.len() as u64);
            let used = state.used() + inode.live.len() as u64;
            if state.capacity.is_some_and(|room| used + grows > room) && grows > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            overwrite(&mut inode.live, offset as usize, bytes);
            inode.unsynced.push(Change::Write(offset, bytes.to_vec()));
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state, inode| {
            state.change()?;
            inode.live.resize(len as usize, 0);
            inode.unsynced.push(Change::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, inode| {
            state.change()?;
            match &mut state.fail_sync_in {
                Some(0) => {
                    state.fail_sync_in = None;
                    inode.unsynced.clear();
                    return Err(eio("input/output error at sync"));
                }
                Some(n) => *n -= 1,
                None => {}
            }
            for change in std::mem::take(&mut inode.unsynced) {
                match change {
                    Change::Write(offset, bytes) => overwrite(&mut inode.durable, offset as usize, &bytes),
                    Change::SetLen(len) => inode.durable.resize(len as usize, 0),
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
