//! The streams between two nodes: what comes of a peer's messages behind gRPC.

use std::path::Path;

use prost::Message;
use rookery_cluster::disk::MemDisk;
use rookery_cluster::forward::fuzz;
use rookery_cluster::retained::Came;
use rookery_proto::forward::{
    Batch, BrokerDigests, BrokerName, Change, DataReply, DataRequest, Hello, InterestPart, InterestReply,
    InterestRequest, Retained, RetainedDigestsReply, RetainedRecord, RetainedRecordsReply, Run, data_request,
    interest_request,
};

use super::retained::{TURNS, open};
use super::{ensure, head, piece, pieces};

/// Most messages of one input.
const MOST: usize = 64;

/// A byte for which end of which stream it is, then messages, each behind its length (2 bytes, big-endian).
pub fn run(input: &[u8]) -> Result<(), String> {
    let (how, bytes) = head(input);
    match how % 5 {
        0 => {
            let writes = fuzz::batches(read(bytes))?;
            if writes.is_empty() { Ok(()) } else { kept(|store| store.take(&writes, Came::Published, None, || ())) }
        }
        1 => fuzz::acknowledgements(&read::<DataReply>(bytes)),
        2 => fuzz::interest(read(bytes)),
        3 => fuzz::interest_seen(&read::<InterestReply>(bytes)),
        _ => {
            // Every other message is the answer to the other question.
            let (digests, records) = (read::<RetainedDigestsReply>(bytes), read::<RetainedRecordsReply>(bytes));
            kept(|store| {
                fuzz::copied(store, &digests, &records);
            })
        }
    }
}

/// Messages of one kind, those that are.
fn read<M: Message + Default>(bytes: &[u8]) -> Vec<M> {
    pieces(bytes).take(MOST).filter_map(|piece| M::decode(piece).ok()).collect()
}

/// What a store was given is in its file, and in no other order.
fn kept(give: impl FnOnce(&rookery_cluster::retained::store::Store)) -> Result<(), String> {
    let disk = MemDisk::new(1);
    rookery_cluster::disk::Disk::create_dir_all(&disk, Path::new("/retained"))
        .map_err(|why| format!("the model of a disk: {why}"))?;
    let store = open(&disk)?;
    give(&store);
    let totals = store.totals();
    (0..TURNS).take_while(|_| store.turn()).count();
    store.close();
    drop(store);
    let again = open(&disk)?.totals();
    ensure(again == totals, || format!("{totals:?} became {again:?}"))
}

/// A conversation on each stream.
pub fn seeds() -> Vec<Vec<u8>> {
    let talk = |how: u8, messages: &[Vec<u8>]| {
        [vec![how], messages.iter().flat_map(|message| piece(message)).collect()].concat()
    };
    let hello = Hello {
        version: 2,
        node: 2,
        incarnation: 1,
        target_node: 1,
        target_incarnation: 1,
        first: 1,
        ..Hello::default()
    };
    let data = |kind| DataRequest { kind: Some(kind) }.encode_to_vec();
    let message = Some("m".into());
    let retained = Retained { time: 7 << 16, topic: "t/1".into(), message: message.clone(), durable: true, expires: 0 };
    let run = Run { broker_high: 0, broker_low: 9, count: 1, body: "b".into(), retained: vec![retained] };
    let batch = |seq| data(data_request::Kind::Batch(Batch { seq, runs: vec![run.clone(); 2] }));
    let mut batches = vec![data(data_request::Kind::Hello(hello))];
    batches.extend([1, 2, 3, 2, 4, 5, 6].map(batch));
    let reply = |accepted, received| DataReply { accepted, received, window: 1 << 20 }.encode_to_vec();
    let replies = [reply(0, 0), reply(1, 2), reply(3, 3), reply(5, 6), reply(9, 9), reply(99, 99)];
    let change = |filter: &str, removed| Change { broker_high: 0, broker_low: 9, filter: filter.into(), removed };
    let part = |seq, snapshot, last, changes: &[Change]| {
        let part = InterestPart { seq, snapshot, last, changes: changes.to_vec() };
        InterestRequest { kind: Some(interest_request::Kind::Part(part)) }.encode_to_vec()
    };
    let interest = [
        part(1, true, false, &[change("a/#", false), change("$share/g/b", false)]),
        part(1, true, true, &[change("c", false)]),
        part(2, false, true, &[change("a/#", true), change("d/+", false)]),
        part(3, false, true, &[]),
        part(3, true, true, &[change("again", false)]),
    ];
    let seen = [1, 2, 2, 4, 3, 99].map(|seen| InterestReply { seen }.encode_to_vec());
    let broker = Some(BrokerName { high: 0, low: 9 });
    let digests = |more| {
        let brokers = vec![BrokerDigests { broker, sums: (0..64).collect() }];
        RetainedDigestsReply { brokers, more, sound: true, latest: 7 << 16 }.encode_to_vec()
    };
    let record =
        |topic: &str, message| RetainedRecord { topic: topic.into(), time: 7 << 16, node: 2, expires: 9, message };
    let records = vec![record("t/1", message), record("t/2", None)];
    let records = RetainedRecordsReply { records, next: "t/2".into() }.encode_to_vec();
    let copied = [digests(true), records.clone(), digests(false), records];
    vec![talk(0, &batches), talk(1, &replies), talk(2, &interest), talk(3, &seen), talk(4, &copied)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_conversations() {
        seeds().iter().for_each(|seed| assert_eq!(run(seed), Ok(()), "{}", seed[0]));
        assert_eq!(fuzz::batches(read(&seeds()[0][1..])).map(|writes| writes.len()), Ok(12));
        let answers = &seeds()[4][1..];
        let store = open(&MemDisk::new(1)).expect("a store");
        assert!(fuzz::copied(&store, &read(answers), &read(answers)) > 2);
    }
}
