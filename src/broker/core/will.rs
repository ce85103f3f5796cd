//! Wills: published by a worker of whichever node leads the client's shard, as if by a client that waits for the
//! acknowledgement (R16).

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::FiringWill;
use rookery_cluster::ids::BrokerId;

use super::publish::Destinations;
use super::share::Errand;
use super::{ConnKey, Core, DropReason, Effect};
use crate::mqtt::codec::{MAX_PACKET, QoS, ReasonCode, Sender, Version, decode_publish, split};
use crate::mqtt::session::{Ending, Message};

/// The place of no connection: what is accepted under it is a will.
const NO_PLACE: u32 = u32::MAX;

/// A will that waits for others to accept it.
#[derive(Debug)]
pub(super) struct PendingWill {
    /// What the shard's driver knows it by.
    pub token: u64,
    waiting: u16,
    /// How many of those must be nodes that live to confirm it (P9).
    needed: u16,
}

impl Core {
    pub(super) fn on_will(
        &mut self,
        now: Moment,
        token: u64,
        broker: BrokerId,
        will: &FiringWill,
        out: &mut Vec<Effect>,
    ) {
        // Whoever leads the shard then publishes it (R1); and who does not know yet who wants it would publish it to nobody
        // (R11).
        if self.lapsed || !self.interest_complete {
            return out.push(Effect::WillRefused { token });
        }
        let publish = match split(&will.message, MAX_PACKET) {
            Ok(Some(frame)) => {
                decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(&will.message)).ok()
            }
            _ => None,
        };
        let Some(publish) = publish else {
            // It was checked when it was claimed; there is nothing that could be tried again.
            self.stats.drop(DropReason::Corrupt, 1);
            return out.push(Effect::WillPublished { token });
        };
        if publish.retain && self.retention.by.is_some() && !self.retention.in_step {
            // Too early, see `retains_too_early`: it comes again.
            return out.push(Effect::WillRefused { token });
        }
        if let Some(retaining) = self.retention.by.as_ref().filter(|_| publish.retain && will.time.is_none()) {
            // A second try must not replace what was published after the first one.
            return out.push(Effect::TimeWill { token, time: retaining.time() });
        }
        let room = self.room(broker);
        let mut message = Message::new(publish.topic, &publish);
        message.will = Some(will.name);
        let keeping = self.keeping(message.retain);
        let matches = self.rooms[room].matches(publish.topic);
        let mut takers = matches.remotes.iter().chain(keeping.iter().flat_map(|keeping| &keeping.dests));
        if publish.qos != QoS::AtMostOnce && takers.any(|&to| self.dests[usize::from(to)].stuck(now)) {
            return self.refuse_will(token, room, out);
        }
        let kept = match keeping.as_ref().map(|keeping| self.keep(room, keeping, None, &message, will.time)).transpose()
        {
            Ok(kept) => kept.flatten(),
            // It is published at least; the counters say that it is not kept.
            Err(Ending { reason: ReasonCode::QUOTA_EXCEEDED, .. }) => None,
            Err(_) => return self.refuse_will(token, room, out),
        };
        message.mark = self.next_mark(publish.qos);
        if self.had.first(now, will.name) {
            self.deliver(now, room, &matches.locals, None, &mut message);
        }
        self.next_will = self.next_will.wrapping_add(1);
        let key = ConnKey { index: NO_PLACE, generation: self.next_will };
        let errand = Errand::again(self.rooms[room].strategy, &message);
        let shares = self.choose_shares(now, room, &matches.shares, errand);
        self.serve_members(now, room, &shares, &mut message);
        let dests = shares.destinations(&matches.remotes);
        let to = Destinations { ordinary: matches.remotes.len(), all: &dests };
        let mut waiting = self.hand_on(now, key, room, to, &shares, &message);
        let mut needed = 0;
        if let (Some(keeping), Some(kept)) = (&keeping, kept) {
            needed = if kept.durable { keeping.needed() } else { 0 };
            waiting += self.keep_everywhere(now, key, room, keeping, &dests, kept);
        }
        self.stats.wills_published += 1;
        self.drop_idle_room(room);
        self.wills.insert(self.next_will, PendingWill { token, waiting, needed });
        if waiting == 0 {
            self.settle_will(key.generation);
        }
    }

    fn refuse_will(&mut self, token: u64, room: usize, out: &mut Vec<Effect>) {
        self.drop_idle_room(room);
        out.push(Effect::WillRefused { token });
    }

    /// One who must accept the will `key` did, or its life is over; `confirmed` if it is a node that has it. Whether `key`
    /// is a will at all.
    pub(super) fn will_accepted(&mut self, key: ConnKey, confirmed: bool) -> bool {
        if key.index != NO_PLACE {
            return false;
        }
        if let Some(will) = self.wills.get_mut(&key.generation) {
            will.waiting -= 1;
            will.needed = will.needed.saturating_sub(u16::from(confirmed));
            if will.waiting == 0 {
                self.settle_will(key.generation);
            }
        }
        true
    }

    fn settle_will(&mut self, will: u32) {
        match self.wills.remove(&will) {
            Some(PendingWill { token, needed: 0, .. }) => self.published.push(token),
            Some(PendingWill { token, .. }) => self.refused.push(token),
            None => {}
        }
    }
}
