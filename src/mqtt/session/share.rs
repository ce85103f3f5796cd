//! What a session leaves of shared subscriptions when its connection, or it, ends (MQTT 5 §4.8.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery_cluster::clock::Moment;

use super::message::Kept;
use super::{Message, Session};
use crate::mqtt::codec::QoS;

/// A message of a shared subscription that its receiver did not acknowledge: another one gets it.
#[derive(Debug)]
pub struct Undelivered {
    /// `$share/name/filter`.
    pub share: Arc<str>,
    kept: Box<Kept>,
}

impl Undelivered {
    /// The message as it was published, with what is left of its Message Expiry Interval; `None` once that has passed.
    pub fn message(&self, now: Moment) -> Option<Message<'_>> {
        let left = self.kept.expiry_left(now).ok()?;
        Some(Message::again(&self.kept, left))
    }

    /// What it counts for in a queue, bytes.
    pub fn size(&self) -> usize {
        self.kept.message.size()
    }
}

impl Session {
    /// The shared subscriptions of which the client has yet to acknowledge something.
    pub fn shares(&self) -> BTreeSet<Arc<str>> {
        let inflight = self.window.inflight.iter().filter_map(|entry| entry.kept.as_deref());
        inflight.chain(&self.window.queue).filter_map(|kept| kept.share.clone()).collect()
    }

    /// How many messages of shared subscriptions are in the middle of a delivery of QoS 2: they go to nobody else, also
    /// when the session ends (MQTT-4.8.2-5).
    pub fn shared_unfinished(&self) -> u64 {
        let begun = self.window.inflight.iter().filter(|entry| entry.qos == QoS::ExactlyOnce);
        begun.filter(|entry| entry.kept.as_ref().is_some_and(|kept| kept.share.is_some())).count() as u64
    }

    /// Takes out what the client did not acknowledge of those of `shares`, in order, once its connection is gone. What is
    /// in the middle of a delivery of QoS 2 stays (MQTT-4.8.2-4).
    pub fn take_shared(&mut self, shares: &BTreeSet<Arc<str>>) -> Vec<Undelivered> {
        let window = &mut self.window;
        let wanted = |kept: &Kept| kept.share.as_ref().is_some_and(|share| shares.contains(share));
        let mut taken: Vec<Box<Kept>> = Vec::new();
        window.sent = 0;
        for entry in std::mem::take(&mut window.inflight) {
            match entry.kept {
                Some(kept) if entry.qos != QoS::ExactlyOnce && wanted(&kept) => taken.push(kept),
                kept => window.inflight.push_back(super::window::Inflight { kept, ..entry }),
            }
        }
        for kept in std::mem::take(&mut window.queue) {
            if wanted(&kept) {
                window.queued_bytes -= kept.message.size();
                taken.push(Box::new(kept));
            } else {
                window.queue.push_back(kept);
            }
        }
        taken.into_iter().filter_map(|kept| Some(Undelivered { share: kept.share.clone()?, kept })).collect()
    }
}
