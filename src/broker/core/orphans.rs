//! Messages of shared subscriptions that a client left unacknowledged: other members get them (MQTT 5 §4.8.2).

use std::collections::VecDeque;

use rookery_cluster::clock::Moment;
use rookery_cluster::topics::ShareStrategy;

use super::conn::{Active, Phase};
use super::share::{Errand, Offer};
use super::{ConnKey, Core, DropReason, Dropped, get};
use crate::mqtt::session::Undelivered;

/// Bytes of a broker that may wait on one worker for room on the way to other members: about what two clients may leave.
/// What is more is dropped and counted.
const ORPHAN_BYTES: usize = 32 << 20;
/// How many may wait: each takes some memory besides what it counts for.
const ORPHANS: usize = 65_536;

/// Messages of one broker whose receivers are gone, oldest first.
#[derive(Debug, Default)]
pub struct Orphans {
    waiting: VecDeque<(ShareStrategy, Undelivered)>,
    bytes: usize,
}

impl Orphans {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one; `false` if there is no room.
    fn push(&mut self, strategy: ShareStrategy, message: Undelivered) -> bool {
        if self.waiting.len() >= ORPHANS || self.bytes + message.size() > ORPHAN_BYTES {
            return false;
        }
        self.bytes += message.size();
        self.waiting.push_back((strategy, message));
        true
    }

    fn pop(&mut self) -> Option<(ShareStrategy, Undelivered)> {
        let (strategy, message) = self.waiting.pop_front()?;
        self.bytes -= message.size();
        Some((strategy, message))
    }

    fn push_front(&mut self, strategy: ShareStrategy, message: Undelivered) {
        self.bytes += message.size();
        self.waiting.push_front((strategy, message));
    }
}

impl Core {
    /// The session ends, and is no member of anything any more: what it holds of shared subscriptions goes to others.
    pub(super) fn orphan(&mut self, mut active: Box<Active>) {
        self.drop_in(active.room, DropReason::ShareUnfinished, active.session.shared_unfinished());
        let all = active.session.shares();
        let left = active.session.take_shared(&all);
        self.place_all(active.room, active.admitted.settings.shared_strategy, left);
    }

    /// The session of `key` has no connection any more: what it holds of shared subscriptions goes to others at once, if
    /// there are any.
    pub(super) fn leave_to_others(&mut self, key: ConnKey) {
        let Some(Phase::Parked(active)) = get(&mut self.conns, key).map(|conn| &conn.phase) else { return };
        let room = active.room;
        let mut shares = active.session.shares();
        shares.retain(|share| self.has_others(room, share));
        let Some(Phase::Parked(active)) = get(&mut self.conns, key).map(|conn| &mut conn.phase) else { return };
        let (left, strategy) = (active.session.take_shared(&shares), active.admitted.settings.shared_strategy);
        self.place_all(room, strategy, left);
    }

    /// Whether the group has members elsewhere, or connected ones here.
    fn has_others(&self, room: usize, share: &str) -> bool {
        let groups = &self.rooms[room].groups;
        let Some(group) = groups.find(share).and_then(|group| groups.get(group)) else { return false };
        let connected = |key: ConnKey| {
            let conn = self.conns.get(key.index as usize).filter(|conn| conn.key == key && !self.ending.contains(&key));
            conn.is_some_and(|conn| matches!(conn.phase, Phase::Active(_)))
        };
        group.holders().next().is_some() || group.members(true).any(|(key, _)| connected(key))
    }

    fn place_all(&mut self, room: usize, strategy: ShareStrategy, left: Vec<Undelivered>) {
        for message in left {
            if !self.place(room, strategy, message) {
                self.drop_in(room, DropReason::BrokerMemory, 1);
            }
        }
        if !self.rooms[room].orphans.is_empty() {
            self.orphaned.insert(room);
        }
    }

    /// Gives the message to somebody, or keeps it behind others that wait; `false` if there is no room for it.
    fn place(&mut self, room: usize, strategy: ShareStrategy, message: Undelivered) -> bool {
        let waits = !self.rooms[room].orphans.is_empty() || !self.adopt(self.clock, room, strategy, &message);
        !waits || self.rooms[room].orphans.push(strategy, message)
    }

    /// Offers the message to its group; `false` if it has to wait.
    fn adopt(&mut self, now: Moment, room: usize, strategy: ShareStrategy, left: &Undelivered) -> bool {
        let Some(mut message) = left.message(now) else {
            self.drop_in(room, DropReason::Subscriber(Dropped::Expired), 1);
            return true;
        };
        let errand = Errand::again(strategy, &message);
        match self.offer(now, room, &left.share, errand, &mut message) {
            Offer::Crowded => return false,
            Offer::Taken => self.stats.publishes_redelivered += 1,
            Offer::Nobody => self.drop_in(room, DropReason::NoShareMember, 1),
        }
        true
    }

    /// Gives on what waits, as far as there is room by now.
    pub(super) fn place_orphans(&mut self, now: Moment) {
        for room in std::mem::take(&mut self.orphaned) {
            while let Some((strategy, message)) = self.rooms.get_mut(room).and_then(|room| room.orphans.pop()) {
                if !self.adopt(now, room, strategy, &message) {
                    self.rooms[room].orphans.push_front(strategy, message);
                    self.orphaned.insert(room);
                    break;
                }
            }
            self.drop_idle_room(room);
        }
    }
}
