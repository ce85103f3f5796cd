//! CONNACK says that a session is present exactly if the client has one (MQTT-3.2.2-2, MQTT-3.2.2-3): never after a clean
//! start, and always if it was told of one that was to last longer than it was away.
//!
//! Not wider: whether a session had to be over is only sure if every connection that may have begun another is known to
//! have ended, so that is left to scenarios. Shard time runs by the clock of a leader, so the last tenth of an expiry is
//! left out.

use std::time::Duration;

use crate::client::SockId;
use crate::world::World;

impl World {
    /// The CONNACK of `id` reached its client.
    pub fn session_present_check(&mut self, id: SockId, present: bool) {
        let conn = &self.keepers.conns[&id];
        if conn.terms.clean && present {
            return self.broken(format!("session: connection {id} began clean, and a session is present"));
        }
        if !present && !conn.terms.clean && self.session_is_sure(id) {
            self.broken(format!("session: the client of connection {id} has one, and it is not present"));
        }
    }

    /// Whether the client of the new connection `id` is sure to have the session that it knows of.
    pub fn session_is_sure(&self, id: SockId) -> bool {
        let conn = &self.keepers.conns[&id];
        let Some(sure) = self.keepers.all[&conn.client].sure else { return false };
        let earlier = self
            .keepers
            .conns
            .iter()
            .filter(|(it, other)| **it < id && other.client == conn.client && other.acked.is_some());
        let last = earlier.clone().filter_map(|(_, other)| other.acked).map(|(at, _)| at).max().unwrap_or_default();
        // A CONNECT that its client has given up may take effect at any time.
        let mut stray = self.keepers.conns.range(..id).filter(|(it, other)| {
            let ends = other.terms.clean || other.terms.expiry < sure;
            let gone = self.socks.get(**it).gone.is_some_and(|gone| gone < last);
            other.client == conn.client && other.acked.is_none() && ends && !gone
        });
        if stray.next().is_some() {
            return false;
        }
        let lost = earlier.filter_map(|(it, _)| self.lost_at(*it)).max();
        lost.is_none_or(|lost| self.now - lost < Duration::from_secs(u64::from(sure)) * 9 / 10)
    }
}
