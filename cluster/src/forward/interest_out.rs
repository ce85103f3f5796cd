//! Tells one peer life what this node wants.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::stream;
use parking_lot::Mutex;
use rookery_proto::forward::InterestRequest;
use rookery_proto::forward::interest_request::Kind;
use tokio::sync::Notify;
use tonic::Status;

use super::driver::{Ended, Inner, answer, ended};
use super::wire::{self, Parts};
use crate::ids::NodeLife;
use crate::interest::{Input, Link, Message};
use crate::net::Purpose;

/// Messages that wait for the link: at most a snapshot and `interest::IN_FLIGHT` others, as the hub sends no more
/// before they are acknowledged.
#[derive(Default)]
pub(super) struct ToPeer {
    messages: Mutex<VecDeque<Message>>,
    wake: Notify,
}

impl ToPeer {
    pub(super) fn push(&self, message: Message) {
        self.messages.lock().push_back(message);
        self.wake.notify_one();
    }

    async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.messages.lock().pop_front() {
                return message;
            }
            self.wake.notified().await;
        }
    }
}

/// Holds the link until the task is aborted.
pub(super) async fn run(inner: Arc<Inner>, peer: NodeLife) {
    let attempt = || async {
        let mut answered = false;
        let link = inner.number();
        let Err(why) = hold(&inner, peer, link, &mut answered).await;
        inner.input(Input::Disconnected { peer, link });
        Ended { answered, why }
    };
    inner.again(peer, Purpose::Control, attempt).await;
}

async fn hold(inner: &Inner, peer: NodeLife, link: Link, answered: &mut bool) -> Result<Infallible, Status> {
    let mut client = inner.client(peer.node, Purpose::Control)?;
    let to = Arc::new(ToPeer::default());
    let body = Body { to: Arc::clone(&to), parts: None };
    let hello = InterestRequest { kind: Some(Kind::Hello(wire::hello(inner.own, peer))) };
    let body = stream::unfold((Some(hello), body), |(hello, mut body)| async move {
        let request = match hello {
            Some(hello) => hello,
            None => body.next().await,
        };
        Some((request, (None, body)))
    });
    let mut replies = answer(client.interest(body)).await?.into_inner();
    *answered = true;
    inner.interest_connected(peer, link, to);
    while let Some(reply) = replies.message().await? {
        inner.input(Input::Acknowledged { peer, link, through: reply.seen });
    }
    Err(ended())
}

struct Body {
    to: Arc<ToPeer>,
    /// What is left of the message that is being sent.
    parts: Option<Parts>,
}

impl Body {
    async fn next(&mut self) -> InterestRequest {
        loop {
            if let Some(part) = self.parts.as_mut().and_then(Iterator::next) {
                return part;
            }
            self.parts = Some(Parts::new(self.to.next().await));
        }
    }
}
