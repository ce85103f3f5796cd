//! Messages between nodes, as gRPC hands them on: what is read as one stays the same when it is written again.

use prost::Message;
use rookery_proto::{control, forward, raft};

use super::{ensure, head};

type Check = fn(&[u8]) -> Result<(), String>;

/// What a call may bring, from either side.
const MESSAGES: &[Check] = &[
    again::<forward::DataRequest>,
    again::<forward::DataReply>,
    again::<forward::InterestRequest>,
    again::<forward::InterestReply>,
    again::<forward::RetainedDigestsRequest>,
    again::<forward::RetainedDigestsReply>,
    again::<forward::RetainedRecordsRequest>,
    again::<forward::RetainedRecordsReply>,
    again::<control::RenewLeaseRequest>,
    again::<control::NotifyRequest>,
    again::<control::ReportStuckRequest>,
    again::<control::WaitAppliedRequest>,
    again::<control::FetchSessionRequest>,
    again::<control::FetchSessionResponse>,
    again::<control::DrainRequest>,
    again::<raft::Calls>,
    again::<raft::Replies>,
    again::<raft::SnapshotPiece>,
    again::<raft::SnapshotReply>,
];

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Result<(), String> {
    let Ok(message) = M::decode(bytes) else { return Ok(()) };
    let again = M::decode(&message.encode_to_vec()[..]);
    ensure(again.as_ref() == Ok(&message), || format!("{message:?} became {again:?}"))
}

/// A byte for which message it is, and the message.
pub fn run(input: &[u8]) -> Result<(), String> {
    let (which, bytes) = head(input);
    MESSAGES[usize::from(which) % MESSAGES.len()](bytes)
}

/// A batch with a retained message in it, given as every message.
pub fn seeds() -> Vec<Vec<u8>> {
    let retained = forward::Retained { time: 7, topic: "t".into(), message: Some("m".into()), ..Default::default() };
    let run = forward::Run { broker_high: 1, broker_low: 2, count: 1, body: "b".into(), retained: vec![retained] };
    let batch = forward::Batch { seq: 3, runs: vec![run] };
    let request = forward::DataRequest { kind: Some(forward::data_request::Kind::Batch(batch)) };
    let bytes = request.encode_to_vec();
    (0..MESSAGES.len() as u8).map(|which| [&[which], &bytes[..]].concat()).collect()
}
