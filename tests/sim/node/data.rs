//! The glue of the data streams: an outbox for each (worker, peer life), an inbox at the other end, as
//! `forward::{data_out, data_in}` have it.

use std::rc::Rc;

use rookery::broker::core::origin;
use rookery_cluster::forward::inbox::{Arrival, Inbox};
use rookery_cluster::forward::outbox::{Outbox, Progress, Reply, cost};
use rookery_cluster::handle::{Run, SendError};
use rookery_cluster::ids::{NodeId, NodeLife, WorkerId};

use super::forward::ANSWER_TIMEOUT;
use super::worker::Mail;
use crate::net::{StreamId, Way};
use crate::world::{Sabotage, World};

pub struct Sender {
    peer: NodeLife,
    /// Tells the receiver whether batches are numbered from 1 again.
    number: u64,
    outbox: Outbox,
    stream: Option<StreamId>,
    answered: bool,
}

pub struct Receiver {
    inbox: Inbox,
    number: u64,
    stream: Option<StreamId>,
}

/// A batch that some workers, or the store, have not taken yet.
pub struct Receipt {
    left: usize,
    from: (NodeLife, u16),
    number: u64,
    seq: u64,
}

impl Sender {
    pub fn stream(&self) -> Option<StreamId> {
        self.stream
    }
}

impl Receiver {
    pub fn stream(&self) -> Option<StreamId> {
        self.stream
    }
}

impl World {
    fn sender(&mut self, own: NodeLife, worker: u16, peer: NodeLife) -> Option<&mut Sender> {
        let links = &mut self.forward(own)?.workers[usize::from(worker)];
        links.senders.get_mut(&peer.node).filter(|s| s.peer == peer)
    }

    pub fn open_senders(&mut self, own: NodeLife, peer: NodeLife) {
        for worker in 0..self.cfg.workers {
            let Some(forward) = self.forward(own) else { return };
            let number = forward.number();
            let sender = Sender { peer, number, outbox: Outbox::default(), stream: None, answered: false };
            forward.workers[usize::from(worker)].senders.insert(peer.node, sender);
            self.call_data(own, worker, peer);
        }
    }

    pub fn send_batch(
        &mut self,
        own: NodeLife,
        worker: u16,
        peer: NodeId,
        runs: Vec<Run>,
    ) -> Result<u64, (SendError, Vec<Run>)> {
        let Some(forward) = self.forward(own) else { return Err((SendError::NotLive, runs)) };
        let links = &mut forward.workers[usize::from(worker)];
        let fenced = links.fences.get(&peer).is_some_and(|token| links.seen < *token);
        let Some(sender) = links.senders.get_mut(&peer).filter(|_| !fenced) else {
            return Err((SendError::NotLive, runs));
        };
        let life = sender.peer;
        let seq = sender.outbox.push(runs).map_err(|runs| (SendError::NoCredit, runs))?;
        self.pump_data(own, worker, life);
        Ok(seq)
    }

    /// Opens the stream, again and again while both live.
    fn call_data(&mut self, own: NodeLife, worker: u16, peer: NodeLife) {
        if self.sender(own, worker, peer).is_none() {
            return;
        }
        let stream = self.open_stream(own.node, peer.node, move |w| {
            let Some(sender) = w.sender(own, worker, peer) else { return };
            sender.outbox.on_disconnected();
            let pause = w.rng.millis(50, 1000);
            w.after(pause, move |w| w.call_data(own, worker, peer));
        });
        let Some(sender) = self.sender(own, worker, peer) else { return };
        sender.outbox.on_disconnected();
        (sender.stream, sender.answered) = (Some(stream), false);
        let (first, number) = (sender.outbox.first(), sender.number);
        self.after(ANSWER_TIMEOUT, move |w| {
            if w.sender(own, worker, peer).is_some_and(|s| s.stream == Some(stream) && !s.answered) {
                w.break_stream(stream);
            }
        });
        self.stream_send(stream, Way::Out, move |w| w.answer_data(peer, (own, worker), stream, number, first));
    }

    /// `own` is called by a worker of another node.
    fn answer_data(&mut self, own: NodeLife, from: (NodeLife, u16), stream: StreamId, number: u64, first: u64) {
        let forgetful = self.cfg.sabotage == Sabotage::ForgetInbox;
        let Some(forward) = self.forward(own).filter(|f| f.knows(from.0)) else {
            return self.break_stream(stream);
        };
        let new = || Receiver { inbox: Inbox::new(first), number, stream: None };
        let receiver = forward.receivers.entry(from).or_insert_with(new);
        if number < receiver.number {
            return self.break_stream(stream);
        }
        if number > receiver.number || forgetful {
            *receiver = new();
        }
        let old = receiver.stream.replace(stream);
        let reply = receiver.inbox.reply();
        if let Some(old) = old {
            self.break_stream(old);
        }
        self.stream_send(stream, Way::Back, move |w| {
            w.replied(own, from, stream, |outbox| outbox.on_connected(reply).expect("a possible reply"));
            if let Some(sender) = w.sender(from.0, from.1, own).filter(|s| s.stream == Some(stream)) {
                sender.answered = true;
            }
            w.pump_data(from.0, from.1, own);
        });
    }

    /// The receiver of `from`'s batches has said something.
    fn replied(
        &mut self,
        peer: NodeLife,
        from: (NodeLife, u16),
        stream: StreamId,
        change: impl FnOnce(&mut Outbox) -> Progress,
    ) {
        let Some(sender) = self.sender(from.0, from.1, peer).filter(|s| s.stream == Some(stream)) else { return };
        let progress = change(&mut sender.outbox);
        if let Some(through) = progress.accepted {
            self.post(from.0, from.1, Mail::Accepted { peer: peer.node, through });
        }
        if progress.room {
            self.post(from.0, from.1, Mail::Room { peer: peer.node });
        }
    }

    fn pump_data(&mut self, own: NodeLife, worker: u16, peer: NodeLife) {
        loop {
            let Some(sender) = self.sender(own, worker, peer) else { return };
            let Some(stream) = sender.stream else { return };
            let Some(batch) = sender.outbox.next_to_send().cloned() else { return };
            self.stream_send(stream, Way::Out, move |w| w.arrive(peer, (own, worker), stream, batch.seq, batch.runs));
        }
    }

    fn receiver(&mut self, own: NodeLife, from: (NodeLife, u16)) -> Option<&mut Receiver> {
        self.forward(own)?.receivers.get_mut(&from)
    }

    fn arrive(&mut self, own: NodeLife, from: (NodeLife, u16), stream: StreamId, seq: u64, runs: Vec<Run>) {
        let Some(receiver) = self.receiver(own, from).filter(|r| r.stream == Some(stream)) else { return };
        let number = receiver.number;
        if self.ahead(own.node, &runs) {
            return self.break_stream(stream);
        }
        let Some(receiver) = self.receiver(own, from) else { return };
        match receiver.inbox.on_batch(seq, cost(&runs)) {
            Ok(Arrival::New) => {}
            Ok(Arrival::Seen) => return,
            Err(violation) => return self.broken(format!("stream from {} to {own}: {violation}", from.0)),
        }
        let Some(forward) = self.forward(own) else { return };
        let brokers = runs.iter().filter_map(|run| forward.serving.get(&run.broker)).flatten();
        let mut workers: std::collections::BTreeSet<WorkerId> = brokers.copied().collect();
        if workers.is_empty() && runs.iter().any(|run| run.count > 0) {
            workers.insert(WorkerId(0));
        }
        let kept = runs.iter().any(|run| !run.retained.is_empty());
        let id = forward.number();
        // One more, so that it is not given before all is handed on.
        forward.receipts.insert(id, Receipt { left: workers.len() + usize::from(kept) + 1, from, number, seq });
        let (runs, workers) = (Rc::new(runs), Rc::new(workers.into_iter().collect::<Vec<_>>()));
        let origin = origin(from.0, WorkerId(from.1));
        let all = workers.clone();
        for worker in &*all {
            let (runs, workers) = (runs.clone(), workers.clone());
            let mail = Mail::Forwarded { origin, runs, workers, seq, receipt: id };
            self.post(own, worker.0, mail);
        }
        if kept {
            self.keep_arrived(own, from.0, &runs, id);
        }
        self.receipt(own, id);
    }

    /// One worker has queued or dropped all of its deliveries of a batch.
    pub fn receipt(&mut self, own: NodeLife, id: u64) {
        let Some(forward) = self.forward(own) else { return };
        let Some(receipt) = forward.receipts.get_mut(&id) else { return };
        receipt.left -= 1;
        if receipt.left > 0 {
            return;
        }
        let Some(Receipt { from, number, seq, .. }) = forward.receipts.remove(&id) else { return };
        let Some(receiver) = forward.receivers.get_mut(&from).filter(|r| r.number == number) else { return };
        if !receiver.inbox.on_done(seq) {
            return;
        }
        let reply: Reply = receiver.inbox.reply();
        let Some(stream) = receiver.stream else { return };
        self.stream_send(stream, Way::Back, move |w| {
            w.replied(own, from, stream, |outbox| outbox.on_reply(reply).expect("a possible reply"));
            w.pump_data(from.0, from.1, own);
        });
    }
}
