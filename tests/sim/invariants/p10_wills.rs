//! P10: a will fires once for each connection that ends without a goodbye, also when its node dies; never after a
//! DISCONNECT, never while the connection is served, not before its delay, and not at all if the client goes on with its
//! session in time.
//!
//! Not wider: a DISCONNECT is not acknowledged, so a node that dies right after it may not have told. Shard time runs by
//! the clock of a leader, so the last tenth of a delay is left out. That a will reaches who must have it is P5.

use std::time::Duration;

use rookery::mqtt::codec::ReasonCode;
use rookery_cluster::ids::NodeLife;

use super::p06_once::Receiver;
use crate::client::{SockId, msg_of};
use crate::keeper::{Conn, Keeper};
use crate::oracle::MsgId;
use crate::world::World;

/// How long after it came due, when all is quiet, a shard must know that a will is published.
const CONFIRMED: Duration = Duration::from_secs(5);

/// How long after the end of a connection its will must have been published, its delay aside: a lease that runs out, a
/// shard without a leader.
const AT_MOST: Duration = Duration::from_secs(20);

impl World {
    /// A node says from when on a will counts that is to be retained.
    pub fn p10_timed(&mut self, message: &[u8]) {
        let now = self.now;
        if let Some(will) = msg_of(&message[message.len() - 8..]).and_then(|msg| self.oracle.msg_mut(msg)) {
            will.sent = will.sent.min(now);
        }
    }

    /// A node begins to publish the will that it knows by `token`.
    pub fn p10_fires(&mut self, life: NodeLife, token: u64, message: &[u8]) {
        let Some(msg) = msg_of(&message[message.len() - 8..]) else { return };
        let Some(id) = self.conn_of(msg) else { return };
        let now = self.now;
        self.note(|| format!("node {}: publishes will {msg} of connection {id}", life.node));
        self.keepers.firing.insert((life, token), msg);
        if let Some(will) = self.oracle.msg_mut(msg) {
            (will.sent, will.tries) = (will.sent.min(now), will.tries + 1);
        }
        if self.serving(id) {
            self.broken(format!("P10: will {msg} is published, and connection {id} is served"));
        }
        self.p10_not_before_its_delay(id, msg);
        if let Some(conn) = self.keepers.conns.get_mut(&id) {
            conn.fired.push(now);
        }
        let conn = &self.keepers.conns[&id];
        if conn.taken_leave.is_some() && !conn.unsure {
            self.broken(format!("P10: will {msg} is published after the goodbye of connection {id}"));
        }
    }

    /// All who must accept it did.
    pub fn p10_accepted(&mut self, life: NodeLife, token: u64) {
        let now = self.now;
        let Some(msg) = self.keepers.firing.remove(&(life, token)) else { return };
        let Some(id) = self.conn_of(msg) else { return };
        if let Some(will) = self.oracle.msg_mut(msg) {
            will.answered.get_or_insert((now, ReasonCode::SUCCESS));
        }
        self.p09_acknowledged(life, msg, ReasonCode::SUCCESS);
        if let Some(conn) = self.keepers.conns.get_mut(&id) {
            conn.accepted.get_or_insert(now);
        }
    }

    /// A will reached `to`; `again` if it came there before, as a new message.
    pub fn p10_heard(&mut self, to: &Receiver, msg: MsgId, again: bool) {
        // A worker remembers which wills it has had; a session that has gone on at another since may get one again, if its
        // publisher died before it was confirmed.
        let moved = |keeper: &Keeper| keeper.forgetful || !keeper.moves.is_empty();
        if !again || self.keepers.all.get(&to.0).is_some_and(moved) {
            return;
        }
        self.broken(format!("P10: {to:?} got will {msg} twice"));
    }

    /// Whether an earlier connection of the client, which it gave up and its node may not know to be gone, is to begin a
    /// session of its own: served late, it ends this one, and with it the delay of its will.
    fn may_be_ended_by_an_earlier(&self, id: SockId) -> bool {
        let client = &self.keepers.conns[&id].client;
        let mut earlier = self.keepers.conns.range(..id).map(|(_, conn)| conn);
        earlier.any(|conn| conn.client == *client && conn.terms.clean && conn.acked.is_none())
    }

    /// At the end, when all is quiet.
    pub fn p10_check(&mut self) {
        // Whoever leads next would publish them once more. One may have come due a moment ago.
        let left = |w: &mut Self, node| w.node(node).shards.values().any(|shard| !shard.view().firing.is_empty());
        if !self.until(CONFIRMED, |w| !w.all_nodes().into_iter().any(|node| left(w, node))) {
            self.broken("P10: a shard was not told that a will is published".to_owned());
        }
        let wills: Vec<SockId> =
            self.keepers.conns.iter().filter(|(_, conn)| conn.will.is_some()).map(|(id, _)| *id).collect();
        for id in wills {
            let (must, must_not) = (self.must_fire(id), self.is_cancelled(id) && !self.may_be_ended_by_an_earlier(id));
            let conn = &self.keepers.conns[&id];
            let (fired, will) = (conn.fired.len(), conn.will);
            if must && fired == 0 {
                self.broken(format!("P10: connection {id} was lost, and its will {will:?} was never published"));
            }
            if must_not && fired > 0 {
                self.broken(format!("P10: the client of connection {id} was back in time, and will {will:?} came"));
            }
        }
    }

    fn must_fire(&self, id: SockId) -> bool {
        let conn = &self.keepers.conns[&id];
        let Some(gone) = self.lost_at(id) else { return false };
        let delay = delay_of(conn);
        let returned = self.later_conns(conn, id).next().is_some() || conn.told;
        let lost = conn.acked.is_some() && !conn.goodbye;
        lost && (delay.is_zero() || !returned) && gone + delay * 11 / 10 + AT_MOST < self.now
    }

    /// Whether the client went on with the session before the will was due.
    fn is_cancelled(&self, id: SockId) -> bool {
        let conn = &self.keepers.conns[&id];
        let (Some(gone), delay) = (self.lost_at(id), delay_of(conn)) else { return false };
        let Some((_, next)) = self.later_conns(conn, id).next() else { return false };
        let waits = conn.acked.is_some() && !delay.is_zero();
        waits && next.acked.is_some_and(|(at, present)| present && at < gone + delay * 9 / 10)
    }

    fn p10_not_before_its_delay(&mut self, id: SockId, msg: MsgId) {
        let conn = &self.keepers.conns[&id];
        let expiry = Duration::from_secs(u64::from(conn.terms.expiry));
        let after = delay_of(conn).min(expiry) * 9 / 10;
        // Who was told to go may have been for a CONNECT that its client had long given up.
        let returned = self.later_conns(conn, id).next().is_some() || conn.told;
        let Some(gone) = self.lost_at(id).filter(|_| conn.acked.is_some() && !returned) else { return };
        if self.now < gone + after {
            let early = gone + after - self.now;
            self.broken(format!("P10: will {msg} of connection {id} is published {early:?} early"));
        }
    }

    fn later_conns<'a>(&'a self, conn: &'a Conn, id: SockId) -> impl Iterator<Item = (&'a SockId, &'a Conn)> {
        self.keepers.conns.range(id + 1..).filter(move |(_, other)| other.client == conn.client)
    }

    fn conn_of(&self, will: MsgId) -> Option<SockId> {
        self.keepers.conns.iter().find(|(_, conn)| conn.will == Some(will)).map(|(id, _)| *id)
    }
}

/// What a will waits for after its connection was lost: with its session it is over at the latest.
fn delay_of(conn: &Conn) -> Duration {
    let delay = conn.terms.will.map_or(0, |(_, delay)| delay);
    Duration::from_secs(u64::from(if conn.terms.expiry == 0 { 0 } else { delay }))
}
