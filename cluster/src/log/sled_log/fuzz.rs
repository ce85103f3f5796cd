//! For fuzzing only: the metadata log's rows and its mark, as they may be on a disk.

use std::path::Path;

use bytes::Bytes;

use super::super::two_slots::SLOT;
use super::mark::{BODY, Mark, MarkFile};
use super::rows::{self, Bad, Purged, Truncations};
use crate::disk::{Disk, MemDisk};

/// Reads a row's body, to which a sound checksum is given, and writes it again.
type Again = fn(&[u8]) -> Result<Vec<u8>, Bad>;

/// The rows, by their keys.
const ROWS: &[(&[u8], Again)] = &[
    (&[0, 0, 0, 0, 0, 0, 0, 7], |value| {
        let (chain, entry) = rows::decode_row(&7_u64.to_be_bytes(), value)?;
        Ok(rows::encode_row(7, chain, &entry))
    }),
    (rows::VOTE, |value| {
        let (saved, vote) = rows::decode_vote(value)?;
        Ok(rows::encode_vote(saved, &vote))
    }),
    (rows::COMMITTED, |value| Ok(rows::encode_committed(rows::decode_committed(value)?))),
    (rows::PURGED, |value| Ok(Purged::decode(value)?.encode())),
    (rows::TRUNCATIONS, |value| Ok(Truncations::decode(value)?.encode())),
];

/// A row's body: what is read stays the same, and what has a wrong checksum is not read.
///
/// # Errors
/// What became of it.
pub fn row(which: u8, body: &[u8]) -> Result<(), String> {
    let (key, again) = ROWS[usize::from(which) % ROWS.len()];
    if let Ok(forged) = again(body)
        && forged != body
    {
        return Err(format!("{body:02x?} became {forged:02x?}"));
    }
    let Ok(once) = again(&rows::seal(key, body)) else { return Ok(()) };
    let twice = again(&once);
    if twice.as_ref() == Ok(&once) { Ok(()) } else { Err(format!("{once:02x?} became {twice:02x?}")) }
}

/// A mark's file of two slots, whose bodies get sound checksums.
///
/// # Errors
/// See [`mark`].
pub fn framed_mark(bodies: &[u8]) -> Result<(), String> {
    let (one, two) = bodies.split_at(bodies.len().min(BODY));
    let slot = |body: &[u8]| {
        let mut slot = body.to_vec();
        slot.resize(BODY, 0);
        slot.extend(crc32c::crc32c(&slot).to_be_bytes());
        slot.resize(SLOT, 0);
        slot
    };
    mark(&[slot(one), slot(two)].concat())
}

/// The file of the mark: what opens is one of its slots, and goes on after it.
///
/// # Errors
/// What it does instead.
pub fn mark(content: &[u8]) -> Result<(), String> {
    let (disk, path) = (MemDisk::new(1), Path::new("/d/mark"));
    let wrong = |why: &dyn std::fmt::Display| format!("the model of a disk: {why}");
    let file = disk.create(path).map_err(|why| wrong(&why))?;
    file.append(content).map_err(|why| wrong(&why))?;
    let Ok(Some((mut file, found))) = MarkFile::open(&disk, path) else { return Ok(()) };
    if found.serial == rows::MOST_NUMBER {
        return Ok(());
    }
    file.write(Mark { end: 77, ..found }).map_err(|why| wrong(&why))?;
    match MarkFile::open(&disk, path) {
        Ok(Some((_, next))) if next == (Mark { serial: found.serial + 1, end: 77, ..found }) => Ok(()),
        Ok(next) => Err(format!("{found:?}, then {:?}", next.map(|(_, mark)| mark))),
        Err(why) => Err(format!("{found:?}, then {why}")),
    }
}

/// A file of two marks, the bodies of its slots, and the body of each row.
pub fn seeds() -> (Vec<u8>, Vec<u8>, Vec<(u8, Bytes)>) {
    let mark = |serial| Mark { serial, votes: 2, vote_crc: 3, end: 4, chain: 5, truncations: 6 }.encode();
    let slot = |serial| {
        let mut slot = mark(serial);
        slot.resize(SLOT, 0);
        slot
    };
    let bodies = [&mark(2)[..BODY], &mark(3)[..BODY]].concat();
    let rows = [&b"\0\0\0\x09entry"[..], b"\0\0\0\0\0\0\0\x03vote", &[0; 8], &[7; 14], &[1; 16]];
    let rows = (0..).zip(rows).map(|(which, body)| (which, Bytes::from_static(body)));
    ([slot(2), slot(3)].concat(), bodies, rows.collect())
}
