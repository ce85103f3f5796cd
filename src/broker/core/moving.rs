//! A session goes on with a connection of another worker, of this node or of another (R14).
//!
//! The new worker asks where the session is kept for its subscriptions, holds them itself, tells everybody (the barrier of
//! P8), and only then takes the state: what comes meanwhile comes to both, and is told apart by its mark.

use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::handle::{SessionGrant, Subscription};
use rookery_cluster::ids::{BrokerId, ClientId, Nonce, SessionId};

use super::conn::{Active, Importing, Phase, Stage};
use super::connect::{Fault, send};
use super::interest::Waiter;
use super::room::Options;
use super::{ConnKey, Core, DropReason, Dropped, Effect, get};
use crate::mqtt::codec::{Connect, ReasonCode};
use crate::mqtt::session::{Ending, connect};

/// What the worker that keeps a session answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its subscriptions; it goes on collecting.
    Described(Vec<Subscription>),
    /// Its state; it is not there any more.
    State(Bytes),
    /// It is not there.
    Gone,
    /// No answer came: whether it was given is not known.
    Unreachable,
}

impl Core {
    /// The connection `key` is granted; its session is gone on with or begins.
    pub(super) fn begin_session(
        &mut self,
        key: ConnKey,
        connect: Box<Connect>,
        active: Box<Active>,
        grant: Option<SessionGrant>,
        out: &mut Vec<Effect>,
    ) {
        let (broker, client) = (active.admitted.broker, active.admitted.client.clone());
        let Some(SessionGrant { id, present: true, home }) = grant else {
            self.discard(broker, &client, None, out);
            return self.activate(key, &connect, active, false, out);
        };
        if let Some((parked, kept)) = self.unpark(broker, &client, Some(id)) {
            let active = self.go_on(*active, *kept, &connect);
            self.rekey(parked, key, &active);
            return self.activate(key, &connect, active, true, out);
        }
        self.discard(broker, &client, None, out);
        let home = home.filter(|home| *home != self.here());
        let nonce = active.nonce;
        let stage = if home.is_some() { Stage::Describing } else { Stage::Recalling };
        let Some(conn) = get(&mut self.conns, key) else { return };
        conn.phase = Phase::Importing(Box::new(Importing { connect, active, home, stage, since: self.clock }));
        out.push(match home {
            Some(home) => Effect::Fetch { conn: key, home, broker, client, session: id, take: false },
            None => Effect::Recall { broker, client, nonce },
        });
    }

    /// The session that was kept, under the new connection's name and settings.
    fn go_on(&self, new: Active, kept: Active, connect: &Connect) -> Box<Active> {
        let Active { mut session, filters, recent, meter, .. } = kept;
        session.reconnect(connect, &new.admitted.settings, self.clock);
        Box::new(Active { session, filters, recent, meter: meter.afresh(), ..new })
    }

    /// CONNACK, then what the session has to send.
    fn activate(
        &mut self,
        key: ConnKey,
        connect: &Connect,
        mut active: Box<Active>,
        present: bool,
        out: &mut Vec<Effect>,
    ) {
        let now = self.clock;
        let Some(conn) = get(&mut self.conns, key) else { return };
        let connack = connect::connack(connect, &active.admitted.client, &active.admitted.settings, present);
        send(conn, connect.version, &connack);
        let resumed = active.session.resume(now, &mut conn.out);
        conn.phase = Phase::Active(active);
        self.stats.clients_admitted += 1;
        match resumed {
            Ok(expired) => self.stats.drop(DropReason::Subscriber(Dropped::Expired), expired),
            Err(ending) => return self.fault(key, Fault::End(ending), out),
        }
        if present {
            self.drop_forbidden(key, out);
        }
        self.resume(now, key, out);
    }

    /// What the worker that keeps the session answered.
    pub(super) fn on_fetched(&mut self, key: ConnKey, reply: Fetched, out: &mut Vec<Effect>) {
        if let Some((broker, client)) = self.arriving.remove(&key) {
            return self.arrived(broker, &client, reply);
        }
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        match (reply, importing.stage) {
            (Fetched::Described(subscriptions), Stage::Describing) => self.advertise(key, &subscriptions, out),
            (Fetched::Gone, Stage::Describing) => {
                importing.home = None;
                importing.stage = Stage::Recalling;
                let admitted = &importing.active.admitted;
                let (broker, client, nonce) = (admitted.broker, admitted.client.clone(), importing.active.nonce);
                out.push(Effect::Recall { broker, client, nonce });
            }
            (Fetched::State(bytes), Stage::Taking) => {
                if let Err(error) = importing.active.session.adopt(self.clock, &bytes) {
                    tracing::error!(client = %importing.active.admitted.client, %error, "queued messages are lost");
                }
                self.imported(key, out);
            }
            (Fetched::Gone, Stage::Taking) => self.imported(key, out),
            (Fetched::Unreachable, _) => self.not_imported(key, "the session cannot be reached", out),
            _ => {}
        }
    }

    /// The connection that asked for a session is gone: the session is kept here.
    fn arrived(&mut self, broker: BrokerId, client: &ClientId, reply: Fetched) {
        let Fetched::State(bytes) = reply else { return };
        let Some(&key) = self.parked.get(&(broker, client.clone())) else { return };
        let now = self.clock;
        if let Some(conn) = get(&mut self.conns, key)
            && let Phase::Parked(active) = &mut conn.phase
            && let Err(error) = active.session.adopt(now, &bytes)
        {
            tracing::error!(%client, %error, "queued messages are lost");
        }
    }

    /// Whether the state of a session that is kept here has yet to come.
    pub(super) fn arrives(&self, broker: BrokerId, client: &ClientId) -> bool {
        self.arriving.values().any(|(of, who)| *of == broker && who == client)
    }

    /// What the shard knows of a session whose queue is gone.
    pub(super) fn on_recalled(
        &mut self,
        nonce: Nonce,
        subscriptions: Option<Vec<Subscription>>,
        out: &mut Vec<Effect>,
    ) {
        let Some(&key) = self.claims.get(&nonce) else { return };
        let Some(conn) = get(&mut self.conns, key) else { return };
        match &conn.phase {
            Phase::Importing(importing) if importing.stage == Stage::Recalling => {}
            _ => return,
        }
        match subscriptions {
            Some(subscriptions) => self.advertise(key, &subscriptions, out),
            None => self.not_imported(key, "the session's shard does not answer", out),
        }
    }

    fn not_imported(&mut self, key: ConnKey, what: &'static str, out: &mut Vec<Effect>) {
        self.end(key, Ending::with(ReasonCode::SERVER_UNAVAILABLE, what), out);
    }

    /// Holds the session's subscriptions from here on, and tells everybody.
    fn advertise(&mut self, key: ConnKey, subscriptions: &[Subscription], out: &mut Vec<Effect>) {
        let mut waiting = 0;
        for (filter, options) in subscriptions {
            self.count_moved(key, filter);
            let barrier = self.hold(key, filter, Options::from_bits(*options), out);
            if let Some(barrier) = barrier.and_then(|token| self.barriers.get_mut(&token)) {
                barrier.waiters.push(Waiter::Import(key));
                waiting += 1;
            }
        }
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        importing.stage = Stage::Advertising(waiting);
        if waiting == 0 {
            self.advertised(key, out);
        }
    }

    /// A barrier of a session that moves here ended.
    pub(super) fn import_barrier(&mut self, key: ConnKey, seen: bool, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        let Stage::Advertising(waiting) = &mut importing.stage else { return };
        *waiting -= 1;
        let all = *waiting == 0;
        if !seen {
            self.not_imported(key, "not every live node confirmed the session's subscriptions", out);
        } else if all {
            self.advertised(key, out);
        }
    }

    fn advertised(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        let Some(home) = importing.home else { return self.imported(key, out) };
        importing.stage = Stage::Taking;
        let admitted = &importing.active.admitted;
        let (broker, client) = (admitted.broker, admitted.client.clone());
        if let Some(durable) = importing.active.durable {
            out.push(Effect::Fetch { conn: key, home, broker, client, session: durable.id, take: true });
        }
    }

    fn imported(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        match std::mem::replace(&mut conn.phase, Phase::Closing) {
            Phase::Importing(importing) => {
                let Importing { connect, active, .. } = *importing;
                self.activate(key, &connect, active, true, out);
            }
            other => conn.phase = other,
        }
    }

    /// Another worker asks for a session that is kept here.
    pub(super) fn on_asked(
        &mut self,
        ticket: u64,
        broker: BrokerId,
        client: &ClientId,
        session: SessionId,
        take: bool,
        out: &mut Vec<Effect>,
    ) {
        // Nothing is given while this node may not serve, nor what is not all here.
        if self.lapsed || self.arrives(broker, client) {
            return out.push(Effect::Answer { ticket, reply: Fetched::Unreachable });
        }
        let reply = if take { self.give(broker, client, session, out) } else { self.describe(broker, client, session) };
        out.push(Effect::Answer { ticket, reply: reply.unwrap_or(Fetched::Gone) });
    }

    fn describe(&mut self, broker: BrokerId, client: &ClientId, session: SessionId) -> Option<Fetched> {
        let key = *self.parked.get(&(broker, client.clone()))?;
        let Phase::Parked(active) = &get(&mut self.conns, key)?.phase else { return None };
        if !active.is_session(session) {
            return None;
        }
        let room = &self.rooms[active.room];
        let options = |filter: &Arc<str>| Some((filter.clone(), room.options(key, filter)?.to_bits()));
        Some(Fetched::Described(active.filters.iter().filter_map(options).collect()))
    }

    fn give(
        &mut self,
        broker: BrokerId,
        client: &ClientId,
        session: SessionId,
        out: &mut Vec<Effect>,
    ) -> Option<Fetched> {
        let (key, active) = self.unpark(broker, client, Some(session))?;
        let state = active.session.export(self.clock);
        self.moved.retain(|_, to| *to != key);
        self.forget_subscriptions(key, &active, out);
        self.drop_idle_room(active.room);
        Some(Fetched::State(state))
    }
}
