//! Sessions without a connection: kept here with their subscriptions, queueing, until the next connection comes, here or
//! elsewhere (`moving`), or until they end (MQTT 5 §4.1).

use std::time::Duration;

use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Home, Keep, Leave};
use rookery_cluster::ids::{BrokerId, ClientId, SessionId};

use super::conn::{Active, Conn, Phase};
use super::{ConnKey, Core, Effect, get};

/// How much longer than its expiry a session is kept here, if its shard does not say that it ended: shard time stands
/// still while a shard has no leader.
const EXPIRY_GRACE: Duration = Duration::from_secs(30);

/// How a served connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    /// Whether its will is published.
    pub fire_will: bool,
    /// How long its session goes on, seconds, if not as CONNECT said.
    pub expiry: Option<u32>,
}

impl Farewell {
    /// Without a goodbye of the client (MQTT 5 §3.1.2.5).
    pub const LOST: Self = Self { fire_will: true, expiry: None };
    /// Its session ends as well.
    pub const FOR_GOOD: Self = Self { fire_will: true, expiry: Some(0) };
}

impl Core {
    /// This worker, as the home of a session.
    pub(super) fn here(&self) -> Home {
        Home { life: self.life, worker: self.worker }
    }

    /// What a connection that ends leaves behind.
    pub(super) fn leave(&self, active: &Active, farewell: Farewell) -> Leave {
        let keep = active.durable.and_then(|durable| {
            let expiry = farewell.expiry.unwrap_or(durable.expiry);
            (expiry > 0).then(|| Keep { expiry: Some(expiry), home: Some(self.here()) })
        });
        Leave { keep, fire_will: farewell.fire_will }
    }

    /// Keeps the session of the connection `old`, which is gone, for the next one.
    pub(super) fn park(&mut self, old: ConnKey, mut active: Box<Active>, expiry: Option<u32>, out: &mut Vec<Effect>) {
        let (broker, client, room) = (active.admitted.broker, active.admitted.client.clone(), active.room);
        self.discard(broker, &client, None, out);
        self.moves.given.forget(broker, &client);
        active.session.park();
        active.subacks.clear();
        active.reads = Default::default();
        active.persisting = None;
        active.parked_until = expiry
            .filter(|expiry| *expiry != u32::MAX)
            .map(|expiry| self.clock + Duration::from_secs(u64::from(expiry)) + EXPIRY_GRACE);
        let key = self.next_key();
        self.rekey(old, key, &active);
        self.conns.insert(Conn::parked(key, self.clock, active));
        self.parked.insert((broker, client), key);
        self.rooms[room].parked += 1;
        self.leave_to_others(key);
    }

    /// The subscriptions of `active` and what it waits for belong to `new` from now on.
    pub(super) fn rekey(&mut self, old: ConnKey, new: ConnKey, active: &Active) {
        self.rooms[active.room].rekey(old, new, active.filters.iter());
        if active.session.acks.is_empty() {
            self.moved.retain(|_, to| *to != old);
        } else {
            self.moved.values_mut().filter(|to| **to == old).for_each(|to| *to = new);
            self.moved.insert(old, new);
        }
    }

    /// Under which key the session of the connection `key` goes on.
    pub(super) fn successor(&self, key: ConnKey) -> ConnKey {
        self.moved.get(&key).copied().unwrap_or(key)
    }

    /// Whether the session `id` is kept here.
    pub(super) fn keeps(&self, broker: BrokerId, client: &ClientId, id: SessionId) -> bool {
        let parked = self.parked.get(&(broker, client.clone()));
        let conn = parked.and_then(|key| self.conns.get(key.index as usize));
        conn.is_some_and(|conn| matches!(&conn.phase, Phase::Parked(active) if active.is_session(id)))
    }

    /// Takes a session that is kept here out: `session`, or whichever it is.
    pub(super) fn unpark(
        &mut self,
        broker: BrokerId,
        client: &ClientId,
        session: Option<SessionId>,
    ) -> Option<(ConnKey, Box<Active>)> {
        let place = (broker, client.clone());
        let key = *self.parked.get(&place)?;
        match &get(&mut self.conns, key)?.phase {
            Phase::Parked(active) if session.is_none_or(|id| active.is_session(id)) => {}
            _ => return None,
        }
        self.parked.remove(&place);
        let Phase::Parked(active) = self.conns.remove(key.index as usize).phase else { return None };
        self.rooms[active.room].parked -= 1;
        Some((key, active))
    }

    /// Forgets what is kept here of a client's session: of `session`, or of whichever it is.
    pub(super) fn discard(
        &mut self,
        broker: BrokerId,
        client: &ClientId,
        session: Option<SessionId>,
        out: &mut Vec<Effect>,
    ) {
        if let Some((key, active)) = self.unpark(broker, client, session) {
            self.moved.retain(|_, to| *to != key);
            self.forget_subscriptions(key, &active, out);
            let room = active.room;
            self.orphan(active);
            self.drop_idle_room(room);
        }
    }

    /// Forgets the sessions of which `which` is true.
    pub(super) fn discard_where(&mut self, which: impl Fn(&Active) -> bool, out: &mut Vec<Effect>) {
        let gone: Vec<(BrokerId, ClientId)> = self
            .parked
            .iter()
            .filter(|(_, key)| match self.conns.get(key.index as usize).map(|conn| &conn.phase) {
                Some(Phase::Parked(active)) => which(active),
                _ => false,
            })
            .map(|(place, _)| place.clone())
            .collect();
        for (broker, client) in gone {
            self.discard(broker, &client, None, out);
        }
    }

    /// Forgets sessions whose time is over.
    pub(super) fn discard_overdue(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.discard_where(|active| active.parked_until.is_some_and(|until| now >= until), out);
    }
}
