//! Sessions that move between workers, of this node or of several (R14).

use std::sync::Arc;

use rookery_cluster::consensus::BoxFuture;
use rookery_cluster::control::{KeptSessions, SessionReply, fence};
use rookery_cluster::handle::{ClaimEvent, ClusterEvent, Holder, Home, SessionAsked};
use rookery_cluster::ids::{BrokerId, ClientId, Nonce, WorkerId};
use tokio::sync::oneshot;

use super::services::NodeServices;
use crate::broker::core::Fetched;
use crate::broker::{Answer, Drained, Mail};

/// See [`crate::broker::Services::fetch`].
pub(super) fn fetch(services: Arc<NodeServices>, worker: WorkerId, home: Home, asked: SessionAsked, answer: Answer) {
    if services.metadata.view().is_expired(home.life) {
        return answer(Fetched::Gone);
    }
    let Some(own) = services.life() else { return answer(Fetched::Unreachable) };
    // One task for each CONNECT that waits for it, with a deadline of its own.
    let here = Home { life: own, worker };
    services.control.clone().spawn(async move { answer(fetched(&services, here, home, asked).await) });
}

/// See [`crate::broker::Services::recall`].
pub(super) fn recall(services: Arc<NodeServices>, worker: WorkerId, broker: BrokerId, client: ClientId, nonce: Nonce) {
    let here = services.life().map(|life| Home { life, worker });
    // One task for each CONNECT that waits for it, with a deadline of its own.
    services.control.clone().spawn(async move {
        match here {
            Some(here) if clear(&services, here, broker, here).await => services.sessions.recall(broker, client, nonce),
            _ => {
                tracing::warn!(%client, "a session is not gone on with: not every node said that this one has all");
                let event = ClaimEvent::Recalled { nonce, subscriptions: None };
                if let Some(mailbox) = services.mailboxes().get(usize::from(worker.0)) {
                    mailbox.post(Mail::Cluster(ClusterEvent::Claim(event)));
                }
            }
        }
    });
}

/// Whether every live node has handed `to` what it had for it.
async fn clear(services: &NodeServices, here: Home, broker: BrokerId, to: Home) -> bool {
    fence(here.life.node, &services.meta, &services.calls, services, broker, to).await
}

async fn fetched(services: &NodeServices, here: Home, home: Home, asked: SessionAsked) -> Fetched {
    // The client may have had from its home what is still on its way here, where nobody would know it again: it comes to
    // this worker before the session's subscriptions do. And what is on its way to the home is there before the state
    // leaves.
    let own = here.life;
    if !clear(services, here, asked.broker, if asked.take { home } else { here }).await {
        tracing::warn!(client = %asked.client, "a session stays where it is: not every node said that it has all");
        return Fetched::Unreachable;
    }
    let told = if home.life == own {
        services.asked(home.worker, asked.clone()).await.map_or(Fetched::Unreachable, reply)
    } else {
        match services.handover.fetch(home, &asked).await {
            Ok(told) => reply(told),
            Err(why) => {
                tracing::warn!(node = %home.life.node, client = %asked.client, %why, "a session was not fetched");
                Fetched::Unreachable
            }
        }
    };
    // What the home had before it gave the state away has come here as well by then, and is told apart by its mark.
    if matches!(told, Fetched::State(_)) && !clear(services, here, asked.broker, here).await {
        tracing::warn!(client = %asked.client, "a session's state waits: not every node said that this one has all");
        return Fetched::Unreachable;
    }
    told
}

fn reply(told: SessionReply) -> Fetched {
    match told {
        SessionReply::Subscriptions(subscriptions) => Fetched::Described(subscriptions),
        SessionReply::State(state) => Fetched::State(state),
        SessionReply::Gone => Fetched::Gone,
        SessionReply::Awaits(home) => Fetched::Awaits(home),
        SessionReply::Superseded => Fetched::Superseded,
    }
}

impl KeptSessions for NodeServices {
    fn asked(&self, worker: WorkerId, asked: SessionAsked) -> BoxFuture<'_, Option<SessionReply>> {
        Box::pin(async move {
            let Some(mailbox) = self.mailboxes().get(usize::from(worker.0)) else { return Some(SessionReply::Gone) };
            let (reply, replied) = oneshot::channel();
            let answer: Answer = Box::new(move |fetched| drop(reply.send(fetched)));
            mailbox.post(Mail::Asked { asked, answer });
            match replied.await.ok()? {
                Fetched::Described(subscriptions) => Some(SessionReply::Subscriptions(subscriptions)),
                Fetched::State(state) => Some(SessionReply::State(state)),
                Fetched::Gone => Some(SessionReply::Gone),
                Fetched::Awaits(home) => Some(SessionReply::Awaits(home)),
                Fetched::Superseded => Some(SessionReply::Superseded),
                Fetched::Unreachable => None,
            }
        })
    }

    fn drained(&self, broker: BrokerId, home: Home) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            // Nothing is published before there is a life, and an earlier life of this node gets nothing.
            let Some(own) = self.life().filter(|own| home.life == *own || home.life.node != own.node) else {
                return true;
            };
            let here = home.life == own;
            let to = if here { Holder::Worker(home.worker) } else { Holder::Peer(home.life.node) };
            let others = self.mailboxes().iter().zip(0..).filter(|(_, id)| !here || WorkerId(*id) != home.worker);
            let answers: Vec<_> = others
                .map(|(mailbox, _)| {
                    let (reply, replied) = oneshot::channel();
                    let answer: Drained = Box::new(move |drained| {
                        let _ = reply.send(drained);
                    });
                    mailbox.post(Mail::Drain { broker, to, answer });
                    replied
                })
                .collect();
            for answer in answers {
                if answer.await != Ok(true) {
                    return false;
                }
            }
            true
        })
    }
}
