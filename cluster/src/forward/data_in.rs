//! A worker's stream from one peer life: the receiving end.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use parking_lot::Mutex;
use rookery_proto::forward::data_request::Kind;
use rookery_proto::forward::{Batch, DataReply, DataRequest, Hello};
use tokio::sync::Notify;
use tonic::{Request, Status, Streaming};

use super::driver::{Inner, answer};
use super::inbox::{Arrival, Inbox};
use super::outbox::cost;
use super::wire;
use crate::handle::{ClusterEvent, ForwardedBatch, Receipt, Run};
use crate::ids::{NodeLife, WorkerId};

/// While batches keep coming, an acknowledgement that is due goes out after this many.
const BATCHES_PER_REPLY: u32 = 16;

/// What is known of one (origin life, worker). Outlives connections; ends with the origin's life.
pub(super) struct Receiver {
    origin: NodeLife,
    worker: WorkerId,
    /// Held from numbering to posting, so that batches of an old and a new connection keep their order.
    /// Not the same lock as `state`: a worker may give its receipt while others are being posted to.
    delivery: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    inbox: Inbox,
    /// The origin's numbering, see `Hello.stream`.
    stream: u64,
    /// Which connection is the current one.
    session: u64,
    /// Wakes it.
    wake: Arc<Notify>,
    closed: bool,
}

impl Receiver {
    fn new(origin: NodeLife, worker: WorkerId, hello: &Hello) -> Self {
        let inbox = Inbox::new(hello.first);
        let state = State { inbox, stream: hello.stream, session: 0, wake: Arc::default(), closed: false };
        Self { origin, worker, delivery: Mutex::new(()), state: Mutex::new(state) }
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.wake.notify_one();
    }

    /// Makes a new connection the current one.
    fn begin(&self, hello: &Hello) -> Result<(u64, Arc<Notify>), Status> {
        let mut state = self.state.lock();
        if hello.stream < state.stream {
            return Err(Status::aborted("a newer stream is known"));
        }
        if hello.stream > state.stream {
            state.stream = hello.stream;
            state.inbox = Inbox::new(hello.first);
        }
        state.wake.notify_one();
        state.session += 1;
        state.wake = Arc::default();
        Ok((state.session, Arc::clone(&state.wake)))
    }

    fn done(&self, stream: u64, seq: u64) {
        let mut state = self.state.lock();
        if state.stream == stream && state.inbox.on_done(seq) {
            state.wake.notify_one();
        }
    }
}

impl State {
    fn check(&self, session: u64) -> Result<(), Status> {
        if self.closed {
            return Err(Status::permission_denied("that life of the caller is over"));
        }
        if self.session != session {
            return Err(Status::aborted("replaced by a newer call"));
        }
        Ok(())
    }
}

/// Answers a call of `Data`: the stream of replies also reads and hands on the batches, so that no other task
/// is needed.
pub(super) async fn serve(
    inner: Arc<Inner>,
    request: Request<Streaming<DataRequest>>,
) -> Result<impl Stream<Item = Result<DataReply, Status>> + Send, Status> {
    let (_, caller, mut requests) = request.into_parts();
    let Some(DataRequest { kind: Some(Kind::Hello(hello)) }) = answer(requests.message()).await? else {
        return Err(Status::invalid_argument("the first message is not Hello"));
    };
    let worker = u16::try_from(hello.worker).map_err(|_| Status::invalid_argument("no such worker"))?;
    let receiver = inner.admit(&caller, &hello, |origin| {
        let key = (origin, WorkerId(worker));
        let new = || Arc::new(Receiver::new(origin, WorkerId(worker), &hello));
        Arc::clone(inner.receivers.lock().entry(key).or_insert_with(new))
    })?;
    let (session, wake) = receiver.begin(&hello)?;
    inner.counters.streams_opened.add(1);
    let served = Served { inner, receiver, session, wake, requests, told: None, since: 0 };
    Ok(stream::unfold(Some(served), |served| async { served?.next().await }))
}

struct Served {
    inner: Arc<Inner>,
    receiver: Arc<Receiver>,
    session: u64,
    wake: Arc<Notify>,
    requests: Streaming<DataRequest>,
    /// What was acknowledged last on this connection.
    told: Option<u64>,
    /// Batches since then.
    since: u32,
}

impl Served {
    async fn next(mut self) -> Option<(Result<DataReply, Status>, Option<Self>)> {
        match self.reply().await {
            Ok(Some(reply)) => Some((Ok(reply), Some(self))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    }

    /// Takes batches until there is something to say; `None` when the caller has ended the call.
    async fn reply(&mut self) -> Result<Option<DataReply>, Status> {
        loop {
            let reply = {
                let state = self.receiver.state.lock();
                state.check(self.session)?;
                state.inbox.reply()
            };
            let due = self.told != Some(reply.accepted);
            let now = due && (self.told.is_none() || self.since >= BATCHES_PER_REPLY);
            let request = tokio::select! {
                biased;
                request = self.requests.message(), if !now => request?,
                () = std::future::ready(()), if due => {
                    self.told = Some(reply.accepted);
                    self.since = 0;
                    return Ok(Some(wire::reply(reply)));
                }
                () = self.wake.notified() => continue,
            };
            match request {
                Some(DataRequest { kind: Some(Kind::Batch(batch)) }) => self.on_batch(batch)?,
                Some(_) => return Err(Status::invalid_argument("not a batch")),
                None => return Ok(None),
            }
        }
    }

    fn on_batch(&mut self, Batch { seq, runs }: Batch) -> Result<(), Status> {
        self.since += 1;
        let runs = wire::runs(runs);
        self.inner.check_times(&runs)?;
        let receiver = &self.receiver;
        let order = receiver.delivery.lock();
        let stream = {
            let mut state = receiver.state.lock();
            state.check(self.session)?;
            match state.inbox.on_batch(seq, cost(&runs)) {
                Ok(Arrival::New) => state.stream,
                Ok(Arrival::Seen) => {
                    self.inner.counters.duplicates.add(1);
                    return Ok(());
                }
                Err(violation) => return Err(Status::invalid_argument(violation.to_string())),
            }
        };
        self.count(&runs);
        self.hand_on(stream, seq, runs);
        drop(order);
        Ok(())
    }

    fn hand_on(&self, stream: u64, seq: u64, runs: Vec<Run>) {
        let mut workers = self.inner.serving.read().of(&runs);
        let kept = self.inner.retained.as_ref().filter(|_| runs.iter().any(|run| !run.retained.is_empty()));
        if workers.is_empty() && runs.iter().any(|run| run.count > 0) {
            // What is directed to shared subscriptions whose last members have gone is for some worker to direct on.
            workers.push(WorkerId(0));
        }
        let parties = workers.len() + usize::from(kept.is_some());
        if parties == 0 {
            self.receiver.done(stream, seq);
            return;
        }
        let receiver = Arc::clone(&self.receiver);
        let receipt = Receipt::new(parties, Box::new(move || receiver.done(stream, seq)));
        let (origin, worker) = (self.receiver.origin, self.receiver.worker);
        let batch = Arc::new(ForwardedBatch { origin, worker, seq, runs, workers, receipt });
        let post = || {
            for worker in &batch.workers {
                self.inner.ports[usize::from(worker.0)].post(ClusterEvent::Forwarded(Arc::clone(&batch)));
            }
        };
        match kept {
            Some(kept) => kept.take(&batch, post),
            None => post(),
        }
    }

    fn count(&self, runs: &[Run]) {
        let counters = &self.inner.counters;
        counters.batches_received.add(1);
        counters.messages_received.add(runs.iter().map(|run| u64::from(run.count)).sum());
        counters.bytes_received.add(runs.iter().map(|run| run.body.len() as u64).sum());
    }
}
