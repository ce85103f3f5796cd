//! What is tried.

mod auth;
mod codec;
mod control;
mod doors;
mod files;
mod frames;
mod gossip;
mod messages;
mod metadata;
mod peer;
mod raft;
mod replicas;
mod retained;
mod segments;
mod session;
mod shard;
mod streams;
mod topics;
mod world;

use rookery_cluster::metadata::State;
use rookery_cluster::sessions::ShardState;

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder's under `fuzz/corpus`.
    pub name: &'static str,
    /// Gives it an input; what it did wrong, if it did not panic.
    pub run: fn(&[u8]) -> Result<(), String>,
    /// Inputs that are worth to be changed, beside those of the folder.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "codec", run: codec::run, seeds: codec::seeds },
    Target { name: "session", run: session::run, seeds: session::seeds },
    Target { name: "peer", run: peer::run, seeds: peer::seeds },
    Target { name: "topics", run: topics::run, seeds: topics::seeds },
    Target { name: "acl", run: auth::acl, seeds: auth::acl_seeds },
    Target { name: "jwt", run: auth::jwt, seeds: auth::jwt_seeds },
    Target { name: "upgrade", run: doors::upgrade, seeds: doors::upgrade_seeds },
    Target { name: "frames", run: frames::run, seeds: frames::seeds },
    Target { name: "proxy", run: doors::proxy, seeds: doors::proxy_seeds },
    Target { name: "shard", run: replicas::run::<ShardState>, seeds: replicas::seeds::<ShardState> },
    Target { name: "metadata", run: replicas::run::<State>, seeds: replicas::seeds::<State> },
    Target { name: "messages", run: messages::run, seeds: messages::seeds },
    Target { name: "streams", run: streams::run, seeds: streams::seeds },
    Target { name: "control", run: control::run, seeds: control::seeds },
    Target { name: "raft", run: raft::run, seeds: raft::seeds },
    Target { name: "segments", run: segments::run, seeds: segments::seeds },
    Target { name: "rows", run: files::rows, seeds: files::row_seeds },
    Target { name: "node", run: files::node, seeds: files::node_seeds },
    Target { name: "gossip", run: gossip::run, seeds: gossip::seeds },
    Target { name: "join", run: gossip::token, seeds: gossip::token_seeds },
    Target { name: "retained", run: retained::run, seeds: retained::seeds },
];

/// An error, unless `holds`.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// The first byte and the rest; 0 in front of nothing.
fn head(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// Pieces, each behind its length (2 bytes, big-endian).
fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        input = rest;
        Some(piece)
    })
}

/// A piece behind its length, see [`pieces`].
fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// The parts between bytes 0xff, which is in no text.
fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == 0xff)
}
