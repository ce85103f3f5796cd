//! Encryption of what is secret inside the replicated metadata: AES-256-GCM under the cluster's key encryption key,
//! which is kept in a file of its own outside the store, so that a copy of the store alone tells nothing.
//!
//! Sealed bytes: version 1, key id (8 bytes: start of the key's SHA-256), nonce (12 random bytes), ciphertext, tag
//! (16). What the secret belongs to is authenticated with it, so that sealed bytes cannot be moved elsewhere.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rookery_cluster::rng::Rng;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
/// Largest key file read, bytes: some dozens of keys.
const MAX_FILE_BYTES: u64 = 8192;

/// Seals and unseals. Cheap to clone. Holds one key that seals and older ones that still unseal.
#[derive(Clone)]
pub struct Sealer(Arc<[SealingKey]>);

struct SealingKey {
    id: [u8; KEY_ID_LEN],
    bytes: [u8; 32],
    key: LessSafeKey,
}

/// The bytes were not sealed under a key of ours, not for this purpose, or are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes cannot be opened: other cluster key, other purpose, or damaged")]
pub struct Unsealable;

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system says no.
    #[error("key file: {0}")]
    Io(#[from] io::Error),
    /// Others than its owner may read or change it.
    #[error("key file has mode {0:o}; it must not be open to group or others (chmod 600)")]
    Mode(u32),
    /// Not lines of 64 hexadecimal digits.
    #[error("key file: line {0} is not 64 hexadecimal digits")]
    Line(usize),
    /// No key in it.
    #[error("key file holds no key")]
    Empty,
}

impl Sealer {
    /// Seals under `current`; unseals under `older`, too.
    pub fn new(current: [u8; 32], older: &[[u8; 32]]) -> Self {
        Self(std::iter::once(&current).chain(older).map(|bytes| SealingKey::new(*bytes)).collect())
    }

    /// The key that seals: handed to a node that joins, over its authenticated channel.
    pub fn current_key(&self) -> [u8; 32] {
        self.0[0].bytes
    }

    /// Encrypts `secret`, bound to `purpose`.
    pub fn seal(&self, purpose: &[u8], secret: &[u8], rng: &dyn Rng) -> Vec<u8> {
        let key = &self.0[0];
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = Vec::with_capacity(HEADER_LEN + secret.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut body = secret.to_vec();
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut body)
            .expect("a secret is far below the 64 GiB that one AES-GCM message may have");
        sealed.append(&mut body);
        sealed
    }

    /// The reverse of [`Sealer::seal`] with the same `purpose`.
    pub fn unseal(&self, purpose: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (header, body) = sealed.split_at_checked(HEADER_LEN).ok_or(Unsealable)?;
        let (id, nonce) = header[1..].split_at(KEY_ID_LEN);
        let key = self.0.iter().find(|key| header[0] == VERSION && key.id == id).ok_or(Unsealable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut body = body.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(purpose), &mut body).map_err(|_| Unsealable)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// Reads the key file: one key a line, 64 hexadecimal digits, the current one first. Refused where others than
    /// the owner may read it.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Mode(mode));
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(n, line)| unhex(line.trim()).ok_or(KeyFileError::Line(n + 1)));
        let keys = keys.collect::<Result<Vec<[u8; 32]>, _>>()?;
        let (current, older) = keys.split_first().ok_or(KeyFileError::Empty)?;
        Ok(Self::new(*current, older))
    }

    /// Writes a new key file with mode 0600, on disk when this returns. An existing file is never overwritten: the
    /// key is all that stands between the cluster and the loss of its signing keys.
    pub fn create(path: &Path, key: [u8; 32]) -> Result<Self, KeyFileError> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", hex(&key))?;
        file.sync_all()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        Ok(Self::new(key, &[]))
    }

    /// Loads the key file, or makes one with a random key.
    pub fn load_or_create(path: &Path, rng: &dyn Rng) -> Result<Self, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                rng.fill(&mut key);
                Self::create(path, key)
            }
            loaded => loaded,
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

impl SealingKey {
    fn new(bytes: [u8; 32]) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&hash.as_ref()[..KEY_ID_LEN]);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes are the length of an AES-256 key");
        Self { id, bytes, key: LessSafeKey::new(key) }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The reverse of [`hex`].
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
