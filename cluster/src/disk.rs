//! The disk, as an argument: just what the segment log and the high-water mark need of a file system, so that a
//! test can tear writes, lose unsynced bytes, fill the disk and fail a sync from one seed.
//!
//! Contract, as POSIX has it and no more: a write is durable after [`DiskFile::sync_data`], a name (created,
//! renamed, removed) after [`Disk::sync_dir`] on its directory. A failed sync leaves the bytes in an unknown
//! state, and a second sync that succeeds proves nothing.

mod mem;
mod system;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use mem::MemDisk;
pub use system::SystemDisk;

/// A file system, or a model of one.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and its parents, for the owner alone (0700). No error if it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens an existing file to read and write. `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file for the owner alone (0600), empty, replacing what had the name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same directory, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. `NotFound` if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files in a directory, sorted. Names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Takes the lock file at `path` (made if missing) until the guard is dropped or the process ends.
    /// `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// A shared disk.
pub type SharedDisk = Arc<dyn Disk>;

/// A lock that is held while this lives.
pub trait DiskLock: Send + Sync {}

/// An open file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync {
    /// Length of the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`. `UnexpectedEof` if the file is too short.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; the file grows as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes all of `bytes` at the end.
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.len()?, bytes)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable, with the metadata that is needed to read it back.
    fn sync_data(&self) -> io::Result<()>;
}

/// The whole content of a file.
pub fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut out = vec![0; len];
    file.read_at(0, &mut out)?;
    Ok(out)
}
