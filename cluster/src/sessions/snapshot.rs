//! The shard's state as bytes: deterministic, versioned.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{decode, encode};
use super::durable::{Attached, Session};
use super::state::{Bucket, Held, Record, Revocation, Sweep, Wish};
use super::tick::Young;
use super::wills::DueWill;
use super::{ClaimKey, Claimant, ShardState};
use crate::consensus::UnknownCommand;
use crate::ids::{Epoch, Incarnation, NodeId, NodeLife, Sequence};

/// Version 1 had neither streams, `asked`, sessions nor wills; version 2 ends before the wills' times and what is young.
const VERSION: u8 = 3;
const VERSION_2: u8 = 2;
/// No times and nothing young, as version 3 has it.
const NO_TIMES_NOR_YOUNG: [u8; 2] = [0, 0];
/// No shard has granted as many claims as this: a snapshot that says so is none, and epochs never overflow.
const EPOCHS: u64 = 1 << 63;

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
    attached: BTreeMap<Claimant, Attached>,
    sessions: BTreeMap<ClaimKey, Session>,
    due_wills: BTreeMap<ClaimKey, DueWill>,
    firing: BTreeMap<(ClaimKey, Epoch), Bytes>,
    /// Since version 3, whose last ones these must therefore be.
    will_times: BTreeMap<(ClaimKey, Epoch), u64>,
    young: BTreeSet<(u64, Young)>,
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
        let (streams, attached, sessions, due_wills, firing, will_times, young) = Default::default();
        Self {
            last_epoch,
            time,
            ticker,
            expired,
            records,
            buckets,
            sweep,
            streams,
            attached,
            sessions,
            due_wills,
            firing,
            will_times,
            young,
        }
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
            attached: self.attached.clone(),
            sessions: self.sessions.clone(),
            due_wills: self.due_wills.clone(),
            firing: self.firing.iter().map(|(k, m)| (k.clone(), m.clone())).collect(),
            will_times: self.will_times.iter().map(|(k, time)| (k.clone(), *time)).collect(),
            young: self.young.clone(),
        };
        encode(VERSION, &stored)
    }

    /// The state that [`ShardState::snapshot`] wrote, now or in an earlier version.
    ///
    /// # Errors
    /// It is no snapshot, or of a version that this binary does not know.
    pub fn restore(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        const WHAT: &str = "shard snapshot";
        let stored: Stored = match bytes.first() {
            Some(1) => decode::<StoredV1>(1, bytes, WHAT)?.into(),
            Some(&VERSION_2) => decode(VERSION_2, &[bytes, &NO_TIMES_NOR_YOUNG].concat(), WHAT)?,
            _ => decode(VERSION, bytes, WHAT)?,
        };
        let Stored { last_epoch, time, ticker, expired, records, buckets, sweep, streams, .. } = stored;
        if last_epoch.0 >= EPOCHS {
            return Err(UnknownCommand(format!("{WHAT}: epoch {}", last_epoch.0)));
        }
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
        (state.attached, state.sessions, state.due_wills) = (stored.attached, stored.sessions, stored.due_wills);
        state.firing = stored.firing.into_iter().collect();
        state.will_times = stored.will_times.into_iter().collect();
        state.due = state.due_wills.iter().map(|(key, will)| (will.at, key.clone())).collect();
        let ends = |(key, session): (&ClaimKey, &Session)| Some((session.ends?, key.clone()));
        state.ending = state.sessions.iter().filter_map(ends).collect();
        // Putting it off again would leave the moment that it really waits for behind.
        let waits = |(at, young): &(u64, Young)| match young {
            Young::Session(key) => state.sessions.get(key).is_some_and(|session| session.ends == Some(*at)),
            Young::Will(key) => state.due_wills.get(key).is_some_and(|will| will.at == *at),
        };
        state.young = stored.young.into_iter().filter(waits).collect();
        state.count_all();
        Ok(state)
    }
}
