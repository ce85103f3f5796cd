//! What other threads tell a worker, as inputs of its core.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{ClusterEvent, Holder};
use rookery_cluster::ids::WorkerId;

use super::{Shared, spawn};
use crate::broker::core::{Input, Via, origin};
use crate::broker::mailbox::Mail;
use crate::broker::serve;
use crate::mqtt::codec::ReasonCode;

/// Performs all mail of one turn; a reason if the worker shall stop.
pub(super) fn sweep(shared: &Rc<Shared>, mail: &mut Vec<Mail>) -> Option<ReasonCode> {
    let mut accepted: BTreeMap<WorkerId, u64> = BTreeMap::new();
    let mut stop = None;
    for item in mail.drain(..) {
        // However much there is, each piece done proves that the worker lives (R4).
        shared.config.progress.fetch_add(1, Ordering::Relaxed);
        match item {
            Mail::Cluster(event) => on_cluster(shared, event),
            Mail::Adopt { mut incoming, from, server_name, transport, spent } => {
                if let Err(error) = incoming.attach() {
                    tracing::warn!(%error, "a new connection could not be taken over");
                    continue;
                }
                let accepted = Moment(shared.config.clock.now().0.saturating_sub(spent));
                let key = shared.core.borrow_mut().open(accepted, from, server_name, transport);
                spawn(serve::serve(shared.clone(), key, incoming));
            }
            Mail::Authenticated { conn, result } => shared.step(Input::Authenticated { conn, result }),
            Mail::Local(batch) => {
                let origin = origin(shared.config.life, batch.from);
                shared.step(Input::Forwarded { origin, via: Via::Worker, runs: &batch.runs });
                accepted.insert(batch.from, batch.seq);
            }
            Mail::LocalAccepted { from, through } => {
                shared.step(Input::Accepted { from: Holder::Worker(from), through });
            }
            Mail::Asked { asked, answer } => shared.asked(&asked, answer),
            Mail::Drain { broker, to, answer } => shared.drain(broker, to, answer),
            Mail::Fetched { conn, reply } => shared.step(Input::Fetched { conn, reply }),
            Mail::Stored { batches, through } => shared.stored(batches, through),
            Mail::Retained { conn, broker, filter, page } => shared.on_retained(conn, broker, &filter, page),
            Mail::Recheck { broker } => shared.step(Input::Recheck { broker }),
            Mail::Reconfigured { broker, settings } => shared.step(Input::Reconfigured { broker, settings }),
            Mail::CloseAll { reason } => shared.step(Input::CloseAll { reason }),
            Mail::Sync(done) => done(),
            Mail::Stop { reason } => stop = Some(reason),
        }
    }
    for (to, through) in accepted {
        let mail = Mail::LocalAccepted { from: shared.config.id, through };
        shared.config.mailboxes[usize::from(to.0)].post(mail);
    }
    stop
}

fn on_cluster(shared: &Shared, event: ClusterEvent) {
    match event {
        ClusterEvent::Forwarded(batch) => {
            let origin = origin(batch.origin, batch.worker);
            let via = Via::Node { workers: &batch.workers, seq: batch.seq };
            shared.step(Input::Forwarded { origin, via, runs: &batch.runs });
            batch.receipt.done();
        }
        ClusterEvent::Accepted { peer, through } => {
            shared.step(Input::Accepted { from: Holder::Peer(peer), through });
        }
        ClusterEvent::Room { peer } => shared.step(Input::Room { to: Holder::Peer(peer) }),
        ClusterEvent::PeerExpired { peer } => shared.step(Input::Expired { holder: Holder::Peer(peer.node) }),
        ClusterEvent::Interest { token, changes } => shared.step(Input::Interest { token, changes: &changes }),
        ClusterEvent::Barrier { token, seen } => shared.step(Input::Barrier { token, seen }),
        ClusterEvent::InterestComplete(true) => shared.step(Input::InterestComplete),
        ClusterEvent::InterestComplete(false) => {}
        ClusterEvent::RetainedInStep => shared.step(Input::RetainedInStep),
        ClusterEvent::RetainedComplete => shared.step(Input::RetainedComplete),
        ClusterEvent::Claim(event) => shared.step(Input::Claim(event)),
        ClusterEvent::Will { token, broker, will } => shared.step(Input::Will { token, broker, will: &will }),
    }
}
