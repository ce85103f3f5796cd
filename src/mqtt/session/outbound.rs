//! Bytes on their way to one client.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Payloads of at least this many bytes are shared between subscribers instead of copied to each: above it a
/// copy costs more than the bookkeeping of a further segment in the vectored write.
pub const SHARE_FROM: usize = 4096;
/// A drained buffer larger than this is given back at the next [`Outbound::shrink`].
const KEEP_CAPACITY: usize = 1024;

/// Encoded packets that wait for the socket: small ones copied back to back, large payloads shared.
#[derive(Debug, Default)]
pub struct Outbound {
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
    taken: u64,
}

impl Outbound {
    /// How many bytes were taken out since the last call.
    pub fn taken(&mut self) -> u64 {
        std::mem::take(&mut self.taken)
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends what `write` puts into the buffer.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut BytesMut) -> R) -> R {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.bytes += self.tail.len() - before;
        result
    }

    /// Appends a copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Appends `bytes` without copying them.
    pub fn share(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
        self.bytes += bytes.len();
        self.segments.push_back(bytes);
    }

    /// Fills `into` with what comes next, in order; returns how many slices it used.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        for segment in &self.segments {
            if used == into.len() {
                return used;
            }
            into[used] = IoSlice::new(segment);
            used += 1;
        }
        if used < into.len() && !self.tail.is_empty() {
            into[used] = IoSlice::new(&self.tail);
            used += 1;
        }
        used
    }

    /// Takes everything as one piece (for transports that frame: WebSocket).
    pub fn take(&mut self) -> Bytes {
        self.taken += self.bytes as u64;
        self.bytes = 0;
        if self.segments.is_empty() {
            return self.tail.split().freeze();
        }
        let mut all = BytesMut::new();
        for segment in self.segments.drain(..) {
            all.extend_from_slice(&segment);
        }
        all.extend_from_slice(&self.tail.split());
        all.freeze()
    }

    /// The socket took the first `n` bytes.
    pub fn advance(&mut self, mut n: usize) {
        self.taken += n.min(self.bytes) as u64;
        self.bytes -= n.min(self.bytes);
        while let Some(front) = self.segments.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.segments.pop_front();
        }
        if n >= self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(n);
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.tail.capacity() > KEEP_CAPACITY {
            self.tail = BytesMut::new();
            self.segments.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(out: &mut Outbound, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = out.slices(&mut slices);
            let flat: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
            let n = step.min(flat.len());
            all.extend_from_slice(&flat[..n]);
            out.advance(n);
        }
        all
    }

    #[test]
    fn keeps_order_over_copied_and_shared_parts() {
        for step in 1..12 {
            let mut out = Outbound::default();
            out.copy(b"ab");
            out.share(Bytes::from_static(b"cde"));
            out.share(Bytes::from_static(b"f"));
            out.write(|b| b.extend_from_slice(b"gh"));
            assert_eq!(out.len(), 8);
            assert_eq!(drain(&mut out, step), b"abcdefgh");
            assert_eq!(out.len(), 0);
        }
    }

    #[test]
    fn takes_all_as_one_piece() {
        let mut out = Outbound::default();
        out.copy(b"ab");
        out.share(Bytes::from_static(b"cd"));
        out.copy(b"e");
        assert_eq!(out.take(), Bytes::from_static(b"abcde"));
        assert!(out.is_empty());
    }
}
