//! For fuzzing only: what either end of a stream makes of whatever messages its peer sends, without the calls that
//! bring them.

use std::collections::BTreeMap;

use rookery_proto::forward as proto;
use rookery_proto::forward::{data_request, interest_request};

use super::inbox::{Arrival, Inbox};
use super::outbox::{Outbox, cost};
use super::{retained, wire};
use crate::clock::Moment;
use crate::handle::Run;
use crate::ids::{BrokerId, Incarnation, NodeId, NodeLife, WorkerId};
use crate::interest::{Content, Hub, Input, Interest, Message, Output};
use crate::limits::FORWARD_WINDOW_BYTES;
use crate::retained::store::{Store, Write};
use crate::retained::{Ask, Comparison, Next};

const PEER: NodeLife = NodeLife { node: NodeId(2), incarnation: Incarnation(1) };
const WORKERS: u16 = 2;

/// The receiving end of batches: what they keep.
///
/// # Errors
/// It acknowledges what it has not, or what it holds has no end.
pub fn batches(requests: Vec<proto::DataRequest>) -> Result<Vec<Write>, String> {
    let mut requests = requests.into_iter().map_while(|request| request.kind);
    let (mut kept, mut open) = (Vec::new(), Vec::new());
    let Some(data_request::Kind::Hello(hello)) = requests.next() else { return Ok(kept) };
    let (origin, mut inbox) = (wire::origin(&hello), Inbox::new(hello.first));
    let mut told = inbox.reply();
    for request in requests {
        let data_request::Kind::Batch(proto::Batch { seq, runs }) = request else { return Ok(kept) };
        let runs = wire::runs(runs);
        match inbox.on_batch(seq, cost(&runs)) {
            Ok(Arrival::New) => open.push(seq),
            Ok(Arrival::Seen) => continue,
            Err(_) => return Ok(kept),
        }
        kept.extend(runs.iter().flat_map(|run| retained::writes(run, origin.node)));
        // Receipts come late, and the newest ones first.
        if open.len() == 4 {
            let done = open.drain(..).rev().filter(|seq| inbox.on_done(*seq)).count();
            ensure(done == 1, || format!("{done} of 4 receipts acknowledge"))?;
        }
        let reply = inbox.reply();
        let sound = told.accepted <= reply.accepted && reply.accepted <= reply.received;
        ensure(sound && reply.window == FORWARD_WINDOW_BYTES, || format!("{told:?}, then {reply:?}"))?;
        told = reply;
    }
    let due = open.len();
    let done = open.into_iter().filter(|seq| inbox.on_done(*seq)).count();
    ensure(done == due, || format!("{done} of {due} receipts in order acknowledge"))?;
    let last = inbox.reply();
    ensure(last.accepted == last.received, || format!("{last:?}, and nothing is open"))?;
    Ok(kept)
}

/// The sending end of batches, as its peer acknowledges.
///
/// # Errors
/// It sends a batch twice on one connection, or none that is due, or holds more than its window.
pub fn acknowledgements(replies: &[proto::DataReply]) -> Result<(), String> {
    let mut outbox = Outbox::default();
    let run = || Run { broker: BrokerId(1), count: 1, body: vec![0; 1 << 10].into(), retained: Vec::new() };
    let mut connected = false;
    for reply in replies.iter().map(wire::parse_reply) {
        for _ in 0..3 {
            drop(outbox.push(vec![run()]));
        }
        let before = outbox.first();
        let result = if connected { outbox.on_reply(reply) } else { outbox.on_connected(reply) };
        connected = result.is_ok();
        if !connected {
            ensure(outbox.first() == before, || format!("{reply:?} was refused, and taken"))?;
            outbox.on_disconnected();
        }
        let mut last = 0;
        while let Some(batch) = outbox.next_to_send() {
            ensure(batch.seq > last && batch.seq >= before, || format!("{} after {last}, {before}", batch.seq))?;
            last = batch.seq;
        }
    }
    Ok(())
}

/// The hub of a node, told what a peer wants.
///
/// # Errors
/// It acknowledges what was not said, or knows more than was.
pub fn interest(requests: Vec<proto::InterestRequest>) -> Result<(), String> {
    let (mut hub, mut said) = (Hub::new(WORKERS), 0);
    let mut assembler = wire::Assembler::default();
    step(&mut hub, Input::Live([(PEER.node, PEER.incarnation)].into()))?;
    step(&mut hub, Input::Opened { peer: PEER, link: 1 })?;
    for request in requests {
        let Some(interest_request::Kind::Part(part)) = request.kind else { return Ok(()) };
        let Ok(message) = assembler.take(part) else { return Ok(()) };
        let Some(message) = message else { continue };
        said = said.max(message.seq);
        for output in step(&mut hub, Input::Received { peer: PEER, link: 1, message })? {
            match output {
                Output::Close { .. } => return Ok(()),
                Output::Acknowledge { through, .. } => ensure(through <= said, || format!("{through} of {said}"))?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// The hub of a node, as a peer acknowledges what this node wants.
///
/// # Errors
/// A barrier ends that the peer has not passed.
pub fn interest_seen(replies: &[proto::InterestReply]) -> Result<(), String> {
    let mut hub = Hub::new(WORKERS);
    step(&mut hub, Input::Live([(PEER.node, PEER.incarnation)].into()))?;
    step(&mut hub, Input::Connected { peer: PEER, link: 1 })?;
    // The messages sent and seen, and the one that each filter was in.
    let (mut sent, mut seen, mut told_in) = (1, 0, BTreeMap::new());
    for (token, reply) in (0_u64..).zip(replies) {
        let interest = Interest { broker: BrokerId(1), filter: format!("f/{token}").into() };
        for input in [
            Input::Subscribe { worker: WorkerId(0), interest, token },
            Input::Acknowledged { peer: PEER, link: 1, through: reply.seen },
        ] {
            if matches!(input, Input::Acknowledged { .. }) && reply.seen <= sent {
                seen = seen.max(reply.seen);
            }
            for output in step(&mut hub, input)? {
                match output {
                    Output::Send { message: Message { seq, content: Content::Changes(changes) }, .. } => {
                        sent = seq;
                        told_in.extend(changes.into_keys().map(|interest| (interest.filter, seq)));
                    }
                    Output::Barrier { token, .. } => {
                        let told = told_in.get(&*format!("f/{token}"));
                        ensure(told.is_some_and(|seq| *seq <= seen), || format!("{token} in {told:?}, seen {seen}"))?;
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// One input, and the workers' answers to what they are told.
fn step(hub: &mut Hub, input: Input) -> Result<Vec<Output>, String> {
    let now = Moment::default();
    let (mut all, mut waiting) = (Vec::new(), vec![input]);
    while let Some(input) = waiting.pop() {
        let mut out = Vec::new();
        hub.step(now, input, &mut out);
        waiting.extend(out.iter().filter_map(|output| match output {
            Output::Interest { worker, token, .. } => Some(Input::Seen { worker: *worker, token: *token }),
            _ => None,
        }));
        all.extend(out);
        ensure(all.len() < 10_000, || "outputs without end".to_owned())?;
    }
    Ok(all)
}

/// A node that copies what a peer retains into `store`, as the peer answers with digests and records in turn. How many
/// answers were taken.
///
/// Each answer is asked for once, so it ends.
pub fn copied(
    store: &Store,
    digests: &[proto::RetainedDigestsReply],
    records: &[proto::RetainedRecordsReply],
) -> usize {
    let (mut digests, mut records) = (digests.iter(), records.iter());
    let (mut comparison, mut ask) = Comparison::begin();
    let mut taken = 0;
    loop {
        let next = match ask {
            Ask::Digests(_) => {
                let Some(reply) = digests.next() else { return taken };
                let _ = store.follow(crate::retained::Time(reply.latest));
                let theirs: Option<Vec<_>> = reply.brokers.iter().map(retained::digests_of).collect();
                let Some(theirs) = theirs else { return taken };
                comparison.on_digests(&theirs, reply.more, reply.sound, |broker| store.digests_of(broker))
            }
            Ask::Records { broker, .. } => {
                let Some(reply) = records.next() else { return taken };
                let writes = reply.records.iter().cloned().map(|record| wire::parse_record(broker, record));
                let writes: Vec<Write> = writes.collect();
                let Ok(agrees) = store.copy(&writes) else { return taken };
                comparison.on_records(agrees, Some(reply.next.clone()).filter(|next| !next.is_empty()))
            }
        };
        taken += 1;
        match next {
            Next::Ask(next) => ask = next,
            Next::Done(_) => return taken,
        }
    }
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}
