//! The shard's state as bytes: deterministic, versioned.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{decode, encode};
use super::state::{Bucket, Record, Revocation, Sweep};
use super::{ClaimKey, ShardState};
use crate::consensus::UnknownCommand;
use crate::ids::{Epoch, Incarnation, NodeId, NodeLife};

const VERSION: u8 = 1;

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
        };
        encode(VERSION, &stored)
    }

    /// The state that [`ShardState::snapshot`] wrote.
    pub fn restore(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        let Stored { last_epoch, time, ticker, expired, records, buckets, sweep } =
            decode(VERSION, bytes, "shard snapshot")?;
        let expired = expired.into_iter().collect();
        let mut state = ShardState { last_epoch, time, ticker, expired, buckets, sweep, ..Self::default() };
        for (key, record) in &records {
            state.count(record.held.wish.by.life);
            if let Some(wish) = record.waiting {
                state.count(wish.by.life);
                let revocation = Revocation { holder: record.held.wish.by, epoch: record.held.epoch, next: wish.by };
                state.pending.insert(key.clone(), revocation);
            }
        }
        state.records = records;
        Ok(state)
    }
}
