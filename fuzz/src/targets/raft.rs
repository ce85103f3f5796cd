//! Messages between replicas, log entries and snapshots: what is one stays the same.

use bytes::Bytes;
use rookery_raft::fuzz;

use super::head;

/// A byte for which of them it is, and its bytes.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (which, bytes) = head(input);
    fuzz::again(which, &Bytes::copy_from_slice(bytes))
}

/// Something of most kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    fuzz::seeds().into_iter().map(|(which, bytes)| [&[which], &bytes[..]].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_stay_the_same() {
        assert!(seeds().iter().all(|seed| run(seed) == Ok(())));
    }
}
