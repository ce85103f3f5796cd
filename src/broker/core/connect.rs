//! From a socket to a served client and back: greeting, token, claim, takeover, end.

use std::mem;

use bytes::{Buf, BytesMut};
use rookery_cluster::clock::Moment;
use rookery_cluster::handle::{ClaimEvent, ClaimRefusal, ClaimRequest, ClaimWill, Leave, SessionGrant};
use rookery_cluster::ids::{Epoch, Nonce};

use super::conn::{Active, Claiming, Conn, Durable, Phase};
use super::limits::take_place;
use super::{Admitted, AuthRequest, ConnKey, Core, Effect, View, get};
use crate::mqtt::codec::{
    Connect, DecodeError, Frame, Packet, PacketType, ReasonCode, Sender, Version, decode, encode, split,
};
use crate::mqtt::session::{Ending, Session, connect};

impl Core {
    pub(super) fn on_read(&mut self, now: Moment, key: ConnKey, bytes: &[u8], out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        if let Some(room) = conn.room() {
            self.rooms[room].counts.bytes_received += bytes.len() as u64;
        }
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
        if connect::takes_nothing(&connect) {
            return Err(Fault::Silent("the client takes not even a refusal"));
        }
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
                    let leave = Leave::untouched(session);
                    out.push(Effect::Release { broker, client, epoch, nonce, leave, after: None });
                }
            }
            ClaimEvent::Revoked { broker, client, nonce, epoch } => match self.claims.get(&nonce).copied() {
                Some(key) if self.serves(key) => self.taken_over(key, out),
                // Its 0x8E is on its way, and the claim goes back right after (P3).
                Some(key) if self.releases(key, nonce) => {}
                // Not granted yet, or long gone: there is nothing to end. Its grant must find nobody any more (P3).
                _ => {
                    self.claim_refused(nonce, ClaimRefusal::Superseded, out);
                    let leave = Leave::UNKNOWN;
                    out.push(Effect::Release { broker, client, epoch, nonce, leave, after: None });
                }
            },
            ClaimEvent::Persisted { nonce, token, stored } => {
                let stored = if stored { Ok(()) } else { Err(ReasonCode::IMPLEMENTATION_SPECIFIC) };
                self.on_persisted(nonce, token, stored, out);
            }
            ClaimEvent::NoRoom { nonce, token } => {
                self.on_persisted(nonce, token, Err(ReasonCode::QUOTA_EXCEEDED), out);
            }
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
        let client = claiming.admitted.client.clone();
        if self.awaited(broker, &client).is_some() {
            self.claim_refused(nonce, ClaimRefusal::Unavailable, out);
            return false;
        }
        let Some(conn) = get(&mut self.conns, key) else { return false };
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
            ClaimRefusal::Full => Ending::with(ReasonCode::QUOTA_EXCEEDED, "the broker has all the sessions it may"),
        };
        conn.phase = Phase::Greeting;
        self.claims.remove(&nonce);
        self.fault(key, Fault::Refuse(ending, version), out);
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

fn without_secrets(connect: Connect) -> Connect {
    Connect { password: None, ..connect }
}
