//! What time brings: deadlines, expiries, refusals (R9), and what metadata changed.

use std::sync::Arc;
use std::time::Duration;

use rookery_cluster::clock::{Moment, UnixMillis};
use rookery_cluster::ids::BrokerId;
use rookery_cluster::limits::{CLAIM_TIMEOUT, CONNECT_DEADLINE, PUBLISH_TIMEOUT};

use super::conn::{Conn, Phase};
use super::{ConnKey, Core, Effect, Settings, View};
use crate::mqtt::codec::ReasonCode;
use crate::mqtt::session::Ending;

/// How often deadlines are looked at: they are met at most this late. Small against the shortest of them, the
/// second that a revoked token's connection may live (P2).
const TICK: Duration = Duration::from_millis(250);
/// The driver answers a claim by `CLAIM_TIMEOUT`; if even that fails, the connection is not kept for ever.
const CLAIM_GRACE: Duration = Duration::from_secs(2);

impl Core {
    pub(super) fn on_tick(&mut self, now: Moment, view: &dyn View, out: &mut Vec<Effect>) {
        self.next_tick = now + TICK;
        let (wall, reads) = (view.wall(), self.interest_complete);
        let overdue: Vec<(ConnKey, Ending)> =
            self.conns.iter().filter_map(|(_, conn)| Some((conn.key, overdue(conn, now, wall, reads)?))).collect();
        self.end_all(overdue, out);
        self.discard_overdue(now, out);
        self.ask_again(out);
        self.moves.given.tick(now);
        self.account();
        self.tick_system(now);
        self.confirm_kept(now, out);
        self.resume_paced(now);
        let dests = 0..self.dests.len();
        for dest in dests.filter(|&dest| self.dests[dest].stuck(now)).collect::<Vec<_>>() {
            // Its publishers are read again, to be told (R10): QoS 0 is dropped, QoS 1 closes.
            self.unblock(dest as u16);
        }
    }

    /// Ends several connections. None of them gets what another one leaves.
    pub(super) fn end_all(&mut self, all: Vec<(ConnKey, Ending)>, out: &mut Vec<Effect>) {
        self.ending = all.iter().map(|(key, _)| *key).collect();
        for (key, ending) in all {
            self.end(key, ending, out);
        }
        self.ending.clear();
    }

    pub(super) fn on_recheck(&mut self, broker: Option<BrokerId>, view: &dyn View, out: &mut Vec<Effect>) {
        let withdrawn: Vec<(ConnKey, Ending)> = self
            .conns
            .iter()
            .filter_map(|(_, conn)| match &conn.phase {
                Phase::Active(active) => Some((conn.key, &active.admitted)),
                Phase::Importing(importing) => Some((conn.key, &importing.active.admitted)),
                _ => None,
            })
            .filter(|(_, admitted)| broker.is_none_or(|b| b == admitted.broker))
            .filter_map(|(key, admitted)| Some((key, Ending::with(view.admits(admitted).err()?, "no longer admitted"))))
            .collect();
        // A session is not its last token's: only a broker that is gone takes it along.
        let of = |active: &super::conn::Active| broker.is_none_or(|b| b == active.admitted.broker);
        let gone =
            |active: &super::conn::Active| view.admits(&active.admitted) == Err(ReasonCode::ADMINISTRATIVE_ACTION);
        self.discard_where(|active| of(active) && gone(active), out);
        self.end_all(withdrawn, out);
    }

    pub(super) fn on_reconfigured(&mut self, broker: BrokerId, settings: &Arc<Settings>) {
        for (_, conn) in &mut self.conns {
            let admitted = match &mut conn.phase {
                Phase::Active(active) | Phase::Parked(active) => &mut active.admitted,
                Phase::Importing(importing) => &mut importing.active.admitted,
                Phase::Claiming(claiming) => &mut claiming.admitted,
                Phase::Greeting | Phase::Authenticating(_) | Phase::Closing => continue,
            };
            if admitted.broker == broker {
                admitted.settings = settings.clone();
            }
        }
        if let Some(&room) = self.room_of.get(&broker) {
            self.rooms[room].strategy = settings.shared_strategy;
        }
    }
}

/// What is wrong with a connection at this time.
fn overdue(conn: &Conn, now: Moment, wall: UnixMillis, interest_complete: bool) -> Option<Ending> {
    match &conn.phase {
        Phase::Greeting | Phase::Authenticating(_) => (now.since(conn.opened) >= CONNECT_DEADLINE)
            .then_some(Ending::with(ReasonCode::MAXIMUM_CONNECT_TIME, "no connect in time")),
        Phase::Claiming(claiming) => (now.since(claiming.since) >= CLAIM_TIMEOUT + CLAIM_GRACE)
            .then_some(Ending::with(ReasonCode::SERVER_UNAVAILABLE, "no claim in time")),
        Phase::Importing(importing) => (now.since(importing.since) >= CLAIM_TIMEOUT + CLAIM_GRACE)
            .then_some(Ending::with(ReasonCode::SERVER_UNAVAILABLE, "the session was not fetched in time")),
        Phase::Active(active) => {
            if active.admitted.expires.is_some_and(|at| at <= wall) {
                return Some(Ending::with(ReasonCode::NOT_AUTHORIZED, "the token expired"));
            }
            // Who is not read from is not known to be silent.
            if conn.wants_read(interest_complete) && active.session.silent_too_long(now) {
                return Some(Ending::with(ReasonCode::KEEP_ALIVE_TIMEOUT, "keep alive timeout"));
            }
            let unanswered = active.session.acks.oldest().is_some_and(|since| now.since(since) >= PUBLISH_TIMEOUT);
            unanswered.then_some(Ending::with(ReasonCode::SERVER_BUSY, "a publish was not accepted in time"))
        }
        Phase::Parked(_) | Phase::Closing => None,
    }
}
