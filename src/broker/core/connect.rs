//! From a socket to a served client and back: greeting, token, claim, takeover, end.

use std::mem;

use bytes::{Buf, BytesMut};
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, ClaimRequest, ClaimWill, Keep, Leave, SessionGrant};
use rookery_cluster::ids::{BrokerId, ClientId, Epoch, Nonce};

use super::conn::{Active, Claiming, Conn, Durable, Phase};
use super::limits::take_place;
use super::park::Farewell;
use super::{Admitted, AuthRequest, ConnKey, Core, Effect, View, get};
use crate::mqtt::codec::{
    Connect, DecodeError, Frame, Packet, PacketType, ReasonCode, Sender, Version, decode, encode, split,
};
use crate::mqtt::session::{Ending, Session, connect};

impl Core {
    pub(super) fn on_read(&mut self, now: Moment, key: ConnKey, bytes: &[u8], out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let mut carry = mem::take(&mut conn.carry);
        if carry.is_empty() {
            let used = self.parse(now, key, bytes, out);
            carry = BytesMut::from(&bytes[used..]);
        } else {
            carry.extend_from_slice(bytes);
            let used = self.parse(now, key, &carry, out);
            carry.advance(used);
        }
        if let Some(conn) = get(&mut self.conns, key)
            && !matches!(conn.phase, Phase::Closing)
        {
            conn.carry = if carry.is_empty() { BytesMut::new() } else { carry };
        }
    }

    /// Goes on with the connections that need not wait any more.
    pub(super) fn resume_all(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some(key) = self.resumable.pop() {
            self.resume(now, key, out);
        }
    }

    /// Goes on with what a connection sent while it waited. It could not be heard until now.
    pub(super) fn resume(&mut self, now: Moment, key: ConnKey, out: &mut Vec<Effect>) {
        if let Some(conn) = get(&mut self.conns, key)
            && let Phase::Active(active) = &mut conn.phase
        {
            active.session.heard(now);
        }
        self.mark_dirty(key);
        self.on_read(now, key, &[], out);
    }

    /// Performs the packets in `bytes` as long as the connection may be read from; returns how many bytes it used.
    fn parse(&mut self, now: Moment, key: ConnKey, bytes: &[u8], out: &mut Vec<Effect>) -> usize {
        let mut used = 0;
        while let Some(conn) = get(&mut self.conns, key) {
            if !conn.wants_read(self.interest_complete) {
                break;
            }
            let limit = conn.max_packet();
            let result = match split(&bytes[used..], limit) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let body = frame.body(&bytes[used..]);
                    self.on_frame(now, key, frame, body, out).map(|taken| (taken, frame.total))
                }
                Err(error) => Err(Fault::Decode(error)),
            };
            match result {
                Ok((Taken::Yes, bytes)) => used += bytes,
                Ok((Taken::NotYet, _)) => break,
                Err(fault) => {
                    self.stats.protocol_errors += 1;
                    self.fault(key, fault, out);
                    return bytes.len();
                }
            }
        }
        used
    }

    fn on_frame(
        &mut self,
        now: Moment,
        key: ConnKey,
        frame: Frame,
        body: &[u8],
        out: &mut Vec<Effect>,
    ) -> Result<Taken, Fault> {
        let Some(conn) = get(&mut self.conns, key) else { return Ok(Taken::Yes) };
        match &mut conn.phase {
            Phase::Greeting => self.on_greeting(key, frame.first_byte, body, out)?,
            Phase::Active(active) => {
                active.session.heard(now);
                let version = active.session.version;
                let metered = active.is_metered();
                if metered {
                    self.meter(now, key, frame.total)?;
                }
                if frame.is_publish() {
                    let taken = self.on_publish(now, key, frame.first_byte, body)?;
                    if metered && matches!(taken, Taken::NotYet) {
                        self.unmeter(now, key, frame.total);
                    }
                    return Ok(taken);
                }
                let packet = decode(Some(version), Sender::Client, frame.first_byte, body)?;
                self.on_packet(now, key, packet, out)?;
            }
            Phase::Authenticating(_) | Phase::Claiming(_) | Phase::Importing(_) | Phase::Parked(_) | Phase::Closing => {
            }
        }
        Ok(Taken::Yes)
    }

    fn on_greeting(&mut self, key: ConnKey, first: u8, body: &[u8], out: &mut Vec<Effect>) -> Result<(), Fault> {
        if PacketType::of(first) != Some(PacketType::Connect) {
            return Err(Fault::Silent("the first packet is not a connect"));
        }
        let Packet::Connect(connect) = decode(None, Sender::Client, first, body)? else {
            return Err(Fault::Silent("the first packet is not a connect"));
        };
        if self.lapsed {
            let ending = Ending::with(ReasonCode::SERVER_UNAVAILABLE, "this node has no lease");
            return Err(Fault::Refuse(ending, connect.version));
        }
        let Some(conn) = get(&mut self.conns, key) else { return Ok(()) };
        if let Err(ending) = connect::check_unauthenticated(&connect) {
            return Err(Fault::Refuse(ending, connect.version));
        }
        let request = AuthRequest {
            server_name: conn.server_name.clone(),
            client_id: connect.client_id.clone(),
            user_name: connect.user_name.clone(),
            password: connect.password.clone(),
            from: conn.from,
        };
        conn.phase = Phase::Authenticating(Box::new(without_secrets(*connect)));
        out.push(Effect::Authenticate { conn: key, request: Box::new(request) });
        Ok(())
    }

    pub(super) fn on_authenticated(
        &mut self,
        now: Moment,
        key: ConnKey,
        result: Result<Admitted, ReasonCode>,
        out: &mut Vec<Effect>,
    ) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Authenticating(connect) = &mut conn.phase else { return };
        let version = connect.version;
        let checked = result
            .map_err(|reason| Ending::with(reason, "not admitted"))
            .and_then(|a| connect::check(connect, &a.client, &a.settings, &a.acl).map(|()| a))
            .and_then(|a| connect::will(connect, &a.settings).map(|will| (a, will)));
        let (admitted, will) = match checked {
            Ok(checked) => checked,
            Err(ending) => return self.fault(key, Fault::Refuse(ending, version), out),
        };
        let nonce = Nonce(u64::from(self.worker.0) << 48 | self.next_nonce);
        self.next_nonce += 1;
        out.push(Effect::Claim(ClaimRequest {
            broker: admitted.broker,
            client: admitted.client.clone(),
            nonce,
            worker: self.worker,
            clean_start: connect.clean_start,
            session_expiry: connect::session_expiry(connect, &admitted.settings),
            will: will.map(|(message, delay)| ClaimWill { message, delay }),
        }));
        self.claims.insert(nonce, key);
        let Phase::Authenticating(connect) = mem::replace(&mut conn.phase, Phase::Closing) else { return };
        conn.phase = Phase::Claiming(Box::new(Claiming { connect, admitted, nonce, since: now }));
    }

    pub(super) fn on_claim(&mut self, now: Moment, event: ClaimEvent, view: &dyn View, out: &mut Vec<Effect>) {
        match event {
            ClaimEvent::Granted { broker, client, nonce, epoch, session } => {
                if !self.granted(now, nonce, epoch, session, view, out) {
                    let leave = untouched(session);
                    out.push(Effect::Release { broker, client, epoch, nonce, leave, after: None });
                }
            }
            ClaimEvent::Revoked { broker, client, nonce, epoch } => match self.claims.get(&nonce).copied() {
                Some(key) if self.serves(key) => self.taken_over(key, out),
                // Its 0x8E is on its way, and the claim goes back right after (P3).
                Some(key) if self.releases(key, nonce) => {}
                // Not granted yet, or long gone: there is nothing to end.
                _ => {
                    let leave = UNKNOWN;
                    out.push(Effect::Release { broker, client, epoch, nonce, leave, after: None });
                }
            },
            ClaimEvent::Persisted { nonce, token, stored } => self.on_persisted(nonce, token, stored, out),
            ClaimEvent::Recalled { nonce, subscriptions } => self.on_recalled(nonce, subscriptions, out),
            ClaimEvent::Discard { broker, client, session } => self.discard(broker, &client, Some(session), out),
            ClaimEvent::Refused { nonce, why, .. } => self.claim_refused(nonce, why, out),
        }
    }

    fn serves(&mut self, key: ConnKey) -> bool {
        get(&mut self.conns, key).is_some_and(|conn| matches!(conn.phase, Phase::Active(_) | Phase::Importing(_)))
    }

    fn releases(&mut self, key: ConnKey, nonce: Nonce) -> bool {
        get(&mut self.conns, key).is_some_and(|conn| conn.releasing == Some(nonce))
    }

    /// The claim of the connection `nonce` is granted; whether that connection is still there to use it.
    fn granted(
        &mut self,
        now: Moment,
        nonce: Nonce,
        epoch: Epoch,
        grant: Option<SessionGrant>,
        view: &dyn View,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(key) = self.claims.get(&nonce).copied() else { return false };
        let Some(conn) = get(&mut self.conns, key) else { return false };
        let claiming = match &conn.phase {
            // Granted notices repeat until the shard knows; the first one was enough.
            Phase::Active(active) => return active.epoch == epoch,
            Phase::Importing(importing) => return importing.active.epoch == epoch,
            Phase::Claiming(claiming) => claiming,
            _ => return false,
        };
        let broker = claiming.admitted.broker;
        // The token may have been revoked since it was checked (P2).
        let admitted = view.admits(&claiming.admitted).map_err(|reason| Ending::with(reason, "token withdrawn"));
        if let Err(ending) = admitted.and_then(|()| take_place(self.quota.as_mut(), &claiming.admitted)) {
            let version = claiming.connect.version;
            conn.phase = Phase::Greeting;
            self.claims.remove(&nonce);
            self.fault(key, Fault::Refuse(ending, version), out);
            return false;
        }
        let Phase::Claiming(claiming) = mem::replace(&mut conn.phase, Phase::Closing) else { return false };
        let Claiming { connect, admitted, .. } = *claiming;
        let session = Session::new(admitted.client.clone(), &connect, &admitted.settings, now);
        let expiry = connect::session_expiry(&connect, &admitted.settings);
        let room = self.room(broker);
        self.rooms[room].conns += 1;
        let active = Box::new(Active {
            session,
            admitted,
            nonce,
            epoch,
            room,
            filters: Default::default(),
            subacks: Vec::new(),
            recent: None,
            durable: grant.map(|grant| Durable { id: grant.id, expiry }),
            persisting: None,
            reads: Default::default(),
            parked_until: None,
            meter: Default::default(),
        });
        self.begin_session(key, connect, active, grant, out);
        true
    }

    fn claim_refused(&mut self, nonce: Nonce, why: ClaimRefusal, out: &mut Vec<Effect>) {
        let Some(key) = self.claims.get(&nonce).copied() else { return };
        let Some(conn) = get(&mut self.conns, key) else { return };
        let Phase::Claiming(claiming) = &conn.phase else { return };
        let version = claiming.connect.version;
        let ending = match why {
            ClaimRefusal::Superseded => {
                Ending::with(ReasonCode::SERVER_UNAVAILABLE, "a newer connect replaced this one")
            }
            ClaimRefusal::Unavailable => Ending::with(ReasonCode::SERVER_UNAVAILABLE, "no quorum for the claim"),
            ClaimRefusal::TooFast => Ending::with(ReasonCode::CONNECTION_RATE_EXCEEDED, "takeovers come too fast"),
        };
        conn.phase = Phase::Greeting;
        self.claims.remove(&nonce);
        self.fault(key, Fault::Refuse(ending, version), out);
    }

    /// A newer connection waits for this client ID: 0x8E first, then the claim is given back.
    fn taken_over(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        self.end(key, Ending::with(ReasonCode::SESSION_TAKEN_OVER, "session taken over"), out);
    }

    /// Ends a served connection: DISCONNECT for MQTT 5, then close; its claim is given back after the flush.
    pub(super) fn end(&mut self, key: ConnKey, ending: Ending, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        match &conn.phase {
            Phase::Closing => return,
            Phase::Authenticating(connect) => {
                let version = connect.version;
                return self.refuse(key, for_connack(ending), version, out);
            }
            Phase::Claiming(claiming) => {
                let version = claiming.connect.version;
                return self.refuse(key, for_connack(ending), version, out);
            }
            Phase::Importing(importing) => {
                let version = importing.connect.version;
                return self.refuse(key, for_connack(ending), version, out);
            }
            // It has no socket that anything could be said to: see `discard_where`.
            Phase::Parked(_) => return,
            Phase::Greeting | Phase::Active(_) => {}
        }
        if let Phase::Active(active) = &conn.phase {
            let version = active.session.version;
            tracing::debug!(client = %active.admitted.client, from = %conn.from, reason = %ending.reason, what = ending.what, "connection ended");
            if let Some(packet) = ending.packet(version) {
                send(conn, version, &packet);
            }
            *self.stats.disconnects_sent.entry(ending.reason.value()).or_default() += 1;
        }
        // Of a broker that is gone nothing is kept.
        let for_good = ending.reason == ReasonCode::ADMINISTRATIVE_ACTION;
        self.close(key, if for_good { Farewell::FOR_GOOD } else { Farewell::LOST }, out);
    }

    fn close(&mut self, key: ConnKey, farewell: Farewell, out: &mut Vec<Effect>) {
        self.retire(key, true, farewell, out);
        self.mark_dirty(key);
        out.push(Effect::Close { conn: key });
    }

    /// What a fault looks like from outside depends on how far the connection had come.
    pub(super) fn fault(&mut self, key: ConnKey, fault: Fault, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        match fault {
            Fault::Refuse(ending, version) => self.refuse(key, ending, version, out),
            Fault::Silent(what) => {
                tracing::debug!(from = %conn.from, what, "connection refused");
                self.end(key, Ending::with(ReasonCode::PROTOCOL_ERROR, what), out);
            }
            Fault::End(ending) => self.end(key, ending, out),
            Fault::Decode(error) => match (error.connack, &conn.phase) {
                (Some(version), Phase::Greeting) => self.refuse(key, error.into(), version, out),
                _ => self.end(key, error.into(), out),
            },
        }
    }

    fn refuse(&mut self, key: ConnKey, ending: Ending, version: Version, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        tracing::debug!(from = %conn.from, reason = %ending.reason, what = ending.what, "connect refused");
        send(conn, version, &connect::refusal(ending.reason));
        *self.stats.clients_refused.entry(ending.reason.value()).or_default() += 1;
        self.close(key, Farewell::LOST, out);
    }

    /// Takes a connection's session out of everything, or keeps it for the next connection, and gives its claim back.
    pub(super) fn retire(&mut self, key: ConnKey, flush_first: bool, farewell: Farewell, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        if matches!(conn.phase, Phase::Parked(_)) {
            return;
        }
        let after = flush_first.then_some(key);
        let accounted = mem::take(&mut conn.accounted);
        match mem::replace(&mut conn.phase, Phase::Closing) {
            Phase::Claiming(claiming) => {
                self.claims.remove(&claiming.nonce);
                let Admitted { broker, client, .. } = claiming.admitted;
                out.push(Effect::Abandon { broker, client, nonce: claiming.nonce });
            }
            Phase::Active(active) => {
                if flush_first {
                    conn.releasing = Some(active.nonce);
                } else {
                    self.claims.remove(&active.nonce);
                }
                let leave = self.leave(&active, farewell);
                let room = active.room;
                self.release(&active, leave, after, out);
                self.rooms[room].account.gone(accounted);
                self.leave_place(&active);
                self.rooms[room].conns -= 1;
                match leave.keep {
                    Some(keep) if !self.lapsed => self.park(key, active, keep.expiry, out),
                    _ => {
                        self.forget_subscriptions(key, &active, out);
                        self.orphan(active);
                    }
                }
                self.drop_idle_room(room);
            }
            Phase::Importing(importing) => {
                if flush_first {
                    conn.releasing = Some(importing.active.nonce);
                } else {
                    self.claims.remove(&importing.active.nonce);
                }
                let active = importing.active;
                let leave = Leave { keep: Some(Keep { expiry: None, home: importing.home }), fire_will: false };
                self.release(&active, leave, after, out);
                let room = active.room;
                self.rooms[room].account.gone(accounted);
                self.leave_place(&active);
                self.rooms[room].conns -= 1;
                self.forget_subscriptions(key, &active, out);
                self.orphan(active);
                self.drop_idle_room(room);
            }
            Phase::Greeting | Phase::Authenticating(_) | Phase::Parked(_) | Phase::Closing => {}
        }
        if let Some(conn) = get(&mut self.conns, key) {
            conn.carry = BytesMut::new();
        }
    }

    fn release(&self, active: &Active, leave: Leave, after: Option<ConnKey>, out: &mut Vec<Effect>) {
        let (broker, client): (BrokerId, ClientId) = (active.admitted.broker, active.admitted.client.clone());
        let (epoch, nonce) = (active.epoch, active.nonce);
        out.push(Effect::Release { broker, client, epoch, nonce, leave, after });
    }

    pub(super) fn on_closed(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
        self.retire(key, false, Farewell::LOST, out);
        if let Some(conn) = get(&mut self.conns, key) {
            if let Some(nonce) = conn.releasing {
                self.claims.remove(&nonce);
            }
            self.conns.remove(key.index as usize);
        }
    }

    /// Ends the connections of which `which` is true.
    pub(super) fn close_where(&mut self, which: impl Fn(&Conn) -> bool, reason: ReasonCode, out: &mut Vec<Effect>) {
        let served = |conn: &Conn| !matches!(conn.phase, Phase::Parked(_)) && which(conn);
        let ending = Ending::with(reason, "the node stops serving");
        let all = self.conns.iter().filter(|(_, conn)| served(conn)).map(|(_, conn)| (conn.key, ending)).collect();
        self.end_all(all, out);
    }

    /// Notes that the connection has something for the driver to do.
    pub(super) fn mark_dirty(&mut self, key: ConnKey) {
        if let Some(conn) = get(&mut self.conns, key)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }
}

/// Whether a packet was performed.
pub(super) enum Taken {
    /// It was.
    Yes,
    /// Nothing was done: it comes again when its connection may go on.
    NotYet,
}

/// What is wrong with what a client did.
pub(super) enum Fault {
    /// Bytes that do not decode.
    Decode(DecodeError),
    /// CONNACK with a reason, then close.
    Refuse(Ending, Version),
    /// Close without a word (MQTT 5 §4.13: before CONNECT nothing may be answered).
    Silent(&'static str),
    /// DISCONNECT with a reason, then close.
    End(Ending),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Ending> for Fault {
    fn from(ending: Ending) -> Self {
        Self::End(ending)
    }
}

/// Appends a packet that the server made itself.
pub(super) fn send(conn: &mut Conn, version: Version, packet: &Packet) {
    let sent = conn.out.write(|to| encode(packet, version, to).map(|_| ()));
    if let Err(error) = sent {
        tracing::error!(%error, "a packet of our own does not encode");
    }
}

/// The ending as CONNACK may say it (MQTT 5 §3.2.2.2).
fn for_connack(ending: Ending) -> Ending {
    match ending.reason {
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_UNAVAILABLE => ending,
        _ => Ending { reason: ReasonCode::SERVER_UNAVAILABLE, ..ending },
    }
}

/// What a connection leaves of which this worker knows no more: nothing is said of its session, and its will is due.
const UNKNOWN: Leave = Leave { keep: Some(Keep { expiry: None, home: None }), fire_will: true };

/// What becomes of a session that was granted to a connection which is gone: it stays as it was.
fn untouched(grant: Option<SessionGrant>) -> Leave {
    let keep = grant.filter(|grant| grant.present).map(|grant| Keep { expiry: None, home: grant.home });
    Leave { keep, fire_will: false }
}

fn without_secrets(connect: Connect) -> Connect {
    Connect { password: None, ..connect }
}
