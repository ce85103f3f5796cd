//! A worker's stream to one peer life: the sending end.

use std::sync::Arc;

use futures_util::stream;
use parking_lot::Mutex;
use rookery_proto::forward::data_request::Kind;
use rookery_proto::forward::{DataRequest, Hello};
use tokio::sync::Notify;
use tonic::Status;

use super::driver::{Ended, Inner, answer, ended};
use super::outbox::{Outbox, Progress};
use super::stats::Counters;
use super::wire;
use crate::handle::{ClusterEvent, Run, SendError, SharedWorkerPort};
use crate::ids::{NodeLife, WorkerId};
use crate::net::Purpose;

/// Between the worker that calls [`Sender::send`] and the task that holds the stream.
pub(super) struct Sender {
    worker: WorkerId,
    peer: NodeLife,
    /// Tells the receiver whether batches are numbered from 1 again.
    stream: u64,
    state: Mutex<State>,
}

struct State {
    outbox: Outbox,
    /// Which connection may take batches: a body that lives on after its call ended must not.
    attempt: u64,
    /// Wakes the body of that connection.
    wake: Arc<Notify>,
    closed: bool,
}

impl Sender {
    pub(super) fn new(worker: WorkerId, peer: NodeLife, stream: u64) -> Self {
        let state = State { outbox: Outbox::default(), attempt: 0, wake: Arc::default(), closed: false };
        Self { worker, peer, stream, state: Mutex::new(state) }
    }

    pub(super) fn send(&self, runs: Vec<Run>, counters: &Counters) -> Result<u64, (SendError, Vec<Run>)> {
        let messages = runs.iter().map(|run| u64::from(run.count)).sum();
        let bytes = runs.iter().map(|run| run.body.len() as u64).sum();
        let mut state = self.state.lock();
        if state.closed {
            return Err((SendError::NotLive, runs));
        }
        let seq = state.outbox.push(runs).map_err(|runs| {
            counters.no_credit.add(1);
            (SendError::NoCredit, runs)
        })?;
        state.wake.notify_one();
        drop(state);
        counters.batches_sent.add(1);
        counters.messages_sent.add(messages);
        counters.bytes_sent.add(bytes);
        Ok(seq)
    }

    /// Nothing more is taken, sent or posted.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.outbox = Outbox::default();
        state.wake.notify_one();
    }

    /// What waited for the connection goes now.
    fn wake(&self) {
        self.state.lock().wake.notify_one();
    }

    fn begin(&self, own: NodeLife) -> (Hello, u64, Arc<Notify>) {
        let mut state = self.state.lock();
        state.outbox.on_disconnected();
        state.attempt += 1;
        state.wake = Arc::default();
        let hello = Hello {
            worker: u32::from(self.worker.0),
            first: state.outbox.first(),
            stream: self.stream,
            ..wire::hello(own, self.peer)
        };
        (hello, state.attempt, Arc::clone(&state.wake))
    }

    /// The next batch for connection `attempt`; `None` once it is not the current one.
    async fn next(&self, attempt: u64, wake: &Notify) -> Option<DataRequest> {
        loop {
            {
                let mut state = self.state.lock();
                if state.closed || state.attempt != attempt {
                    return None;
                }
                if let Some(batch) = state.outbox.next_to_send() {
                    return Some(wire::batch(batch));
                }
            }
            wake.notified().await;
        }
    }

    /// Performs what a reply changes. Posts under the lock, so that nothing of a life follows its end.
    fn progress(
        &self,
        port: &SharedWorkerPort,
        change: impl FnOnce(&mut Outbox) -> Result<Progress, super::outbox::Impossible>,
    ) -> Result<Progress, Status> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Status::cancelled("the peer's life is over"));
        }
        let progress = change(&mut state.outbox).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let peer = self.peer.node;
        if let Some(through) = progress.accepted {
            port.post(ClusterEvent::Accepted { peer, through });
        }
        if progress.room {
            port.post(ClusterEvent::Room { peer });
        }
        Ok(progress)
    }
}

/// Holds the stream until the task is aborted.
pub(super) async fn run(inner: Arc<Inner>, sender: Arc<Sender>) {
    let attempt = || async {
        let mut answered = false;
        let Err(why) = hold(&inner, &sender, &mut answered).await;
        sender.state.lock().outbox.on_disconnected();
        Ended { answered, why }
    };
    inner.again(sender.peer, Purpose::Data, attempt).await;
}

async fn hold(inner: &Inner, sender: &Arc<Sender>, answered: &mut bool) -> Result<std::convert::Infallible, Status> {
    let port = &inner.ports[usize::from(sender.worker.0)];
    let mut client = inner.client(sender.peer.node, Purpose::Data)?;
    let (hello, attempt, wake) = sender.begin(inner.own);
    let hello = DataRequest { kind: Some(Kind::Hello(hello)) };
    let body = stream::unfold((Some(hello), Arc::clone(sender)), move |(hello, sender)| {
        let wake = Arc::clone(&wake);
        async move {
            let request = match hello {
                Some(hello) => hello,
                None => sender.next(attempt, &wake).await?,
            };
            Some((request, (None, sender)))
        }
    });
    let mut replies = answer(client.data(body)).await?.into_inner();
    let first = answer(replies.message()).await?.ok_or_else(ended)?;
    let progress = sender.progress(port, |outbox| outbox.on_connected(wire::parse_reply(&first)))?;
    sender.wake();
    *answered = true;
    inner.counters.streams_opened.add(1);
    inner.counters.resends.add(progress.resent);
    while let Some(reply) = replies.message().await? {
        sender.progress(port, |outbox| outbox.on_reply(wire::parse_reply(&reply)))?;
    }
    Err(ended())
}
