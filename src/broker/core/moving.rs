//! A session goes on with a connection of another worker, of this node or of another (R14).
//!
//! The new worker asks where the session is kept for its subscriptions, holds them itself, tells everybody (the barrier of
//! P8), and only then takes the state: what comes meanwhile comes to both, and is told apart by its mark.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{Home, SessionAsked, SessionGrant, Subscription};
use rookery_cluster::ids::{BrokerId, ClientId, Nonce};
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
    /// What is there waits for its state, which was last seen at that worker.
    Awaits(Home),
    /// It went on under a later claim than the one for which it is asked.
    Superseded,
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
    /// Where its state is.
    home: Home,
    /// What is asked there.
    asked: SessionAsked,
    /// Whether there is no answer yet.
    waits: bool,
}

/// A session that another worker asks for, and that cannot leave yet.
#[derive(Debug)]
struct Wanted {
    ticket: u64,
    asked: SessionAsked,
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
        if !self.keeps(broker, &client, id) {
            self.discard(broker, &client, None, out);
        }
        // Its shard knows who has it: what is kept here may be a part that was left behind, or all of a session whose
        // client was gone before another worker had any of it.
        let home = home.filter(|home| *home != self.here());
        let stage = if home.is_some() { Stage::Describing } else { Stage::Recalling };
        let (nonce, epoch) = (active.nonce, active.epoch);
        let Some(conn) = get(&mut self.conns, key) else { return };
        conn.phase = Phase::Importing(Box::new(Importing { connect, active, home, stage, since: self.clock }));
        match home {
            Some(home) => {
                let asked = SessionAsked { broker, client, session: id, take: false, epoch };
                out.push(Effect::Fetch { conn: key, home, asked });
            }
            None if self.go_on_here(key, out) => {}
            None => out.push(Effect::Recall { broker, client, nonce }),
        }
    }

    /// Goes on with what is kept here of the session that the connection `key` waits for, if anything is.
    fn go_on_here(&mut self, key: ConnKey, out: &mut Vec<Effect>) -> bool {
        let Some(importing) = self.importing(key) else { return false };
        let ((broker, client), durable) = (importing.place(), importing.active.durable);
        let kept = durable.and_then(|durable| self.unpark(broker, &client, Some(durable.id)));
        let (Some((parked, kept)), Some(conn)) = (kept, get(&mut self.conns, key)) else { return false };
        let Phase::Importing(importing) = std::mem::replace(&mut conn.phase, Phase::Closing) else { return false };
        let Importing { connect, active, .. } = *importing;
        let active = self.go_on(*active, *kept, &connect);
        self.rekey(parked, key, &active);
        self.activate(key, &connect, active, true, out);
        true
    }

    fn importing(&mut self, key: ConnKey) -> Option<&mut Importing> {
        match &mut get(&mut self.conns, key)?.phase {
            Phase::Importing(importing) => Some(importing),
            _ => None,
        }
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
            return self.arrived(key, reply, out);
        }
        let here = self.here();
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Importing(importing) = &mut conn.phase else { return };
        match (reply, importing.stage) {
            (Fetched::Described(subscriptions), Stage::Describing) => {
                // What is kept here was left behind.
                let (broker, client) = importing.place();
                self.discard(broker, &client, None, out);
                self.advertise(key, &subscriptions, out);
            }
            (Fetched::Gone, Stage::Describing) => {
                if self.go_on_here(key, out) {
                    return;
                }
                let Some(importing) = self.importing(key) else { return };
                importing.home = None;
                importing.stage = Stage::Recalling;
                let ((broker, client), nonce) = (importing.place(), importing.active.nonce);
                out.push(Effect::Recall { broker, client, nonce });
            }
            (Fetched::State(bytes), Stage::Taking) => {
                if let Err(error) = importing.active.session.adopt(self.clock, &bytes) {
                    tracing::error!(client = %importing.active.admitted.client, %error, "queued messages are lost");
                }
                self.imported(key, out);
            }
            (Fetched::Gone, Stage::Taking) => self.imported(key, out),
            (Fetched::Awaits(home), Stage::Describing) if home == here => self.part_elsewhere(key, out),
            (Fetched::Superseded, _) => {
                importing.stage = Stage::Describing;
                self.not_imported(key, "the session went on elsewhere", out);
            }
            (Fetched::Unreachable | Fetched::Awaits(_), stage) => {
                self.not_imported(key, "the session cannot be reached", out);
                // Whether its state was given is not known: it is kept here, and asked for once more.
                if let Some(arriving) = self.moves.arriving.get_mut(&key).filter(|_| stage == Stage::Taking) {
                    arriving.waits = false;
                }
            }
            _ => {}
        }
    }

    /// Another worker has a part of the session and waits for the rest from here: that is all of it, as what came there
    /// came here as well.
    fn part_elsewhere(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        if !self.go_on_here(key, out) {
            self.not_imported(key, "the session is on its way", out);
        }
    }

    /// The connection that asked for the state of a session is gone: the session is kept here from now on.
    pub(super) fn await_state(&mut self, key: ConnKey, active: Box<Active>, home: Home, out: &mut Vec<Effect>) {
        let (broker, client) = (active.admitted.broker, active.admitted.client.clone());
        if let Some(Durable { id: session, .. }) = active.durable {
            let asked = SessionAsked { broker, client, session, take: true, epoch: active.epoch };
            self.moves.arriving.insert(key, Arriving { home, asked, waits: true });
        }
        self.park(key, active, None, out);
    }

    /// What was asked for by a connection that is gone.
    fn arrived(&mut self, key: ConnKey, reply: Fetched, out: &mut Vec<Effect>) {
        if matches!(reply, Fetched::Unreachable | Fetched::Awaits(_)) {
            if let Some(arriving) = self.moves.arriving.get_mut(&key) {
                arriving.waits = false;
            }
            return;
        }
        let Some(Arriving { asked, .. }) = self.moves.arriving.remove(&key) else { return };
        let SessionAsked { broker, client, session, .. } = asked;
        if reply == Fetched::Superseded {
            // It has gone on with all of it; what came here came there as well.
            return self.discard(broker, &client, Some(session), out);
        }
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
        let place = |it: &Arriving| (it.asked.broker, it.asked.client.clone());
        self.moves.arriving.retain(|_, it| it.waits || parked.contains_key(&place(it)));
        for (key, it) in self.moves.arriving.iter_mut().filter(|(_, it)| !it.waits) {
            it.waits = true;
            out.push(Effect::Fetch { conn: *key, home: it.home, asked: it.asked.clone() });
        }
    }

    /// Where the state of a session is that is kept here and has yet to come.
    pub(super) fn awaited(&self, broker: BrokerId, client: &ClientId) -> Option<Home> {
        let all = &self.moves.arriving;
        all.values().find(|it| it.asked.broker == broker && it.asked.client == *client).map(|it| it.home)
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
        let (broker, client) = importing.place();
        if let Some(Durable { id: session, .. }) = importing.active.durable {
            let asked = SessionAsked { broker, client, session, take: true, epoch: importing.active.epoch };
            out.push(Effect::Fetch { conn: key, home, asked });
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
    pub(super) fn on_asked(&mut self, ticket: u64, asked: &SessionAsked, out: &mut Vec<Effect>) {
        let (broker, client) = (asked.broker, &asked.client);
        // Nothing is given while this node may not serve, nor what is not all here.
        let reply = if self.lapsed {
            Fetched::Unreachable
        } else if let Some(home) = self.awaited(broker, client) {
            Fetched::Awaits(home)
        } else if self.went_on(asked) {
            Fetched::Superseded
        } else if asked.take && self.owes(broker, client) {
            return self.moves.wanted.push(Wanted { ticket, asked: asked.clone(), since: self.clock });
        } else if asked.take {
            self.give(asked, out)
        } else {
            self.describe(asked).unwrap_or(Fetched::Gone)
        };
        out.push(Effect::Answer { ticket, reply });
    }

    /// Whether the session went on here under a claim that came after the one for which it is asked.
    fn went_on(&self, asked: &SessionAsked) -> bool {
        let later = |active: &Active| active.is_session(asked.session) && active.epoch >= asked.epoch;
        let parked = self.parked.get(&(asked.broker, asked.client.clone()));
        if let Some(conn) = parked.and_then(|key| self.conns.get(key.index as usize)) {
            return matches!(&conn.phase, Phase::Parked(active) if later(active));
        }
        // Nobody asks a worker that serves the session, but for one that was told so long ago: no index is kept for it.
        self.conns.iter().any(|(_, conn)| match &conn.phase {
            Phase::Active(active) => active.admitted.client == asked.client && later(active),
            _ => false,
        })
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
        for Wanted { ticket, asked, since } in std::mem::take(&mut self.moves.wanted) {
            let late = self.clock.since(since) >= PUBLISH_TIMEOUT || self.lapsed;
            if late {
                out.push(Effect::Answer { ticket, reply: Fetched::Unreachable });
            } else if self.owes(asked.broker, &asked.client) {
                self.moves.wanted.push(Wanted { ticket, asked, since });
            } else {
                self.on_asked(ticket, &asked, out);
            }
        }
    }

    fn describe(&mut self, asked: &SessionAsked) -> Option<Fetched> {
        let key = *self.parked.get(&(asked.broker, asked.client.clone()))?;
        let Phase::Parked(active) = &get(&mut self.conns, key)?.phase else { return None };
        if !active.is_session(asked.session) {
            return None;
        }
        let room = &self.rooms[active.room];
        let options = |filter: &Arc<str>| Some((filter.clone(), room.options(key, filter)?.to_bits()));
        Some(Fetched::Described(active.filters.iter().filter_map(options).collect()))
    }

    fn give(&mut self, asked: &SessionAsked, out: &mut Vec<Effect>) -> Fetched {
        let Some((key, active)) = self.unpark(asked.broker, &asked.client, Some(asked.session)) else {
            return self.moves.given.again(asked).unwrap_or(Fetched::Gone);
        };
        let state = active.session.export(self.clock);
        self.moves.given.keep(self.clock, asked, &state);
        self.moved.retain(|_, to| *to != key);
        self.forget_subscriptions(key, &active, out);
        self.drop_idle_room(active.room);
        Fetched::State(state)
    }
}
