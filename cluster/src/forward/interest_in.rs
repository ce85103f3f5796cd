//! Hears what one peer life wants.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use rookery_proto::forward::interest_request::Kind;
use rookery_proto::forward::{InterestPart, InterestReply, InterestRequest};
use tonic::{Request, Status, Streaming};

use super::driver::{Inner, answer};
use super::interest_driver::Latest;
use super::wire::{Assembler, BadPart};
use crate::ids::NodeLife;
use crate::interest::{Input, Link};

/// What the hub tells the link: the last message that all workers have seen, or to close.
#[derive(Default)]
pub(super) struct FromPeer(Latest);

impl FromPeer {
    pub(super) fn acknowledge(&self, through: u64) {
        self.0.raise(through);
    }

    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// Answers a call of `Interest`.
pub(super) async fn serve(
    inner: Arc<Inner>,
    request: Request<Streaming<InterestRequest>>,
) -> Result<impl Stream<Item = Result<InterestReply, Status>> + Send, Status> {
    let (_, caller, mut requests) = request.into_parts();
    let Some(InterestRequest { kind: Some(Kind::Hello(hello)) }) = answer(requests.message()).await? else {
        return Err(Status::invalid_argument("the first message is not Hello"));
    };
    let link = inner.number();
    let from = Arc::new(FromPeer::default());
    let peer = inner.admit(&caller, &hello, |origin| {
        inner.interest_opened(origin, link, Arc::clone(&from));
        origin
    })?;
    let served = Served { inner, peer, link, from, requests, assembler: Assembler::default(), told: 0 };
    Ok(stream::unfold(Some(served), |served| async { served?.next().await }))
}

struct Served {
    inner: Arc<Inner>,
    peer: NodeLife,
    link: Link,
    from: Arc<FromPeer>,
    requests: Streaming<InterestRequest>,
    assembler: Assembler,
    told: u64,
}

impl Served {
    async fn next(mut self) -> Option<(Result<InterestReply, Status>, Option<Self>)> {
        match self.reply().await {
            Ok(Some(reply)) => Some((Ok(reply), Some(self))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    }

    /// Takes messages until there is something to say; `None` when the caller has ended the call.
    async fn reply(&mut self) -> Result<Option<InterestReply>, Status> {
        loop {
            match self.from.0.above(self.told) {
                Err(()) => return Err(Status::aborted("the link was replaced, broken, or its origin is not live")),
                Ok(Some(seen)) => {
                    self.told = seen;
                    return Ok(Some(InterestReply { seen }));
                }
                Ok(None) => {}
            }
            let request = tokio::select! {
                biased;
                () = self.from.0.changed() => continue,
                request = self.requests.message() => request?,
            };
            match request {
                Some(InterestRequest { kind: Some(Kind::Part(part)) }) => self.on_part(part)?,
                Some(_) => return Err(Status::invalid_argument("not a part of a message")),
                None => return Ok(None),
            }
        }
    }

    fn on_part(&mut self, part: InterestPart) -> Result<(), Status> {
        let message = self.assembler.take(part).inspect_err(|bad| {
            if *bad == BadPart::TooLarge {
                self.inner.counters.interest_too_large.add(1);
                tracing::warn!(peer = %self.peer, error = %bad, "a peer says too much of what it wants, its link is closed");
            }
        })?;
        if let Some(message) = message {
            self.inner.input(Input::Received { peer: self.peer, link: self.link, message });
        }
        Ok(())
    }
}
