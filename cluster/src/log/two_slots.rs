//! A small file that is replaced as a whole: two slots, written in turn, so that a torn write leaves the other.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_all};

/// Slots lie in disk blocks of their own: writing one never rewrites the other.
pub(super) const SLOT: usize = 4096;

/// The open file. Whoever writes numbers the contents from 0, and finds the newest sound slot by that number.
pub(super) struct TwoSlots(Arc<dyn DiskFile>);

impl TwoSlots {
    /// Opens it, and both slots as they are. `None` if there is no such file.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<(TwoSlots, Vec<Vec<u8>>)>> {
        if !disk.exists(path)? {
            return Ok(None);
        }
        let file = disk.open(path)?;
        let slots = read_all(&*file)?.chunks(SLOT).map(<[u8]>::to_vec).collect();
        Ok(Some((TwoSlots(file), slots)))
    }

    /// Makes the file with its content number 0, durably.
    pub(super) fn create(disk: &dyn Disk, path: &Path, mut content: Vec<u8>) -> io::Result<TwoSlots> {
        let fresh = path.with_extension("new");
        let file = disk.create(&fresh)?;
        content.resize(SLOT * 2, 0);
        file.write_at(0, &content)?;
        file.sync_data()?;
        disk.rename(&fresh, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        disk.sync_dir(folder.unwrap_or(Path::new(".")))?;
        Ok(TwoSlots(file))
    }

    /// Replaces the older slot by content `number`, durably.
    pub(super) fn write(&self, number: u64, content: &[u8]) -> io::Result<()> {
        self.0.write_at((number % 2) * SLOT as u64, content)?;
        self.0.sync_data()
    }
}
