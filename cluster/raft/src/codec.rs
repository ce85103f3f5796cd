//! Bytes of log entries, votes and log ids as they are stored: our own format, versioned by the first byte,
//! not openraft's (which changes with its releases). Integers are little-endian.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::vote::{RaftLeaderId, RaftVote};
use rookery_cluster::limits::{MAX_COMMAND_BYTES, MAX_ENTRY_BYTES, MAX_ENTRY_COMMANDS, PROPOSE_TOGETHER_BYTES};

use crate::types::{Batch, Entry, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

/// Version of everything in this file.
pub(crate) const VERSION: u8 = 1;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes that an entry needs besides its commands, at most, and per command.
pub(crate) const COMMAND_OVERHEAD: usize = 4;

const _: () =
    assert!(PROPOSE_TOGETHER_BYTES + MAX_COMMAND_BYTES + COMMAND_OVERHEAD * MAX_ENTRY_COMMANDS <= MAX_ENTRY_BYTES);

/// Bytes that are not what they should be: damaged, or written by a later version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBytes {
    #[error("version {0} is not known to this binary (it knows {VERSION}); was the data written by a later release?")]
    Version(u8),
    #[error("the bytes end too early")]
    Short,
    #[error("{0} bytes are left over")]
    Long(usize),
    #[error("unknown kind {0}")]
    Kind(u8),
    #[error("a membership is not valid: {0}")]
    Membership(String),
}

impl From<BadBytes> for std::io::Error {
    fn from(error: BadBytes) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Takes values off the front of bytes, without reading past the end.
pub(crate) struct Reader(Bytes);

impl Reader {
    /// Checks the version byte.
    pub(crate) fn new(bytes: &Bytes) -> Result<Self, BadBytes> {
        let mut reader = Self(bytes.clone());
        match reader.u8()? {
            VERSION => Ok(reader),
            other => Err(BadBytes::Version(other)),
        }
    }

    fn need(&self, n: usize) -> Result<(), BadBytes> {
        if self.0.remaining() < n { Err(BadBytes::Short) } else { Ok(()) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadBytes> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, BadBytes> {
        self.need(4)?;
        Ok(self.0.get_u32_le())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BadBytes> {
        self.need(8)?;
        Ok(self.0.get_u64_le())
    }

    /// A length and that many bytes, not copied.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, BadBytes> {
        let n = self.u32()? as usize;
        self.need(n)?;
        Ok(self.0.split_to(n))
    }

    /// A count of things that take at least `each` bytes.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, BadBytes> {
        let n = self.u32()? as usize;
        self.need(n.saturating_mul(each))?;
        Ok(n)
    }

    pub(crate) fn optional<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, BadBytes>,
    ) -> Result<Option<T>, BadBytes> {
        match self.u8()? {
            0 => Ok(None),
            1 => f(self).map(Some),
            other => Err(BadBytes::Kind(other)),
        }
    }

    pub(crate) fn end(self) -> Result<(), BadBytes> {
        if self.0.has_remaining() { Err(BadBytes::Long(self.0.remaining())) } else { Ok(()) }
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, BadBytes> {
        let leader = LeaderId::new(self.u64()?, self.u64()?);
        Ok(LogId::new(leader, self.u64()?))
    }

    pub(crate) fn vote(&mut self) -> Result<Vote, BadBytes> {
        let leader = LeaderId::new(self.u64()?, self.u64()?);
        match self.u8()? {
            0 => Ok(Vote::from_leader_id(leader, false)),
            1 => Ok(Vote::from_leader_id(leader, true)),
            other => Err(BadBytes::Kind(other)),
        }
    }

    pub(crate) fn batch(&mut self) -> Result<Batch, BadBytes> {
        let n = self.count(COMMAND_OVERHEAD)?;
        (0..n).map(|_| self.bytes()).collect::<Result<_, _>>().map(Batch)
    }

    fn ids(&mut self) -> Result<BTreeSet<u64>, BadBytes> {
        let n = self.count(8)?;
        (0..n).map(|_| self.u64()).collect()
    }

    fn membership(&mut self) -> Result<Membership, BadBytes> {
        let n = self.count(4)?;
        let configs = (0..n).map(|_| self.ids()).collect::<Result<Vec<_>, _>>()?;
        let nodes: BTreeMap<u64, ()> = self.ids()?.into_iter().map(|id| (id, ())).collect();
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|e| BadBytes::Membership(e.to_string()))
    }

    fn meta(&mut self) -> Result<SnapshotMeta, BadBytes> {
        let last_log_id = self.optional(Self::log_id)?;
        let at = self.optional(Self::log_id)?;
        Ok(SnapshotMeta { last_log_id, last_membership: StoredMembership::new(at, self.membership()?) })
    }
}

/// Puts values after each other, behind the version byte.
pub(crate) struct Writer(BytesMut);

impl Writer {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(capacity + 1);
        bytes.put_u8(VERSION);
        Self(bytes)
    }

    pub(crate) fn u8(&mut self, v: u8) {
        self.0.put_u8(v);
    }

    pub(crate) fn u64(&mut self, v: u64) {
        self.0.put_u64_le(v);
    }

    pub(crate) fn count(&mut self, n: usize) {
        // Everything that is counted is bounded by limits far below 4 Gi.
        self.0.put_u32_le(u32::try_from(n).unwrap_or(u32::MAX));
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.count(v.len());
        self.0.put_slice(v);
    }

    pub(crate) fn optional<T>(&mut self, v: Option<T>, f: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(v.is_some()));
        if let Some(v) = v {
            f(self, v);
        }
    }

    pub(crate) fn log_id(&mut self, id: &LogId) {
        let leader = id.committed_leader_id();
        self.u64(leader.term());
        self.u64(*leader.node_id());
        self.u64(id.index());
    }

    pub(crate) fn vote(&mut self, vote: &Vote) {
        self.u64(vote.leader_id().term());
        self.u64(*vote.leader_id().node_id());
        self.u8(u8::from(vote.is_committed()));
    }

    pub(crate) fn batch(&mut self, batch: &[Bytes]) {
        self.count(batch.len());
        batch.iter().for_each(|command| self.bytes(command));
    }

    fn ids(&mut self, ids: impl ExactSizeIterator<Item = u64>) {
        self.count(ids.len());
        ids.for_each(|id| self.u64(id));
    }

    fn membership(&mut self, membership: &Membership) {
        let configs = membership.get_joint_config();
        self.count(configs.len());
        configs.iter().for_each(|config| self.ids(config.iter().copied()));
        let nodes: Vec<u64> = membership.nodes().map(|(id, ())| *id).collect();
        self.ids(nodes.into_iter());
    }

    fn meta(&mut self, meta: &SnapshotMeta) {
        self.optional(meta.last_log_id.as_ref(), Self::log_id);
        self.optional(meta.last_membership.log_id().as_ref(), Self::log_id);
        self.membership(meta.last_membership.membership());
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.freeze()
    }
}

/// One log entry: version, log id, kind, payload.
pub(crate) fn entry_to_bytes(entry: &Entry) -> Bytes {
    let size = match &entry.payload {
        EntryPayload::Normal(batch) => batch.0.iter().map(|c| c.len() + COMMAND_OVERHEAD).sum(),
        _ => 0,
    };
    let mut w = Writer::new(size + 40);
    w.log_id(&entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => w.u8(BLANK),
        EntryPayload::Normal(batch) => {
            w.u8(NORMAL);
            w.batch(&batch.0);
        }
        EntryPayload::Membership(membership) => {
            w.u8(MEMBERSHIP);
            w.membership(membership);
        }
    }
    w.done()
}

pub(crate) fn entry_from_bytes(bytes: &Bytes) -> Result<Entry, BadBytes> {
    let mut r = Reader::new(bytes)?;
    let log_id = r.log_id()?;
    let payload = match r.u8()? {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(r.batch()?),
        MEMBERSHIP => EntryPayload::Membership(r.membership()?),
        other => return Err(BadBytes::Kind(other)),
    };
    r.end()?;
    Ok(Entry { log_id, payload })
}

macro_rules! value {
    ($to:ident, $from:ident, $type:ty, $method:ident) => {
        pub(crate) fn $to(value: &$type) -> Bytes {
            let mut w = Writer::new(64);
            w.$method(value);
            w.done()
        }

        pub(crate) fn $from(bytes: &Bytes) -> Result<$type, BadBytes> {
            let mut r = Reader::new(bytes)?;
            let value = r.$method()?;
            r.end()?;
            Ok(value)
        }
    };
}

value!(vote_to_bytes, vote_from_bytes, Vote, vote);
value!(log_id_to_bytes, log_id_from_bytes, LogId, log_id);
value!(meta_to_bytes, meta_from_bytes, SnapshotMeta, meta);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log_id(term: u64, node: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, node), index)
    }

    fn membership() -> Membership {
        Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            BTreeMap::from([(1, ()), (2, ()), (3, ()), (9, ())]),
        )
        .unwrap()
    }

    #[test]
    fn entries_of_each_kind_come_back() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Batch(vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"ccc")])),
            EntryPayload::Normal(Batch(Vec::new())),
            EntryPayload::Membership(membership()),
        ];
        for payload in payloads {
            let entry = Entry { log_id: log_id(7, 8, 9), payload };
            let bytes = entry_to_bytes(&entry);
            assert_eq!(bytes[0], VERSION);
            assert_eq!(entry_from_bytes(&bytes).unwrap(), entry);
        }
    }

    #[test]
    fn votes_log_ids_and_snapshot_heads_come_back() {
        for committed in [false, true] {
            let vote = Vote::from_leader_id(LeaderId::new(3, 4), committed);
            assert_eq!(vote_from_bytes(&vote_to_bytes(&vote)).unwrap(), vote);
        }
        assert_eq!(log_id_from_bytes(&log_id_to_bytes(&log_id(1, 2, 3))).unwrap(), log_id(1, 2, 3));
        for meta in [
            SnapshotMeta::default(),
            SnapshotMeta {
                last_log_id: Some(log_id(1, 2, 30)),
                last_membership: StoredMembership::new(Some(log_id(1, 2, 3)), membership()),
            },
        ] {
            assert_eq!(meta_from_bytes(&meta_to_bytes(&meta)).unwrap(), meta);
        }
    }

    #[test]
    fn a_later_version_and_left_over_bytes_are_refused() {
        let mut bytes = BytesMut::from(&vote_to_bytes(&Vote::from_leader_id(LeaderId::new(3, 4), true))[..]);
        bytes.put_u8(0);
        assert_eq!(vote_from_bytes(&bytes.clone().freeze()), Err(BadBytes::Long(1)));
        bytes[0] = VERSION + 1;
        assert_eq!(vote_from_bytes(&bytes.freeze()), Err(BadBytes::Version(VERSION + 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_allocate_wildly(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), versioned: bool) {
            if versioned && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            let bytes = Bytes::from(bytes);
            if let Ok(entry) = entry_from_bytes(&bytes) {
                prop_assert_eq!(entry_from_bytes(&entry_to_bytes(&entry)).unwrap(), entry);
            }
            let _ = meta_from_bytes(&bytes);
            let _ = vote_from_bytes(&bytes);
        }
    }
}
