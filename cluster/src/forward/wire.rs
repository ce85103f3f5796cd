//! Between the messages of `forward.proto` and this crate's types. Bodies are passed on, never copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rookery_proto::forward as proto;
use tonic::Status;

use super::outbox::{Batch, Reply};
use crate::clock::UnixMillis;
use crate::handle::{Retained, Run};
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife};
use crate::interest::{Content, Interest, Interests, Message};
use crate::limits::{INTEREST_MESSAGE_BYTES, INTEREST_MESSAGE_PARTS};
use crate::retained::store::Write;
use crate::retained::{Record, Stamp, Time};

/// The version of the messages that this binary speaks. 2: publishes of one topic travel in groups.
pub(super) const VERSION: u32 = 2;
/// Filters in one part of an interest message, bytes: far below `limits::MAX_GRPC_MESSAGE_BYTES`, whatever the
/// last filter's length.
const PART_BYTES: usize = 256 << 10;
/// What a filter costs beside its text.
const CHANGE_OVERHEAD: usize = 32;

// What an honest peer sends is refused for its bytes, if at all.
const _: () = assert!(INTEREST_MESSAGE_PARTS * PART_BYTES >= INTEREST_MESSAGE_BYTES);

pub(super) fn hello(own: NodeLife, target: NodeLife) -> proto::Hello {
    proto::Hello {
        version: VERSION,
        node: own.node.0,
        incarnation: own.incarnation.0,
        target_node: target.node.0,
        target_incarnation: target.incarnation.0,
        ..proto::Hello::default()
    }
}

pub(super) fn origin(hello: &proto::Hello) -> NodeLife {
    NodeLife { node: NodeId(hello.node), incarnation: Incarnation(hello.incarnation) }
}

pub(super) fn target(hello: &proto::Hello) -> NodeLife {
    NodeLife { node: NodeId(hello.target_node), incarnation: Incarnation(hello.target_incarnation) }
}

pub(super) fn batch(batch: &Batch) -> proto::DataRequest {
    let runs = batch.runs.iter().map(|run| {
        let (broker_high, broker_low) = halves(run.broker);
        let retained = run.retained.iter().map(|kept| retained(kept)).collect();
        proto::Run { broker_high, broker_low, count: run.count, body: run.body.clone(), retained }
    });
    let batch = proto::Batch { seq: batch.seq, runs: runs.collect() };
    proto::DataRequest { kind: Some(proto::data_request::Kind::Batch(batch)) }
}

pub(super) fn runs(runs: Vec<proto::Run>) -> Vec<Run> {
    runs.into_iter()
        .map(|run| Run {
            broker: broker(run.broker_high, run.broker_low),
            count: run.count,
            body: run.body,
            retained: run.retained.into_iter().map(|retained| Arc::new(parse_retained(retained))).collect(),
        })
        .collect()
}

fn retained(retained: &Retained) -> proto::Retained {
    proto::Retained {
        time: retained.time.0,
        topic: retained.topic.to_string(),
        expires: retained.expires.map_or(0, |at| at.0),
        message: retained.message.clone(),
        durable: retained.durable,
    }
}

fn parse_retained(retained: proto::Retained) -> Retained {
    Retained {
        time: Time(retained.time),
        topic: retained.topic.into(),
        expires: moment(retained.expires),
        // The message is a part of the whole batch, and may be kept much longer.
        message: retained.message.map(|message| Bytes::copy_from_slice(&message)),
        durable: retained.durable,
    }
}

/// 0 stands for never.
fn moment(unix_millis: u64) -> Option<UnixMillis> {
    (unix_millis != 0).then_some(UnixMillis(unix_millis))
}

pub(super) fn broker_name(id: BrokerId) -> proto::BrokerName {
    let (high, low) = halves(id);
    proto::BrokerName { high, low }
}

pub(super) fn parse_broker(name: &proto::BrokerName) -> BrokerId {
    broker(name.high, name.low)
}

pub(super) fn record(topic: String, record: Record) -> proto::RetainedRecord {
    let Record { stamp, expires, message } = record;
    let expires = expires.map_or(0, |at| at.0);
    proto::RetainedRecord { topic, time: stamp.time.0, node: stamp.node.0, expires, message }
}

pub(super) fn parse_record(broker: BrokerId, record: proto::RetainedRecord) -> Write {
    let stamp = Stamp { time: Time(record.time), node: NodeId(record.node) };
    // The message is a part of the whole answer, and may be kept much longer.
    let message = record.message.map(|message| Bytes::copy_from_slice(&message));
    let expires = moment(record.expires);
    Write { broker, topic: record.topic.into(), record: Record { stamp, expires, message } }
}

pub(super) fn reply(reply: Reply) -> proto::DataReply {
    proto::DataReply { accepted: reply.accepted, received: reply.received, window: reply.window as u64 }
}

pub(super) fn parse_reply(reply: &proto::DataReply) -> Reply {
    let window = usize::try_from(reply.window).unwrap_or(usize::MAX);
    Reply { accepted: reply.accepted, received: reply.received, window }
}

/// Cuts a message into parts, as they are asked for.
pub(super) struct Parts {
    seq: u64,
    snapshot: bool,
    changes: std::iter::Peekable<Box<dyn Iterator<Item = (Interest, bool)> + Send>>,
    done: bool,
}

impl Parts {
    pub(super) fn new(message: Message) -> Self {
        let snapshot = matches!(message.content, Content::Snapshot(_));
        let changes: Box<dyn Iterator<Item = _> + Send> = match message.content {
            Content::Snapshot(all) => Box::new(all.into_iter().map(|interest| (interest, true))),
            Content::Changes(changes) => Box::new(changes.into_iter()),
        };
        Self { seq: message.seq, snapshot, changes: changes.peekable(), done: false }
    }
}

impl Iterator for Parts {
    type Item = proto::InterestRequest;

    fn next(&mut self) -> Option<proto::InterestRequest> {
        if self.done {
            return None;
        }
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while bytes < PART_BYTES
            && let Some((interest, wanted)) = self.changes.next()
        {
            bytes += cost(&interest.filter);
            let (broker_high, broker_low) = halves(interest.broker);
            let filter = interest.filter.as_ref().to_owned();
            changes.push(proto::Change { broker_high, broker_low, filter, removed: !wanted });
        }
        self.done = self.changes.peek().is_none();
        let part = proto::InterestPart { seq: self.seq, snapshot: self.snapshot, last: self.done, changes };
        Some(proto::InterestRequest { kind: Some(proto::interest_request::Kind::Part(part)) })
    }
}

/// What is wrong with a part. Nothing of its message counts; the call is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPart {
    #[error("a message began before the last part of the one before it")]
    Unfinished,
    #[error("a message of more than {INTEREST_MESSAGE_PARTS} parts, or of more than {INTEREST_MESSAGE_BYTES} bytes")]
    TooLarge,
}

impl From<BadPart> for Status {
    fn from(bad: BadPart) -> Self {
        match bad {
            BadPart::Unfinished => Status::invalid_argument(bad.to_string()),
            BadPart::TooLarge => Status::resource_exhausted(bad.to_string()),
        }
    }
}

/// Puts the parts of messages together again.
#[derive(Default)]
pub(super) struct Assembler {
    /// The number of the message that has begun, and whether it is a snapshot.
    begun: Option<(u64, bool)>,
    changes: BTreeMap<Interest, bool>,
    /// Parts of that message so far, and what their changes cost.
    parts: usize,
    bytes: usize,
}

impl Assembler {
    /// Takes a part; returns the message that it completes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, part: proto::InterestPart) -> Result<Option<Message>, BadPart> {
        if *self.begun.get_or_insert((part.seq, part.snapshot)) != (part.seq, part.snapshot) {
            return Err(BadPart::Unfinished);
        }
        self.parts += 1;
        // Before they are kept: a part is bounded by what gRPC takes.
        self.bytes += part.changes.iter().map(|change| cost(&change.filter)).sum::<usize>();
        if self.parts > INTEREST_MESSAGE_PARTS || self.bytes > INTEREST_MESSAGE_BYTES {
            return Err(BadPart::TooLarge);
        }
        for change in part.changes {
            let interest =
                Interest { broker: broker(change.broker_high, change.broker_low), filter: change.filter.into() };
            self.changes.insert(interest, !change.removed);
        }
        if !part.last {
            return Ok(None);
        }
        let changes = std::mem::take(self).changes;
        let content = if part.snapshot {
            Content::Snapshot(changes.into_keys().collect::<Interests>())
        } else {
            Content::Changes(changes)
        };
        Ok(Some(Message { seq: part.seq, content }))
    }
}

/// What a filter costs in a message, bytes.
fn cost(filter: &str) -> usize {
    filter.len() + CHANGE_OVERHEAD
}

fn halves(broker: BrokerId) -> (u64, u64) {
    ((broker.0 >> 64) as u64, broker.0 as u64)
}

fn broker(high: u64, low: u64) -> BrokerId {
    BrokerId((u128::from(high) << 64) | u128::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_travel_in_parts() {
        let all: Interests =
            (0..20_000).map(|i| Interest { broker: BrokerId(1 << 100 | i), filter: format!("f/{i}").into() }).collect();
        for (content, several) in [
            (Content::Snapshot(all), true),
            (Content::Snapshot(Interests::new()), false),
            (Content::Changes([(Interest { broker: BrokerId(3), filter: "a".into() }, false)].into()), false),
        ] {
            let message = Message { seq: 7, content };
            let parts: Vec<_> = Parts::new(message.clone()).collect();
            assert_eq!(parts.len() > 1, several);
            let mut assembler = Assembler::default();
            let mut whole = Vec::new();
            for part in parts {
                let Some(proto::interest_request::Kind::Part(part)) = part.kind else { panic!("a part") };
                whole.extend(assembler.take(part).unwrap());
            }
            assert_eq!(whole, [message]);
        }
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let part = |seq| proto::InterestPart { seq, snapshot: false, last: false, changes: Vec::new() };
        let mut assembler = Assembler::default();
        assert_eq!(assembler.take(part(1)).unwrap(), None);
        assert_eq!(assembler.take(part(2)), Err(BadPart::Unfinished));
    }

    #[test]
    fn a_message_has_so_many_parts_and_bytes_and_no_more() {
        let part = |changes| proto::InterestPart { seq: 1, snapshot: false, last: false, changes };
        let mut assembler = Assembler::default();
        for _ in 0..INTEREST_MESSAGE_PARTS {
            assert_eq!(assembler.take(part(Vec::new())), Ok(None));
        }
        assert_eq!(assembler.take(part(Vec::new())), Err(BadPart::TooLarge));
        // The same filter over and over: what is kept is small, what is sent is counted.
        let change = proto::Change { filter: "f".repeat(64 << 10), ..proto::Change::default() };
        let each = cost(&change.filter);
        let mut assembler = Assembler::default();
        for _ in 0..INTEREST_MESSAGE_BYTES / (16 * each) {
            assert_eq!(assembler.take(part(vec![change.clone(); 16])), Ok(None));
        }
        assert_eq!(assembler.take(part(vec![change; 16])), Err(BadPart::TooLarge));
    }

    #[test]
    fn what_a_message_held_does_not_count_for_the_next() {
        let mut assembler = Assembler::default();
        for seq in 1..10 {
            for n in 0..INTEREST_MESSAGE_PARTS / 4 {
                let last = n + 1 == INTEREST_MESSAGE_PARTS / 4;
                let taken = assembler.take(proto::InterestPart { seq, snapshot: false, last, changes: Vec::new() });
                assert_eq!(taken.map(|message| message.is_some()), Ok(last));
            }
        }
    }
}
