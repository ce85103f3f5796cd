//! The shard's state as bytes: deterministic, versioned.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{decode, encode};
use super::state::{Bucket, Held, Record, Revocation, Sweep, Wish};
use super::{ClaimKey, Claimant, ShardState};
use crate::consensus::UnknownCommand;
use crate::ids::{Epoch, Incarnation, NodeId, NodeLife, Sequence};

/// Version 1 had neither streams nor `asked`.
const VERSION: u8 = 2;

/// What is stored; the rest is derived from it.
#[derive(Serialize, Deserialize)]
struct Stored {
    last_epoch: Epoch,
    time: u64,
    ticker: Option<(NodeLife, u64)>,
    expired: BTreeMap<NodeId, Incarnation>,
    records: BTreeMap<ClaimKey, Record>,
    buckets: BTreeMap<ClaimKey, Bucket>,
    sweep: Option<Sweep>,
    streams: BTreeMap<NodeLife, Sequence>,
}

/// As it was in version 1.
#[derive(Serialize, Deserialize)]
struct StoredV1 {
    last_epoch: Epoch,
    time: u64,
    ticker: Option<(NodeLife, u64)>,
    expired: BTreeMap<NodeId, Incarnation>,
    records: BTreeMap<ClaimKey, RecordV1>,
    buckets: BTreeMap<ClaimKey, Bucket>,
    sweep: Option<Sweep>,
}

/// As it was in version 1.
#[derive(Serialize, Deserialize)]
struct RecordV1 {
    held: Held,
    waiting: Option<Wish>,
    gone: Vec<Claimant>,
}

impl From<RecordV1> for Record {
    fn from(RecordV1 { held, waiting, gone }: RecordV1) -> Self {
        Self { held, waiting, asked: Epoch(0), gone }
    }
}

impl From<StoredV1> for Stored {
    fn from(old: StoredV1) -> Self {
        let StoredV1 { last_epoch, time, ticker, expired, records, buckets, sweep } = old;
        let records = records.into_iter().map(|(key, record)| (key, record.into())).collect();
        Self { last_epoch, time, ticker, expired, records, buckets, sweep, streams: BTreeMap::new() }
    }
}

impl ShardState {
    /// The whole state as bytes.
    pub fn snapshot(&self) -> Bytes {
        let stored = Stored {
            last_epoch: self.last_epoch,
            time: self.time,
            ticker: self.ticker,
            expired: self.expired.iter().map(|(n, i)| (*n, *i)).collect(),
            records: self.records.clone(),
            buckets: self.buckets.clone(),
            sweep: self.sweep.clone(),
            streams: self.streams.clone(),
        };
        encode(VERSION, &stored)
    }

    /// The state that [`ShardState::snapshot`] wrote, now or in an earlier version.
    pub fn restore(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        const WHAT: &str = "shard snapshot";
        let stored = match bytes.first() {
            Some(1) => decode::<StoredV1>(1, bytes, WHAT)?.into(),
            _ => decode(VERSION, bytes, WHAT)?,
        };
        let Stored { last_epoch, time, ticker, expired, records, buckets, sweep, streams } = stored;
        let expired = expired.into_iter().collect();
        let mut state = ShardState { last_epoch, time, ticker, expired, buckets, sweep, ..Self::default() };
        streams.keys().for_each(|life| state.count(*life));
        for (key, record) in &records {
            state.count(record.held.wish.by.life);
            if let Some(wish) = record.waiting {
                state.count(wish.by.life);
                let revocation = Revocation { holder: record.held.wish.by, epoch: record.held.epoch, next: wish.by };
                state.pending.insert(key.clone(), revocation);
            }
        }
        (state.records, state.streams) = (records, streams);
        Ok(state)
    }
}
