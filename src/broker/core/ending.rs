//! How connections end: what the client is told, what becomes of its session, and the claim that goes back.

use std::mem;

use bytes::BytesMut;
use rookery_cluster::handle::{Keep, Leave};
use rookery_cluster::ids::{BrokerId, ClientId};

use super::conn::{Active, Conn, Phase, Stage};
use super::connect::Fault;
use super::park::Farewell;
use super::{Admitted, ConnKey, Core, Effect, Transport, View, get};
use crate::mqtt::codec::{Packet, ReasonCode, Version, encode_within};
use crate::mqtt::session::{Ending, connect};

impl Core {
    /// A newer connection waits for this client ID: 0x8E first, then the claim is given back.
    pub(super) fn taken_over(&mut self, key: ConnKey, out: &mut Vec<Effect>) {
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
            let (version, most) = (active.session.version, active.session.max_packet());
            let wanted = active.session.wants_problem_information;
            tracing::debug!(client = %active.admitted.client, from = %conn.from, reason = %ending.reason, what = ending.what, "connection ended");
            let elsewhere = self.elsewhere.get(&conn.transport).map(String::as_str);
            let packets = [elsewhere, None].into_iter().filter_map(|to| ending.packet(version, wanted, to));
            let _first_that_fits = packets.map(|packet| say(conn, version, packet, most)).find(|said| *said);
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

    pub(super) fn refuse(&mut self, key: ConnKey, ending: Ending, version: Version, out: &mut Vec<Effect>) {
        let Some(conn) = get(&mut self.conns, key) else { return };
        tracing::debug!(from = %conn.from, reason = %ending.reason, what = ending.what, "connect refused");
        let connect = match &conn.phase {
            Phase::Authenticating(connect) => Some(&**connect),
            Phase::Claiming(claiming) => Some(&*claiming.connect),
            Phase::Importing(importing) => Some(&*importing.connect),
            _ => None,
        };
        let (packet, most) = connect::refusal(ending, connect);
        say(conn, version, packet, most);
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
                    Some(keep) => self.park(key, active, keep.expiry, out),
                    None => {
                        self.moved.retain(|_, to| *to != key);
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
                // Once its state is on its way here, it is nowhere else.
                let arrives = importing.home.filter(|_| importing.stage == Stage::Taking);
                let home = if arrives.is_some() { Some(self.here()) } else { importing.home };
                let active = importing.active;
                let leave = Leave { keep: Some(Keep { expiry: None, home }), fire_will: false };
                self.release(&active, leave, after, out);
                let room = active.room;
                self.rooms[room].account.gone(accounted);
                self.leave_place(&active);
                self.rooms[room].conns -= 1;
                if let Some(home) = arrives {
                    self.await_state(key, active, home, out);
                } else {
                    self.forget_subscriptions(key, &active, out);
                    self.orphan(active);
                }
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

    /// Ends the connections of which `which` is true; tells them where to go if `reason` is that.
    pub(super) fn close_where(
        &mut self,
        which: impl Fn(&Conn) -> bool,
        reason: ReasonCode,
        view: &dyn View,
        out: &mut Vec<Effect>,
    ) {
        let served = |conn: &Conn| !matches!(conn.phase, Phase::Parked(_)) && which(conn);
        let ending = Ending::with(reason, "the node stops serving");
        let all: Vec<_> =
            self.conns.iter().filter(|(_, conn)| served(conn)).map(|(_, conn)| (conn.key, ending)).collect();
        if reason == ReasonCode::USE_ANOTHER_SERVER && !all.is_empty() {
            let transports = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
            self.elsewhere = transports.into_iter().filter_map(|by| Some((by, view.elsewhere(by)?))).collect();
        }
        self.end_all(all, out);
        self.elsewhere.clear();
    }
}

/// Appends a packet that ends a connection, unless the client takes none of its size: whether it was.
fn say(conn: &mut Conn, version: Version, packet: Packet, most: usize) -> bool {
    conn.out.write(|to| encode_within(packet, version, most, to).map(|_| ())).is_ok()
}

/// The ending as CONNACK may say it (MQTT 5 §3.2.2.2).
fn for_connack(ending: Ending) -> Ending {
    match ending.reason {
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_UNAVAILABLE => ending,
        _ => Ending { reason: ReasonCode::SERVER_UNAVAILABLE, ..ending },
    }
}
