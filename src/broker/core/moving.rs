//! A session goes on with a connection of another worker, of this node or of another (R14).
//!
//! The new worker asks where the session is kept for its subscriptions, holds them itself, tells everybody (the barrier of
//! P8), and only then takes the state: what comes meanwhile comes to both, and is told apart by its mark.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Home, SessionGrant, Subscription};
use rookery_cluster::ids::{BrokerId, ClientId, Nonce, SessionId};
use rookery_cluster::limits::{PUBLISH_TIMEOUT, SESSION_FETCH_TIMEOUT};

use super::conn::{Active, Durable, Importing, Phase, Stage};
use super::connect::{Fault, send};
use super::given::Given;
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

/// Sessions on their way here, or from here.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Sessions that are kept here while their state is still on its way, by the connection that asked for it.
    arriving: BTreeMap<ConnKey, Arriving>,
    /// Sessions that other workers ask for: one a CONNECT there, until its publishes are accepted or `PUBLISH_TIMEOUT`.
    wanted: Vec<Wanted>,
    /// States that were given away a moment ago: whoever asked may not have got the answer.
    pub given: Given,
}

/// A session that is kept here, and whose state is on its way.
#[derive(Debug)]
struct Arriving {
    broker: BrokerId,
    client: ClientId,
    session: SessionId,
    /// Where its state is.
    home: Home,
    /// Whether it was asked for and there is no answer.
    asked: bool,
}

/// A session that another worker asks for, and that cannot leave yet.
#[derive(Debug)]
struct Wanted {
    ticket: u64,
    broker: BrokerId,
    client: ClientId,
    session: SessionId,
    since: Moment,
}

// Who asked still waits for the answer then.
const _: () = assert!(PUBLISH_TIMEOUT.as_millis() < SESSION_FETCH_TIMEOUT.as_millis());

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
        if self.moves.arriving.contains_key(&key) {
            return self.arrived(key, reply);
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
            (Fetched::Unreachable, stage) => {
                self.not_imported(key, "the session cannot be reached", out);
                // Whether its state was given is not known: it is kept here, and asked for once more.
                if let Some(arriving) = self.moves.arriving.get_mut(&key).filter(|_| stage == Stage::Taking) {
                    arriving.asked = false;
                }
            }
            _ => {}
        }
    }

    /// The connection that asked for the state of a session is gone: the session is kept here from now on.
    pub(super) fn await_state(&mut self, key: ConnKey, active: Box<Active>, home: Home, out: &mut Vec<Effect>) {
        let (broker, client) = (active.admitted.broker, active.admitted.client.clone());
        if let Some(Durable { id: session, .. }) = active.durable {
            let client = client.clone();
            self.moves.arriving.insert(key, Arriving { broker, client, session, home, asked: true });
        }
        self.park(key, active, None, out);
    }

    /// What was asked for by a connection that is gone.
    fn arrived(&mut self, key: ConnKey, reply: Fetched) {
        if reply == Fetched::Unreachable {
            if let Some(arriving) = self.moves.arriving.get_mut(&key) {
                arriving.asked = false;
            }
            return;
        }
        let Some(Arriving { broker, client, .. }) = self.moves.arriving.remove(&key) else { return };
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

    /// Asks once more for what could not be reached, as long as its session is kept here.
    pub(super) fn ask_again(&mut self, out: &mut Vec<Effect>) {
        let parked = &self.parked;
        self.moves.arriving.retain(|_, it| it.asked || parked.contains_key(&(it.broker, it.client.clone())));
        for (key, it) in self.moves.arriving.iter_mut().filter(|(_, it)| !it.asked) {
            it.asked = true;
            let (broker, client, session, home) = (it.broker, it.client.clone(), it.session, it.home);
            out.push(Effect::Fetch { conn: *key, home, broker, client, session, take: true });
        }
    }

    /// Whether the state of a session that is kept here has yet to come.
    pub(super) fn arrives(&self, broker: BrokerId, client: &ClientId) -> bool {
        self.moves.arriving.values().any(|it| it.broker == broker && it.client == *client)
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
        if take && self.owes(broker, client) {
            let (client, since) = (client.clone(), self.clock);
            return self.moves.wanted.push(Wanted { ticket, broker, client, session, since });
        }
        let reply = if take { self.give(broker, client, session, out) } else { self.describe(broker, client, session) };
        out.push(Effect::Answer { ticket, reply: reply.unwrap_or(Fetched::Gone) });
    }

    /// Whether publishes of QoS 2 of the session that is kept here are not accepted by everybody. What its client publishes
    /// elsewhere would overtake them (P7), and their PUBREC come too early (P4).
    fn owes(&mut self, broker: BrokerId, client: &ClientId) -> bool {
        let Some(&key) = self.parked.get(&(broker, client.clone())) else { return false };
        let conn = get(&mut self.conns, key);
        conn.is_some_and(|conn| matches!(&conn.phase, Phase::Parked(active) if active.session.acks.owes_any()))
    }

    /// Gives what was asked for and had to wait.
    pub(super) fn answer_wanted(&mut self, out: &mut Vec<Effect>) {
        for Wanted { ticket, broker, client, session, since } in std::mem::take(&mut self.moves.wanted) {
            let late = self.clock.since(since) >= PUBLISH_TIMEOUT || self.lapsed;
            if late {
                out.push(Effect::Answer { ticket, reply: Fetched::Unreachable });
            } else if self.owes(broker, &client) {
                self.moves.wanted.push(Wanted { ticket, broker, client, session, since });
            } else {
                self.on_asked(ticket, broker, &client, session, true, out);
            }
        }
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
        let Some((key, active)) = self.unpark(broker, client, Some(session)) else {
            return self.moves.given.again(broker, client, session).map(Fetched::State);
        };
        let state = active.session.export(self.clock);
        self.moves.given.keep(self.clock, broker, client, session, &state);
        self.moved.retain(|_, to| *to != key);
        self.forget_subscriptions(key, &active, out);
        self.drop_idle_room(active.room);
        Some(Fetched::State(state))
    }
}
