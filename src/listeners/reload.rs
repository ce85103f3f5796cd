//! Certificate files that change while the node runs.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::TlsFiles;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Largest file, bytes; a chain of three certificates has some 6 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate chain, the leaf first, and the leaf's private key: PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The chain.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// By what a look at the files tells that they changed, without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub [FileStamp; 2]);

/// One file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Nanoseconds since 1970.
    pub modified: i128,
    /// Bytes.
    pub length: u64,
    /// Another one, where the file was replaced and not written.
    pub inode: u64,
}

/// Where certificate and key come from. May block.
pub trait CertSource: Send + Sync + 'static {
    /// What the files look like.
    fn stamp(&self) -> io::Result<Stamp>;
    /// What is in them.
    fn read(&self) -> io::Result<Pem>;
}

impl CertSource for TlsFiles {
    fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp([stamp(&self.cert)?, stamp(&self.key)?]))
    }

    fn read(&self) -> io::Result<Pem> {
        Ok(Pem { cert: read(&self.cert)?, key: read(&self.key)? })
    }
}

fn stamp(path: &Path) -> io::Result<FileStamp> {
    use std::os::unix::fs::MetadataExt;
    // Of a link, that of the file it leads to: so secrets are replaced in containers.
    let found = std::fs::metadata(path).map_err(|error| named(path, &error))?;
    let modified = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    Ok(FileStamp { modified, length: found.len(), inode: found.ino() })
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| named(path, &error))?;
    let count = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| named(path, &error))?;
    if count as u64 > MAX_FILE_BYTES {
        return Err(named(path, &io::Error::new(io::ErrorKind::FileTooLarge, "too large for a certificate or key")));
    }
    Ok(text)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// When to read the files again: decides, and looks at nothing itself. `None` in place of a stamp: they could not be
/// looked at.
#[derive(Debug)]
struct Watch {
    /// What they looked like when they were last read, for better or worse.
    tried: Option<Stamp>,
    /// What they looked like last.
    seen: Option<Stamp>,
}

impl Watch {
    /// Whether they are to be read. Changed files are when they have stayed the same for two looks, as two files are
    /// not replaced at once; or at the first, `if` somebody says that they are complete.
    fn look(&mut self, stamp: Option<Stamp>, asked: bool) -> bool {
        let settled = asked || stamp == self.seen;
        self.seen = stamp;
        let due = settled && stamp != self.tried;
        if due {
            self.tried = stamp;
        }
        due
    }
}

/// How often changed files were taken into use, and how often not.
#[derive(Debug, Default)]
pub struct ReloadStats {
    /// Taken.
    pub taken: AtomicU64,
    /// Not good.
    pub refused: AtomicU64,
}

/// Certificate files under watch.
pub struct Reload {
    source: Arc<dyn CertSource>,
    watch: Watch,
    stats: Arc<ReloadStats>,
}

impl Reload {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn begin(source: Arc<dyn CertSource>) -> io::Result<(Self, Pem)> {
        // Looked at first: what changes while they are read is a change.
        let stamp = source.stamp()?;
        let pem = source.read()?;
        let watch = Watch { tried: Some(stamp), seen: Some(stamp) };
        Ok((Self { source, watch, stats: Arc::default() }, pem))
    }

    /// What became of changes.
    pub fn stats(&self) -> Arc<ReloadStats> {
        self.stats.clone()
    }

    /// Gives `take` the files whenever they change, every `look_every` or when `asked` says so. What it refuses is
    /// logged once, and counted; the next change is another try.
    pub async fn run<E: std::fmt::Display>(
        mut self,
        look_every: Duration,
        asked: Arc<Notify>,
        take: impl Fn(&Pem) -> Result<(), E>,
    ) {
        loop {
            let asked = timeout(look_every, asked.notified()).await.is_ok();
            let source = self.source.clone();
            let Ok(stamp) = blocking(move || Ok(source.stamp().ok())).await else { continue };
            if !self.watch.look(stamp, asked) {
                continue;
            }
            let source = self.source.clone();
            let taken = match blocking(move || source.read()).await {
                Ok(pem) => take(&pem).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match taken {
                Ok(()) => {
                    self.stats.taken.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("the changed certificate is in use");
                }
                Err(error) => {
                    self.stats.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(error, "the changed certificate is no good; the old one stays in use");
                }
            }
        }
    }
}

/// A disk may be slow: the threads of the control plane do not wait for it (R18).
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(modified: i128) -> Option<Stamp> {
        Some(Stamp([FileStamp { modified, length: 1, inode: 1 }; 2]))
    }

    #[test]
    fn changed_files_are_read_once_and_when_both_are_there() {
        let mut watch = Watch { tried: stamp(1), seen: stamp(1) };
        assert!(!watch.look(stamp(1), false));
        assert!(!watch.look(stamp(2), false), "one of them may still be missing");
        assert!(!watch.look(stamp(3), false));
        assert!(watch.look(stamp(3), false));
        assert!(!watch.look(stamp(3), false), "a bad one is refused once");
        assert!(watch.look(stamp(4), true), "somebody said that they are complete");
        assert!(!watch.look(stamp(4), true));
        assert!(!watch.look(None, false));
        assert!(watch.look(None, false), "gone");
        assert!(!watch.look(None, false));
        assert!(!watch.look(stamp(4), false));
        assert!(watch.look(stamp(4), false), "back again");
    }

    #[test]
    fn each_of_the_files_has_a_part_in_the_stamp() {
        let folder = std::env::temp_dir().join(format!("rookery-reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        assert!(files.stamp().unwrap_err().to_string().contains("cert.pem"));
        std::fs::write(&files.cert, "cert").unwrap();
        std::fs::write(&files.key, "key").unwrap();
        let first = files.stamp().unwrap();
        assert_eq!(files.stamp().unwrap(), first);
        assert!(files.read().unwrap() == Pem { cert: "cert".into(), key: "key".into() });
        std::fs::write(&files.key, "longer").unwrap();
        let second = files.stamp().unwrap();
        assert!(second.0[0] == first.0[0] && second.0[1] != first.0[1]);
        std::fs::write(folder.join("new"), "cert").unwrap();
        std::fs::rename(folder.join("new"), &files.cert).unwrap();
        assert!(files.stamp().unwrap().0[0].inode != second.0[0].inode);
        std::fs::write(&files.cert, vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(files.read().is_err_and(|error| error.to_string().contains("too large")));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
