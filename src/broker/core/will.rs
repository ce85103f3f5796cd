//! Wills: published by a worker of whichever node leads the client's shard, as if by a client that waits for the
//! acknowledgement (R16).

use rookery_cluster::clock::Moment;
use rookery_cluster::ids::BrokerId;

use super::publish::Destinations;
use super::share::Errand;
use super::{ConnKey, Core, DropReason, Effect};
use crate::mqtt::codec::{MAX_PACKET, Sender, Version, decode_publish, split};
use crate::mqtt::session::Message;

/// The place of no connection: what is accepted under it is a will.
const NO_PLACE: u32 = u32::MAX;

/// A will that waits for others to accept it.
#[derive(Debug)]
pub(super) struct PendingWill {
    /// What the shard's driver knows it by.
    pub token: u64,
    waiting: u16,
}

impl Core {
    pub(super) fn on_will(&mut self, now: Moment, token: u64, broker: BrokerId, message: &[u8], out: &mut Vec<Effect>) {
        // Whoever leads the shard then publishes it (R1).
        if self.lapsed {
            return out.push(Effect::WillRefused { token });
        }
        let publish = match split(message, MAX_PACKET) {
            Ok(Some(frame)) => decode_publish(Version::V5, Sender::Client, frame.first_byte, frame.body(message)).ok(),
            _ => None,
        };
        let Some(publish) = publish else {
            // It was checked when it was claimed; there is nothing that could be tried again.
            self.stats.drop(DropReason::Corrupt, 1);
            return out.push(Effect::WillPublished { token });
        };
        let room = self.room(broker);
        let matches = self.rooms[room].matches(publish.topic);
        let mut message = Message::new(publish.topic, &publish);
        message.mark = self.next_mark(publish.qos);
        self.deliver(now, room, &matches.locals, None, &mut message);
        self.next_will = self.next_will.wrapping_add(1);
        let key = ConnKey { index: NO_PLACE, generation: self.next_will };
        let errand = Errand::again(self.rooms[room].strategy, &message);
        let shares = self.choose_shares(now, room, &matches.shares, errand);
        self.serve_members(now, room, &shares, &mut message);
        let dests = shares.destinations(&matches.remotes);
        let to = Destinations { ordinary: matches.remotes.len(), all: &dests };
        let mut waiting = self.hand_on(now, key, room, to, &shares, &message);
        // If it is refused it is published at least; the counters say that it is not kept.
        if let Some(keeping) = self.keeping(message.retain)
            && let Ok(Some(kept)) = self.keep(room, &keeping, &message)
        {
            waiting += self.keep_everywhere(now, key, room, &keeping, &dests, kept);
        }
        self.stats.wills_published += 1;
        self.drop_idle_room(room);
        if waiting == 0 {
            out.push(Effect::WillPublished { token });
        } else {
            self.wills.insert(self.next_will, PendingWill { token, waiting });
        }
    }

    /// One who must accept the will `key` did, or its life is over. Whether `key` is a will at all.
    pub(super) fn will_accepted(&mut self, key: ConnKey) -> bool {
        if key.index != NO_PLACE {
            return false;
        }
        if let Some(will) = self.wills.get_mut(&key.generation) {
            will.waiting -= 1;
            if will.waiting == 0
                && let Some(will) = self.wills.remove(&key.generation)
            {
                self.published.push(will.token);
            }
        }
        true
    }
}
